"""MLflow runs: one for each flow run that made something, with params, epochs, results and lineage.

Tracking that fails never stops a training: the first failure is told once, and the run goes on without.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from adaptformer import files
from adaptformer.params import Params
from adaptformer.run_folder import RunFolder
from adaptformer.tuning import history
from adaptformer.tuning.history import EpochRow
from tasks.checkout import ROOT, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger("adaptformer.tracking")
P = ParamSpec("P")
MODEL_TAG = "model.sha256"
FOLDER_TAG = "adaptformer.folder"
DEAD_SERVER_SECONDS = 10
FILES = ("report", "data_report", "manifest", "adapter", "backbone_card", "parity", "metrics", "history")
PICTURES = ("curves", "confusion", "per_class", "examples")
LINEAGE_OF_BACKBONE = ("model", "sha256", "source_sha256", "licence")


def connect() -> MlflowClient:
    """Return a client of the tracking store, whose database is made first, once, where it is a local one."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # MLflow's own defaults wait several minutes for a server that is not there.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(DEAD_SERVER_SECONDS))
    import mlflow

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient(uri, uri)
    with _database_lock(uri):
        client.search_experiments(max_results=1)
    return client


@contextlib.contextmanager
def _database_lock(uri: str) -> Iterator[None]:
    """Let one process at a time touch a SQLite database first: two that migrate it at once both fail."""
    database = _sqlite_file(uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(database.name + ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the experiment's id; a new one beside a local database keeps its files in `mlartifacts/` there."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    database = _sqlite_file(tracking_uri())
    location = (database.resolve().parent / "mlartifacts").as_uri() if database else None
    return str(client.create_experiment(name, artifact_location=location))


def _guarded(method: Callable[Concatenate[Tracker, P], None]) -> Callable[Concatenate[Tracker, P], None]:
    """Make a method of Tracker harmless: its first failure is logged, and the tracker is silent from then on."""

    @functools.wraps(method)
    def guarded(tracker: Tracker, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if tracker.broken:
            return
        try:
            method(tracker, *args, **kwargs)
        except Exception as error:  # whatever MLflow, its database or the network raise
            tracker.broken = True
            line = " ".join(str(error).split())[:200]
            logger.warning("Tracking stopped, the run goes on without: %s: %s", type(error).__name__, line)

    return guarded


class Tracker:
    """One MLflow run, made when something is first logged, so that a flow run with nothing to do leaves none."""

    def __init__(self, name: str, params: Params, lineage: Mapping[str, str], folder: RunFolder) -> None:
        self.name = name
        self.params = params
        self.lineage = lineage
        self.folder = str(ROOT / folder.root)
        self.run_id: str | None = None
        self.broken = False
        self._seen: set[tuple[int, int]] = set()
        self._client: MlflowClient | None = None

    @_guarded
    def log_epoch(self, row: EpochRow) -> None:
        """Log an epoch's numbers as one batch; an epoch told again after a resumption is logged once."""
        self._log_row(row)

    @_guarded
    def log_results(self, folder: RunFolder) -> None:
        """Log what the run folder holds: the history unless it was logged epoch by epoch, metrics, times, files."""
        client, run_id = self._run()
        if not self._seen:
            for row in history.read(folder.history):
                self._log_row(row)
        numbers = {f"test_{key}": value for key, value in _numbers(json.loads(folder.metrics.read_text())).items()}
        for timing in sorted(folder.timing("train").parent.glob("*.json")):
            times = _numbers(json.loads(timing.read_text()))
            numbers |= {f"timing.{timing.stem}.{key}": value for key, value in times.items()}
        _log_numbers(client, run_id, numbers)
        for key, value in lineage_of_files(folder).items():
            client.set_tag(run_id, key, value)
        for name in FILES:
            client.log_artifact(run_id, str(getattr(folder, name)))
        for name in PICTURES:
            client.log_artifact(run_id, str(getattr(folder, name)), "plots")
        files.write_json(folder.tracking, _tracking(folder))

    @_guarded
    def finish(self, status: str) -> None:
        """Close the run, if there is one, as FINISHED, FAILED or KILLED."""
        if self.run_id is not None and self._client is not None:
            self._client.set_terminated(self.run_id, status)

    def _log_row(self, row: EpochRow) -> None:
        values = dataclasses.asdict(row)
        position = (values["phase"], values.pop("epoch"))
        if position in self._seen:
            return
        self._seen.add(position)
        client, run_id = self._run()
        _log_numbers(client, run_id, values, step=len(self._seen))

    def _run(self) -> tuple[MlflowClient, str]:
        if self._client is None:
            self._client = connect()
        if self.run_id is None:
            self.run_id = self._begin(self._client)
        return self._client, self.run_id

    def _begin(self, client: MlflowClient) -> str:
        from mlflow.entities import Param

        experiment = experiment_id(client, self.params.registry.experiment)
        # The caller holds the run folder's lock: a run that calls itself running here was killed.
        for dead in client.search_runs([experiment], f"tags.`{FOLDER_TAG}` = '{self.folder}' and status = 'RUNNING'"):
            client.set_terminated(dead.info.run_id, "KILLED")
        run = client.create_run(experiment, run_name=self.name, tags={**self.lineage, FOLDER_TAG: self.folder})
        run_id = str(run.info.run_id)
        flat = _flat(self.params.model_dump(mode="json"))
        client.log_batch(run_id, params=[Param(key, str(value)) for key, value in flat.items()])
        _log_dataset(client, run_id, self.lineage.get("data.dvc"))
        return run_id


def is_tracked(folder: RunFolder) -> bool:
    """Say whether the folder's present model has been logged where MLflow tracks now."""
    try:
        return bool(json.loads(folder.tracking.read_text()) == _tracking(folder))
    except (OSError, ValueError):
        return False


def _tracking(folder: RunFolder) -> dict[str, str]:
    return {"tracking_uri": tracking_uri(), "model_sha256": files.sha256_file(folder.model)}


def lineage_of_files(folder: RunFolder) -> dict[str, str]:
    """Return what names the files that a model comes from: backbone and its licence, manifest, model."""
    card = json.loads(folder.backbone_card.read_text())
    tags = {f"backbone.{key}": str(card[key]) for key in LINEAGE_OF_BACKBONE}
    tags["manifest.sha256"] = files.sha256_file(folder.manifest)
    tags[MODEL_TAG] = files.sha256_file(folder.model)
    return tags


def _log_dataset(client: MlflowClient, run_id: str, digest: str | None) -> None:
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag

    source = CodeDatasetSource({"file": "data.dvc"})
    dataset = MetaDataset(source, name="data", digest=digest)  # type: ignore[abstract]  # so documented by MLflow
    client.log_inputs(
        run_id, [DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", "training")])]
    )


def _log_numbers(client: MlflowClient, run_id: str, values: Mapping[str, float], step: int = 0) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(key, float(value), now, step) for key, value in values.items()])


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
    """Keep the top-level numbers of a JSON file."""
    return {k: v for k, v in content.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested sections into dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
