"""What is said to MLflow's tracking store. All of it may be said twice: no run, point or file is doubled by that."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptformer.errors import UserError
from adaptformer.tracking.project import tracking_uri
from adaptformer.tracking.record import DATA_TAG, FOLDER_TAG, Point, Record
from adaptformer.tracking.run_files import MODEL_TAG, Artifacts, is_tracked, lineage_of_files

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run, RunInfo

__all__ = ["FOLDER_TAG", "MODEL_TAG", "connect", "experiment_id", "is_tracked", "lineage_of_files"]

ID_TAG = "adaptformer.run"
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""How long a server may be silent, in seconds, and how often it is asked again; MLflow's own come to minutes."""
FIRST_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""The same for the first question: a server that is dead from the start delays a run by no more than this."""
STRANGERS = {"mlflow", "sqlalchemy", "alembic", "requests", "urllib3"}
"""Whose exceptions mean that MLflow, its database or the network failed."""
PARAMS_A_BATCH, POINTS_A_BATCH = 100, 900
"""MLflow takes no more than 100 params, and 1000 numbers, at once."""


def connect() -> MlflowClient:
    """Return a client of the tracking store, whose database is made first, once, where it is a local one."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for key, value in PATIENCE.items():
        os.environ.setdefault(key, value)
    import mlflow

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient(uri, uri)
    with _database_lock(uri), _first_patience():
        client.search_experiments(max_results=1)
    return client


@contextlib.contextmanager
def _first_patience() -> Iterator[None]:
    """Have less patience within the body, unless the user has set another one."""
    ours = [key for key, value in PATIENCE.items() if os.environ[key] == value]
    os.environ.update({key: FIRST_PATIENCE[key] for key in ours})
    try:
        yield
    finally:
        os.environ.update({key: PATIENCE[key] for key in ours})


@contextlib.contextmanager
def answering(loss: str) -> Iterator[None]:
    """Turn whatever MLflow, its database or the network raise in the body into a UserError; `loss` says what stays."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in STRANGERS and not isinstance(error, ConnectionError):
            raise  # a UserError, or a fault of this project's own, which must not pass for MLflow's
        line = " ".join(str(error).split())[:200]
        raise UserError(
            f"MLflow at {tracking_uri()} fails: {type(error).__name__}: {line}",
            f"see that it answers there, then run the same command again; {loss}",
        ) from error


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


def page_of(run: RunInfo, path: str) -> str:
    """Return where MLflow's pages show a file of a run, below their address."""
    return f"#/experiments/{run.experiment_id}/runs/{run.run_id}/artifacts/{path}"


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the experiment's id; a new one beside a local database keeps its files in `mlartifacts/` there."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    database = _sqlite_file(tracking_uri())
    location = (database.resolve().parent / "mlartifacts").as_uri() if database else None
    return str(client.create_experiment(name, artifact_location=location))


def find(client: MlflowClient, experiment: str, tag: str, value: str) -> Run | None:
    """Return the first run of an experiment that bears a tag with this value, if there is one."""
    found = client.search_runs([experiment_id(client, experiment)], f"tags.`{tag}` = '{value}'", max_results=1)
    return found[0] if found else None


def begin(client: MlflowClient, record: Record) -> str:
    """Return the id of the record's MLflow run; make it, with params and data set, unless it is there."""
    from mlflow.entities import Param

    run = find(client, record.experiment, ID_TAG, record.id) or client.create_run(
        experiment_id(client, record.experiment), record.start, {**record.tags, ID_TAG: record.id}, record.name
    )
    run_id = str(run.info.run_id)
    params = [Param(key, value) for key, value in record.params.items()]
    for first in range(0, len(params), PARAMS_A_BATCH):
        client.log_batch(run_id, params=params[first : first + PARAMS_A_BATCH])
    _log_dataset(client, run_id, record.tags.get(DATA_TAG))
    return run_id


def bury_dead(client: MlflowClient, record: Record) -> None:
    """Close the runs of the record's folder that call themselves running; the caller holds the folder's lock."""
    experiment = experiment_id(client, record.experiment)
    mine = f"tags.`{FOLDER_TAG}` = '{record.tags[FOLDER_TAG]}' and status = 'RUNNING'"
    for dead in client.search_runs([experiment], mine):
        if dead.data.tags.get(ID_TAG) != record.id:
            client.set_terminated(dead.info.run_id, "KILLED")


def log_points(client: MlflowClient, run_id: str, points: Sequence[Point]) -> None:
    """Log numbers. MLflow keeps one of those that are equal in name, value, time and step."""
    from mlflow.entities import Metric

    for first in range(0, len(points), POINTS_A_BATCH):
        batch = points[first : first + POINTS_A_BATCH]
        client.log_batch(run_id, metrics=[Metric(*point) for point in batch])


def log_files(client: MlflowClient, run_id: str, tags: Mapping[str, str], artifacts: Artifacts) -> None:
    """Log result files, and the tags that speak of them."""
    for key, value in tags.items():
        client.set_tag(run_id, key, value)
    for path, place in artifacts:
        client.log_artifact(run_id, str(path), place or None)


def send(client: MlflowClient, record: Record, artifacts: Artifacts) -> str:
    """Log a run that has ended, from its beginning to its end, and return its id in MLflow."""
    run_id = begin(client, record)
    log_points(client, run_id, record.points)
    log_files(client, run_id, record.tags, artifacts)
    client.set_terminated(run_id, record.status, record.end)
    return run_id


def go_on(client: MlflowClient, run_id: str) -> bool:
    """Call a run finished that was logged before, whole; return False where it has been deleted since."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    if run.info.lifecycle_stage != "active":
        return False
    if run.info.status != "FINISHED":
        client.set_terminated(run_id, "FINISHED")
    return True


def _log_dataset(client: MlflowClient, run_id: str, digest: str | None) -> None:
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag

    source = CodeDatasetSource({"file": "data.dvc"})
    dataset = MetaDataset(source, name="data", digest=digest)  # type: ignore[abstract]  # so documented by MLflow
    client.log_inputs(
        run_id, [DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", "training")])]
    )
