"""Commands that send missing results to MLflow: those of DVC, and runs waiting for upload."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from adaptformer.commands.parsing import Commands


def add(commands: Commands) -> None:
    """Add the commands of this group to the parser."""
    log = commands.add_parser("log", help="log the results of `dvc repro` and `dvc exp run` to MLflow, each once")
    log.add_argument("--exp", action="append", default=[], metavar="NAME", help="only this experiment; repeatable")
    log.set_defaults(command=_log, reads_data=False)
    upload = commands.add_parser("upload", help="upload runs that MLflow missed while it did not answer")
    upload.set_defaults(command=_upload, reads_data=False)


def _log(given: argparse.Namespace) -> None:
    from adaptformer.tracking import dvc_experiments, mlflow_store
    from adaptformer.tracking.locations import tracking_place

    with mlflow_store.user_errors("results that are logged already are not logged again"):
        client = mlflow_store.connect()
        _upload_waiting(client)
        count = 0
        for logged in dvc_experiments.log(client, given.exp):
            count += 1
            outcome = f"run {logged.run_id}" if logged.run_id else f"not logged: {logged.why}"
            score = "" if logged.top1 is None else f"  top1 {logged.top1:.4f}"
            print(f"{logged.name}{score}  {outcome}", flush=True)
    if not count:
        print(f"Nothing new: all results of DVC here are logged at {tracking_place()}.")


def _upload(_given: argparse.Namespace) -> None:
    upload()


def upload() -> None:
    """Upload the runs that wait for it, and print one line for each. Raises UserError if MLflow fails."""
    from adaptformer.tracking import mlflow_store, uploads

    if not uploads.waiting():
        print("No run waits for upload.")
        return
    with mlflow_store.user_errors("runs that are not uploaded still wait"):
        _upload_waiting(mlflow_store.connect())
    for folder in uploads.waiting():
        print(f"{folder.root}/ is in use: what waits there is uploaded afterwards")


def _upload_waiting(client: MlflowClient) -> None:
    from adaptformer.tracking import uploads

    for uploaded in uploads.upload_waiting(client):
        print(uploaded.sentence, flush=True)
