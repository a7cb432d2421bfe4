"""What MLflow is to know of one run, as plain values, so that it can be sent at once, later, or twice."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adaptformer.params import Params, flat
from adaptformer.run_folder import RunFolder
from adaptformer.tracking import run_files
from adaptformer.tracking.project import ROOT
from adaptformer.tracking.run_files import Artifacts
from adaptformer.tuning import history
from adaptformer.tuning.history import EpochRow

FOLDER_TAG = "adaptformer.folder"
DATA_TAG = "data.dvc"

Point = tuple[str, float, int, int]
"""A number: its name, its value, when (milliseconds since 1970), and the step that it belongs to."""


@dataclass
class Record:
    """One run. `id` is its name for ever: MLflow's run bears it as a tag, so that whoever sends again finds that run.

    `start` and `end` are milliseconds since 1970. `results` is the hash of the results that are in it, "" before.
    """

    id: str
    name: str
    experiment: str
    tags: dict[str, str]
    params: dict[str, str]
    start: int
    end: int | None = None
    status: str = "RUNNING"
    points: list[Point] = field(default_factory=list)
    results: str = ""
    epochs: list[tuple[int, int]] = field(default_factory=list)

    def add_epoch(self, row: EpochRow, when: int | None = None) -> bool:
        """Take in an epoch's numbers as one step; return False for one told again after a resumption."""
        values = dataclasses.asdict(row)
        position = (values["phase"], values.pop("epoch"))
        if position in self.epochs:
            return False
        self.epochs.append(position)
        self._add(values, when, step=len(self.epochs))
        return True

    def add_results(self, folder: RunFolder, when: int | None = None) -> Artifacts:
        """Take in what a run folder holds, its history too if no epoch was told, and return the files to log."""
        if not self.epochs and folder.history.is_file():
            for row in history.read(folder.history):
                self.add_epoch(row, when)
        self._add(run_files.numbers(folder), when)
        self.tags |= run_files.lineage_of_files(folder)
        if folder.model.is_file():
            self.results = run_files.sha256(folder)
        return run_files.artifacts(folder)

    def close(self, status: str, when: int | None = None) -> None:
        """Say how the run ended: FINISHED, FAILED or KILLED."""
        self.status, self.end = status, now() if when is None else when

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON keeps it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Record:
        """Return the record that `to_json` described."""
        record = cls(**content)
        record.points = [(str(key), float(value), int(when), int(step)) for key, value, when, step in record.points]
        return record

    def _add(self, values: Mapping[str, float], when: int | None, step: int = 0) -> None:
        moment = now() if when is None else when
        self.points += [(key, float(value), moment, step) for key, value in values.items()]


def begin(name: str, params: Params, lineage: Mapping[str, str], folder: RunFolder) -> Record:
    """Return the record of a run that begins now in `folder`."""
    start = now()
    return Record(
        id=f"{start}-{uuid.uuid4().hex[:8]}",
        name=name,
        experiment=params.registry.experiment,
        tags={**lineage, FOLDER_TAG: str(ROOT / folder.root)},
        params=texts(params.model_dump(mode="json")),
        start=start,
    )


def texts(content: Mapping[str, Any]) -> dict[str, str]:
    """Return sections of params as MLflow keeps them: dotted keys, values as text."""
    return {key: str(value) for key, value in flat(content).items()}


def now() -> int:
    """Return the time as MLflow counts it, in milliseconds since 1970."""
    return int(time.time() * 1000)
