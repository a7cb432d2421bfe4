"""A checkout that was moved or copied finds its runs' files: MLflow's database names them by absolute paths.

The files of a local database are in mlartifacts/ beside it. If it names such a folder elsewhere, the checkout was moved
or copied since, and the present folder takes the other one's place in all records: nothing is read from the place of
before, and a copy never writes into its original.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sqlite3
from pathlib import Path

from adaptformer.errors import UserError
from adaptformer.tracking.locations import ARTIFACTS

log = logging.getLogger("adaptformer")

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Where MLflow's tables name files."""


def follow(database: Path) -> None:
    """Let a database name the files beside it, in one transaction; nothing is written where it does already.

    Raises UserError for a database of a moved checkout that cannot be written.
    """
    present = (database.resolve().parent / ARTIFACTS).as_uri()
    with contextlib.closing(sqlite3.connect(database.resolve())) as connection:
        found = connection.execute(_ELSEWHERE, (f"file:%/{ARTIFACTS}", f"file:%/{ARTIFACTS}/%"))
        before = {_folder(location) for (location,) in found} - {present}
        if not before:
            return
        try:
            with connection:
                for folder in sorted(before):
                    for table, column in COLUMNS:
                        _replace(connection, table, column, folder, present)
        except sqlite3.OperationalError as error:
            raise UserError(
                f"{database} names files in {min(before)}, where this checkout was before: {error}",
                "make it writable, then run the same command again",
            ) from error
    log.info("this checkout was moved or copied: MLflow's records name %s/ now", present)


_ELSEWHERE = (
    "select distinct artifact_location from experiments where artifact_location like ? or artifact_location like ?"
)


def _folder(location: str) -> str:
    """Return the part of an address up to the folder of files."""
    return re.split(rf"(?<=/{ARTIFACTS})(?:/|$)", location, maxsplit=1)[0]


def _replace(connection: sqlite3.Connection, table: str, column: str, before: str, present: str) -> None:
    """Let the values of a column that are below a folder be below another one."""
    connection.execute(
        f"update {table} set {column} = ? || substr({column}, ?) where {column} = ? or substr({column}, 1, ?) = ?",  # noqa: S608
        (present, len(before) + 1, before, len(before) + 1, f"{before}/"),
    )
