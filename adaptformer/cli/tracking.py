"""The command that brings into MLflow what it misses: runs that wait for upload, and results of DVC."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adaptformer.cli.parsing import Commands


def add(commands: Commands) -> None:
    """Add the commands of this group to the parser."""
    sync = commands.add_parser(
        "sync",
        help="bring into MLflow what it misses: runs that wait for upload, results of `dvc repro` and `dvc exp run`",
    )
    sync.add_argument("--exp", action="append", default=[], metavar="NAME", help="only this experiment; repeatable")
    sync.set_defaults(command=_sync, reads_data=False)


def _sync(given: argparse.Namespace) -> None:
    from adaptformer.tracking import sync
    from adaptformer.tracking.locations import tracking_place

    synced = 0
    for line in sync.missing(given.exp):
        synced += 1
        print(line, flush=True)
    if not synced:
        print(f"Nothing new: all runs and results here are at {tracking_place()}.")
