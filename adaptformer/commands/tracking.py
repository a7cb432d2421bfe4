"""Results into MLflow after the fact: what DVC made, and what runs could not upload."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from adaptformer.commands.parsing import Commands


def add(commands: Commands) -> None:
    """Add the commands of this group to the parser."""
    log = commands.add_parser("log", help="log what `dvc repro` and `dvc exp run` made to MLflow, each result once")
    log.add_argument("--exp", action="append", default=[], metavar="NAME", help="only this experiment; repeatable")
    log.set_defaults(command=_log)
    upload = commands.add_parser("upload", help="send MLflow the runs that wait because it did not answer")
    upload.set_defaults(command=_upload)


def _log(given: argparse.Namespace) -> None:
    from adaptformer.tracking import dvc_experiments, mlflow_store
    from adaptformer.tracking.project import tracking_uri

    with mlflow_store.answering("what is logged already is not logged again"):
        client = mlflow_store.connect()
        _send_waiting(client)
        count = 0
        for logged in dvc_experiments.log(client, given.exp):
            count += 1
            fate = f"run {logged.run_id}" if logged.run_id else f"not logged: {logged.why}"
            score = "" if logged.top1 is None else f"  top1 {logged.top1:.4f}"
            print(f"{logged.name}{score}  {fate}", flush=True)
    if not count:
        print(f"Nothing new: all that DVC made here is logged at {tracking_uri()}.")


def _upload(_given: argparse.Namespace) -> None:
    upload()


def upload() -> None:
    """Send MLflow the runs that wait for upload, and print what was sent. Raises UserError where that fails."""
    from adaptformer.tracking import mlflow_store, outbox

    if outbox.is_empty():
        print("Nothing is kept here: MLflow was told of every run.")
        return
    with mlflow_store.answering(f"nothing is lost, {outbox.FOLDER.name}/ keeps what is not sent"):
        _send_waiting(mlflow_store.connect())
    if not outbox.is_empty():
        print(f"{outbox.FOLDER.name}/ holds what a run that is still going on could not tell; it is sent afterwards.")


def _send_waiting(client: MlflowClient) -> None:
    from adaptformer.tracking import outbox

    for sent in outbox.send_all(client):
        print(f"sent {sent.name}, {sent.status.lower()}, as run {sent.run_id}", flush=True)
