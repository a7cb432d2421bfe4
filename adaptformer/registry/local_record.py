"""The checkout's record of the version in use and the gate's verdicts, so that predicting need not ask a registry.

`artifacts/registry/NAME.json` is the record of a registered model; `artifacts/cache/models/SHA256/` keeps the files of
its champion and of the champion before it. Each command of this project that moves aliases first removes the record and
writes it anew at the end: if it is killed in between, there is no record, and MLflow is asked. Later moves on another
machine are unknown here, so the record holds the time at which MLflow was asked. Nothing here imports MLflow.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptformer.base import files, integrity
from adaptformer.base.errors import UserError
from adaptformer.config.run_folder import DEFAULT
from adaptformer.prediction import model_file
from adaptformer.tracking.locations import tracking_place

if TYPE_CHECKING:
    from mlflow import MlflowClient

RECORDS = DEFAULT / "registry"
MODELS = DEFAULT / "cache" / "models"
NAME = "model.onnx"
_VERDICTS = {"passed": "passed the gate", "refused": "refused", "overtaken": "passed the gate, but too late"}
"""The gate's tags (decision_record.py) in words."""


@dataclass(frozen=True)
class Known:
    """A registered version: the hash of its model ("" if unknown), the gate's verdict on it ("" if none), and when."""

    sha256: str = ""
    verdict: str = ""
    when: str = ""


@dataclass(frozen=True)
class Record:
    """MLflow's state of the registered model `model` at `tracking_uri` at the time `asked` (UTC, ISO 8601)."""

    model: str
    tracking_uri: str
    asked: str
    champion: str | None
    previous: str | None
    since: str
    """When the champion was put to use, "" if unknown."""
    versions: Mapping[str, Known]

    def line(self, version: str) -> str:
        """Return one line with the version, its verdict, and the date of this information."""
        return f"{self.model} version {version}, {self.verdict(version)} (MLflow was asked on {self.asked[:10]})"

    def verdict(self, version: str) -> str:
        """Return in words whether a version is in use, and the gate's verdict on it."""
        known = self.versions.get(version, Known())
        if version == self.champion:
            return f"champion since {self.since[:10]}" if self.since else "champion"
        words = _VERDICTS.get(known.verdict, "not judged")
        return f"{words} on {known.when[:10]}: not in use" if known.when else f"{words}: not in use"


def read(name: str) -> Record | None:
    """Return the record of a registered model at the present tracking address; None if there is no readable one."""
    record = _read(RECORDS / f"{name}.json")
    return record if record is not None and record.tracking_uri == tracking_place() else None


def version_of(file: Path) -> tuple[Record, str] | None:
    """Return the record and the version that a model file is registered as; None if none is known."""
    records = [record for path in sorted(RECORDS.glob("*.json")) if (record := _read(path)) is not None]
    if not records:
        return None
    sha256 = model_file.sha256(file)
    candidates = ((record, number) for record in records for number, known in record.versions.items())
    return next(((record, number) for record, number in candidates if record.versions[number].sha256 == sha256), None)


def remember(client: MlflowClient, name: str) -> Record:
    """Write the record of a registered model from MLflow and return it; in a read-only checkout only return it."""
    from adaptformer.registry import alias_journal
    from adaptformer.tracking import mlflow_store
    from adaptformer.tracking.run_files import MODEL_TAG

    known = {
        str(model_version.version): Known(
            model_version.tags.get(MODEL_TAG, ""),
            model_version.tags.get("gate.decision", ""),
            model_version.tags.get("gate.when", ""),
        )
        for model_version in mlflow_store.versions_of(client, name)
    }
    state = alias_journal.aliases(client, name) if known else alias_journal.State()
    last = next(reversed(alias_journal.valid(alias_journal.read(client, name))), None)
    since = last.when if last is not None and last.after.champion == state.champion else ""
    record = Record(name, tracking_place(), files.utc_now(), state.champion, state.previous, since, known)
    with contextlib.suppress(UserError, OSError):
        integrity.write_record(RECORDS / f"{name}.json", asdict(record))
        _remove_others()
    return record


def forget(name: str) -> None:
    """Remove the record of a model whose aliases are about to move."""
    with contextlib.suppress(OSError):
        (RECORDS / f"{name}.json").unlink(missing_ok=True)


def kept(sha256: str) -> Path | None:
    """Return the kept file of the model with this hash, None if there is none or it has changed."""
    file = MODELS / sha256 / NAME
    try:
        return file if sha256 and model_file.sha256(file) == sha256 else None
    except OSError:
        return None


def keep(model: Path) -> Path:
    """Keep a copy of a model file and its weights under its hash, and return it; `model` itself if the disk refuses."""
    try:
        sha256 = model_file.sha256(model)
        if (there := kept(sha256)) is not None:
            return there
        with model_file.replacing(MODELS / sha256 / NAME) as new_file:
            shutil.copyfile(model, new_file)
            weights = model_file.weights_of(model)
            if weights.is_file():
                shutil.copyfile(weights, model_file.weights_of(new_file))
            else:
                model_file.weights_of(new_file).touch()
    except (UserError, OSError):  # a full or read-only disk: MLflow is then asked each time
        return model
    return MODELS / sha256 / NAME


def _remove_others() -> None:
    """Remove kept files of versions that are neither the champion nor the one before it."""
    records = [record for path in RECORDS.glob("*.json") if (record := _read(path)) is not None]
    numbers = [(record, number) for record in records for number in (record.champion, record.previous) if number]
    needed = {record.versions.get(number, Known()).sha256 for record, number in numbers}
    for folder in MODELS.glob("*"):
        if folder.name not in needed:
            shutil.rmtree(folder, ignore_errors=True)


def _read(path: Path) -> Record | None:
    try:
        content: dict[str, Any] = integrity.read_record(path, "")
        versions = {number: Known(**known) for number, known in content.pop("versions").items()}
        return Record(versions=versions, **content)
    except (UserError, TypeError, KeyError, AttributeError):
        return None
