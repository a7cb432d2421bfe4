"""What MLflow does not have yet: runs waiting for upload, and results of DVC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptformer.tracking import dvc_experiments, mlflow_store, uploads
from adaptformer.tracking.locations import tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient


def upload() -> int:
    """Upload the runs that wait for it, print one line for each, and return the exit code."""
    if not uploads.waiting():
        print("No run waits for upload.")
        return 0
    with mlflow_store.user_errors("runs that are not uploaded still wait"):
        _upload_waiting(mlflow_store.connect())
    for folder in uploads.waiting():
        print(f"{folder.root}/ is in use: what waits there is uploaded afterwards")
    return 0


def log(names: Sequence[str]) -> int:
    """Log the results of DVC that MLflow does not have, one line each, and return the exit code."""
    with mlflow_store.user_errors("what is logged already is not logged again"):
        client = mlflow_store.connect()
        _upload_waiting(client)
        count = 0
        for logged in dvc_experiments.log(client, names):
            count += 1
            outcome = f"run {logged.run_id}" if logged.run_id else f"not logged: {logged.why}"
            score = "" if logged.top1 is None else f"  top1 {logged.top1:.4f}"
            print(f"{logged.name}{score}  {outcome}", flush=True)
    if not count:
        print(f"Nothing new: all results of DVC here are logged at {tracking_uri()}.")
    return 0


def _upload_waiting(client: MlflowClient) -> None:
    for uploaded in uploads.upload_waiting(client):
        print(uploaded.sentence, flush=True)
