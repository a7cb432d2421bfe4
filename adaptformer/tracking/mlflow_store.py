"""The connection to MLflow: timeouts, a local database, experiments, and its failures as errors for users."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from filelock import FileLock

from adaptformer.errors import UserError
from adaptformer.tracking.locations import database, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run, RunInfo
    from mlflow.entities.model_registry import ModelVersion

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
TIMEOUTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""Seconds that a server may take to answer, and retries; with MLflow's own values a dead server costs minutes."""
FIRST_TIMEOUTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""The same for the first request, so that a server that is dead from the start delays a run by five seconds."""
VERSIONS_PER_REQUEST = 200_000
"""MLflow's limit."""
FAILING_PACKAGES = {"mlflow", "sqlalchemy", "alembic", "requests", "urllib3"}
"""Packages whose exceptions mean that MLflow, its database or the network failed."""


def connect() -> MlflowClient:
    """Return a client of the tracking store and the registry; a local database is created first.

    Raises whatever MLflow, its database or the network raise where they do not answer.
    """
    for key, value in {**SETTINGS, **TIMEOUTS}.items():
        os.environ.setdefault(key, value)
    import mlflow

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient(uri, uri)
    with _database_lock(), _first_timeouts():
        client.search_experiments(max_results=1)
    return client


@contextlib.contextmanager
def _first_timeouts() -> Iterator[None]:
    """Use the shorter timeouts within the body, except where the user has set others."""
    ours = [key for key, value in TIMEOUTS.items() if os.environ[key] == value]
    os.environ.update({key: FIRST_TIMEOUTS[key] for key in ours})
    try:
        yield
    finally:
        os.environ.update({key: TIMEOUTS[key] for key in ours})


@contextlib.contextmanager
def _database_lock() -> Iterator[None]:
    """Let one process at a time create or migrate a SQLite database: of two that migrate it at once both fail."""
    if file := database():
        file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f"{file.name}.lock")) if file else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def user_errors(assurance: str) -> Iterator[None]:
    """Turn failures of MLflow, its database or the network in the body into a UserError that ends in `assurance`."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in FAILING_PACKAGES and not isinstance(error, ConnectionError):
            raise  # a UserError, or a defect of this project, which is no failure of MLflow
        raise UserError(
            f"MLflow at {tracking_uri()} fails: {type(error).__name__}: {one_line(error)}",
            f"see that it answers there, then run the same command again; {assurance}",
        ) from error


def one_line(error: Exception) -> str:
    """Return the message of an exception on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


def page_of(run: RunInfo, path: str) -> str:
    """Return where MLflow's pages show a file of a run, relative to their address."""
    return f"#/experiments/{run.experiment_id}/runs/{run.run_id}/artifacts/{path}"


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return an experiment's id, created if needed; its files are in mlartifacts/ beside a local database."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    file = database()
    location = (file.resolve().parent / "mlartifacts").as_uri() if file else None
    return str(client.create_experiment(name, artifact_location=location))


def find_run(client: MlflowClient, experiment: str, tag: str, value: str) -> Run | None:
    """Return the run of an experiment that has this tag with this value, None if there is none."""
    found = client.search_runs([experiment_id(client, experiment)], f"tags.`{tag}` = '{value}'", max_results=1)
    return found[0] if found else None


def versions_of(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Return all versions of a registered model in their order; none where there is no such model."""
    return list(client.search_model_versions(f"name = '{name}'", VERSIONS_PER_REQUEST, ["version_number ASC"]))
