"""One run in MLflow: its description, and everything that is logged to it.

All of it may be repeated, after a kill or from another process, without logging a run, number or file twice: the run is
found by its id, which is one of its tags, and only missing numbers are logged.
"""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptformer.base.errors import without_credentials
from adaptformer.config.params import Params, flat
from adaptformer.config.run_folder import RunFolder
from adaptformer.tracking import checkout_id, locations, mlflow_store, run_files
from adaptformer.training import history
from adaptformer.training.history import EpochRow

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

ID_TAG = "adaptformer.run"
DATA_TAG = "data.dvc"
FOLDER_TAG = "adaptformer.folder"
"""The tag that names a run's folder: `checkout.place_of`. Before 2026-12 it was an absolute path."""
PASSING_TAGS = {"prefect.flow_run_id", FOLDER_TAG}
"""Tags that may have another value if a run is continued."""


@dataclass
class Description:
    """MLflow's record of a run without its results. `id` is unique; `start` and `end` are milliseconds since 1970.

    `results` is the hash of the results that belong to the run (`run_files.sha256`), "" as long as there are none.
    """

    id: str
    name: str
    experiment: str
    tags: dict[str, str]
    params: dict[str, str]
    start: int
    end: int | None = None
    status: str = "RUNNING"
    results: str = ""

    def __post_init__(self) -> None:
        """Remove credentials: overrides, which are a tag, and a database's address, which is a param, may hold some."""
        for values in (self.tags, self.params):
            values.update({key: without_credentials(value) for key, value in values.items()})


def describe(name: str, params: Params, lineage: Mapping[str, str], folder: RunFolder) -> Description:
    """Return the description of a run that starts now in `folder`."""
    start = now()
    return Description(
        id=f"{start}-{uuid.uuid4().hex[:8]}",
        name=name,
        experiment=params.registry.experiment,
        tags={**lineage, FOLDER_TAG: checkout_id.place_of(folder)},
        params=as_text(params.model_dump(mode="json")),
        start=start,
    )


def as_text(content: Mapping[str, Any]) -> dict[str, str]:
    """Return sections of params as MLflow stores them: dotted keys, values as text."""
    return {key: str(value) for key, value in flat(content).items()}


def now() -> int:
    """Return the time in MLflow's unit, milliseconds since 1970."""
    return int(time.time() * 1000)


def start(client: MlflowClient, run: Description) -> str:
    """Return the id of the run in MLflow; create the run if it is missing, and log its tags, params and data set."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

    mlflow_run = mlflow_store.find_run(client, run.experiment, ID_TAG, run.id) or client.create_run(
        mlflow_store.experiment_id(client, run.experiment), run.start, {**run.tags, ID_TAG: run.id}, run.name
    )
    run_id = str(mlflow_run.info.run_id)
    params = [Param(key, value) for key, value in run.params.items()]
    client.log_batch(run_id, params=params, tags=[RunTag(key, value) for key, value in run.tags.items()])
    data = Dataset("data", run.tags.get(DATA_TAG, "none"), "code", json.dumps({"tags": {"file": "data.dvc"}}))
    client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])
    return run_id


def mark_crashed(client: MlflowClient, run: Description) -> None:
    """Mark the folder's other runs that MLflow still shows as running as killed; the caller holds the folder's lock."""
    experiments = [mlflow_store.experiment_id(client, run.experiment)]
    for crashed in client.search_runs(experiments, f"{_of_folder(run)} and status = 'RUNNING'"):
        if crashed.data.tags.get(ID_TAG) != run.id:
            client.set_terminated(crashed.info.run_id, "KILLED")


def stopped(client: MlflowClient, run: Description) -> Run | None:
    """Return the run that this one continues: the folder's last run, if it was stopped before it had results.

    It must have the same params, data and code. The caller holds the folder's lock, so a run that MLflow shows as
    running has died.
    """
    runs = client.search_runs(
        [mlflow_store.experiment_id(client, run.experiment)],
        _of_folder(run),
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    if not runs or runs[0].info.status not in {"RUNNING", "KILLED"} or ID_TAG not in runs[0].data.tags:
        return None
    last = runs[0].data
    alike = all(last.tags.get(key) == value for key, value in run.tags.items() if key not in PASSING_TAGS)
    # A run that was killed as it began has no params, or only some of them; `start` logs the rest.
    of_same_params = last.params.items() <= run.params.items()
    return runs[0] if alike and of_same_params and run_files.MODEL_TAG not in last.tags else None


def _of_folder(run: Description) -> str:
    """Return the condition of MLflow's search that is met by the runs in the folder of `run`.

    A database in the checkout holds the checkout's own runs only, those from before it was copied included.
    """
    place = run.tags[FOLDER_TAG]
    if locations.has_database():
        return f"tags.`{FOLDER_TAG}` like {mlflow_store.quoted('%/' + place.partition('/')[2])}"
    return f"tags.`{FOLDER_TAG}` = {mlflow_store.quoted(place)}"


def reopen(client: MlflowClient, run_id: str) -> Run | None:
    """Mark a run as running again in MLflow and return it; None if it has been deleted."""
    run = _active(client, run_id)
    if run is not None and run.info.status != "RUNNING":
        client.update_run(run_id, status="RUNNING")
    return run


def mark_finished(client: MlflowClient, run_id: str) -> bool:
    """Mark a run whose results are complete as finished; return False if it has been deleted."""
    run = _active(client, run_id)
    if run is not None and run.info.status != "FINISHED":
        client.set_terminated(run_id, "FINISHED")
    return run is not None


def _active(client: MlflowClient, run_id: str) -> Run | None:
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def logged_steps(client: MlflowClient, run_id: str) -> set[int]:
    """Return the steps, one for each epoch, that are logged already."""
    return {int(point.step) for point in client.get_metric_history(run_id, "train_loss")}


def log_epoch(client: MlflowClient, run_id: str, row: EpochRow, step: int) -> None:
    """Log the numbers of an epoch in one request; `step` counts the epochs of the whole schedule from 1."""
    client.log_batch(run_id, metrics=_epoch_metrics(row, step, now()))


def log_results(client: MlflowClient, run_id: str, folder: RunFolder, when: int | None = None) -> None:
    """Log the run folder's history, metrics, timing, hashes and files; `when` is the numbers' time, None for now."""
    from mlflow.entities import Metric, RunTag

    moment = now() if when is None else when
    metrics = [Metric(key, value, moment, 0) for key, value in run_files.numbers(folder).items()]
    rows = history.read(folder.history) if folder.history.is_file() else []
    for step, row in enumerate(rows, start=1):
        metrics += _epoch_metrics(row, step, moment)
    there = {
        (point.key, point.step)
        for key in client.get_run(run_id).data.metrics
        for point in client.get_metric_history(run_id, key)
    }
    missing = [metric for metric in metrics if (metric.key, metric.step) not in there]
    tags = [RunTag(key, value) for key, value in run_files.lineage(folder).items()]
    client.log_batch(run_id, metrics=missing, tags=tags)
    for path, place in run_files.artifacts(folder):
        client.log_artifact(run_id, str(path), place or None)


def upload(client: MlflowClient, run: Description, folder: RunFolder | None) -> str:
    """Log a run that has ended, with its results in `folder` if there are any, and return its id in MLflow."""
    run_id = start(client, run)
    if folder is not None:
        log_results(client, run_id, folder, run.end)
    client.set_terminated(run_id, run.status, run.end)
    if folder is not None and folder.model.is_file():
        run_files.remember(folder, run_id, finished=run.status == "FINISHED")
    return run_id


def _epoch_metrics(row: EpochRow, step: int, when: int) -> list[Metric]:
    from mlflow.entities import Metric

    values = dataclasses.asdict(row)
    del values["epoch"]  # of its phase; MLflow's step counts all epochs
    return [Metric(key, float(value), when, step) for key, value in values.items()]
