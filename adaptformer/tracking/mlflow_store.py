"""The connection to MLflow: timeouts, a local database, experiments, and its failures as errors for users."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from filelock import FileLock

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.tracking import mlflow_errors, relocation
from adaptformer.tracking.locations import ARTIFACTS, database, tracking_place, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run, RunInfo
    from mlflow.entities.model_registry import ModelVersion

SETTINGS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
TIMEOUTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""Seconds that a server may take to answer, and retries; with MLflow's defaults a dead server costs minutes."""
FIRST_TIMEOUTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""The same for the first request, so that a server that is dead from the start delays a run by five seconds."""
VERSIONS_PER_REQUEST = 200_000
"""MLflow's own limit."""


def require_installed() -> None:
    """Raise UserError if MLflow is not installed. Does not import it."""
    if importlib.util.find_spec("mlflow") is None:
        raise UserError(
            "mlflow is not installed, so the run can be neither tracked nor registered",
            "pip install 'adaptformer[pipeline]', or run the stages alone: `adaptformer run --stages-only`",
        )


def connect() -> MlflowClient:
    """Return a client of the tracking store and the registry; a local database is created first.

    If the checkout was moved or copied, the database's paths are corrected (relocation.py). Raises whatever MLflow, its
    database or the network raise if they do not answer.
    """
    for key, value in {**SETTINGS, **TIMEOUTS}.items():
        os.environ.setdefault(key, value)
    import mlflow  # noqa: F401 - first, because its import sets levels of its own

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with _database_lock(), _first_timeouts():
        client = _client(tracking_uri())  # this creates the database
        client.search_experiments(max_results=1)
        if (file := database()) and (copy := relocation.follow(file)):
            client = _client(copy)
    return client


def _client(uri: str) -> MlflowClient:
    import mlflow

    configured = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)  # it also sets the variable, as if the user had set it
    mlflow.set_registry_uri(uri)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if configured is not None:
        os.environ["MLFLOW_TRACKING_URI"] = configured
    return mlflow.MlflowClient(uri, uri)


@contextlib.contextmanager
def _first_timeouts() -> Iterator[None]:
    """Use the shorter timeouts within the body, unless the user has set others."""
    ours = [key for key, value in TIMEOUTS.items() if os.environ[key] == value]
    os.environ.update({key: FIRST_TIMEOUTS[key] for key in ours})
    try:
        yield
    finally:
        os.environ.update({key: TIMEOUTS[key] for key in ours})


@contextlib.contextmanager
def _database_lock() -> Iterator[None]:
    """Let one process at a time create or migrate a SQLite database: if two migrate it at once, both fail."""
    file = database()
    if file is None:
        yield
        return
    lock = FileLock(file.with_name(f"{file.name}.lock"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        held: contextlib.AbstractContextManager[object] = lock.acquire()
    except OSError as error:
        if not file.is_file():
            raise files.refusal(error, file) or error from error
        held = contextlib.nullcontext()  # in a read-only checkout no process can migrate it
    with held:
        yield


@contextlib.contextmanager
def user_errors(assurance: str) -> Iterator[None]:
    """Turn failures of MLflow, its database or the network in the body into a UserError that ends in `assurance`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (explained := mlflow_errors.explained(error, assurance)) is None:
            raise  # a defect of this project, not a failure of MLflow
        raise explained from error


def quoted(value: str) -> str:
    """Return a value in quotation marks for MLflow's filters. Raises UserError for one that they cannot hold."""
    if "'" in value and '"' in value:
        raise UserError(f"MLflow finds nothing by {value}, which holds both quotation marks", "rename it")
    return f'"{value}"' if "'" in value else f"'{value}'"


def page_of(run: RunInfo, path: str) -> str:
    """Return the address of a run's file within MLflow's pages."""
    return f"#/experiments/{run.experiment_id}/runs/{run.run_id}/artifacts/{path}"


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return an experiment's id; create it if needed. With a local database its files are in mlartifacts/ beside it.

    Raises UserError if the experiment was deleted, because MLflow keeps its name.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        raise UserError(
            f"the MLflow experiment {name} was deleted at {tracking_place()}",
            f"bring it back (`mlflow experiments restore --experiment-id {experiment.experiment_id}`), or give "
            "registry.experiment in params.yaml another name",
        )
    if experiment is not None:
        return str(experiment.experiment_id)
    file = database()
    location = (file.resolve().parent / ARTIFACTS).as_uri() if file else None
    return str(client.create_experiment(name, artifact_location=location))


def find_run(client: MlflowClient, experiment: str, tag: str, value: str) -> Run | None:
    """Return the run of an experiment that has this tag with this value, None if there is none."""
    runs = client.search_runs([experiment_id(client, experiment)], f"tags.`{tag}` = {quoted(value)}", max_results=1)
    return runs[0] if runs else None


def versions_of(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Return all versions of a registered model in their order; none if there is no such model."""
    return list(client.search_model_versions(f"name = {quoted(name)}", VERSIONS_PER_REQUEST, ["version_number ASC"]))
