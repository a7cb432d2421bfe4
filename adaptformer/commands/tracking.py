"""The command that brings into MLflow what it misses: runs that wait for upload, and results of DVC."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow import MlflowClient

    from adaptformer.commands.parsing import Commands


def add(commands: Commands) -> None:
    """Add the commands of this group to the parser."""
    sync = commands.add_parser(
        "sync",
        help="bring into MLflow what it misses: runs that wait for upload, results of `dvc repro` and `dvc exp run`",
    )
    sync.add_argument("--exp", action="append", default=[], metavar="NAME", help="only this experiment; repeatable")
    sync.set_defaults(command=_sync, reads_data=False)


def _sync(given: argparse.Namespace) -> None:
    from adaptformer.tracking import dvc_repository, mlflow_store, uploads
    from adaptformer.tracking.locations import tracking_place

    synced = 0
    if uploads.waiting() or dvc_repository.is_used():
        with mlflow_store.user_errors("nothing is logged twice, and runs that are not uploaded still wait"):
            for line in _synced(mlflow_store.connect(), given.exp):
                synced += 1
                print(line, flush=True)
    if not synced:
        print(f"Nothing new: all runs and results here are at {tracking_place()}.")


def _synced(client: MlflowClient, experiments: Sequence[str]) -> Iterator[str]:
    """Upload waiting runs and log DVC's results, or those of some of its experiments; yield a line for each."""
    from adaptformer.tracking import dvc_experiments, dvc_repository, uploads

    for uploaded in uploads.upload_waiting(client):
        yield uploaded.sentence
    for folder in uploads.waiting():
        yield f"{folder.root}/ is in use: what waits there is uploaded afterwards"
    if not dvc_repository.is_used():
        return
    for logged in dvc_experiments.log(client, experiments):
        outcome = f"run {logged.run_id}" if logged.run_id else f"not logged: {logged.why}"
        score = "" if logged.top1 is None else f"  top1 {logged.top1:.4f}"
        yield f"{logged.name}{score}  {outcome}"
