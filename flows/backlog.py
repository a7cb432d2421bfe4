"""What MLflow has not heard yet: runs that were kept while it could not be told, and results that DVC made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptformer.tracking import dvc_experiments, mlflow_store, outbox
from adaptformer.tracking.project import tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTHING_LOST = f"nothing is lost, {outbox.FOLDER.name}/ keeps what is not sent"


def sync() -> int:
    """Send what runs had to keep, say what was sent, and return the exit code."""
    if outbox.is_empty():
        print("Nothing is kept here: MLflow was told of every run.")
        return 0
    with mlflow_store.answering(NOTHING_LOST):
        _send_kept(mlflow_store.connect())
    if not outbox.is_empty():
        print(f"{outbox.FOLDER.name}/ holds what a run that is still going on could not tell; it is sent afterwards.")
    return 0


def log(names: Sequence[str]) -> int:
    """Log what DVC made and MLflow does not have, one line each, and return the exit code."""
    with mlflow_store.answering("what is logged already is not logged again"):
        client = mlflow_store.connect()
        _send_kept(client)
        count = 0
        for logged in dvc_experiments.log(client, names):
            count += 1
            fate = f"run {logged.run_id}" if logged.run_id else f"not logged: {logged.why}"
            score = "" if logged.top1 is None else f"  top1 {logged.top1:.4f}"
            print(f"{logged.name}{score}  {fate}", flush=True)
    if not count:
        print(f"Nothing new: all that DVC made here is logged at {tracking_uri()}.")
    return 0


def _send_kept(client: MlflowClient) -> None:
    for sent in outbox.send_all(client):
        print(f"sent {sent.name}, {sent.status.lower()}, as run {sent.run_id}", flush=True)
