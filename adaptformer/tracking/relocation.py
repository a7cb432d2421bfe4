"""Correction of MLflow's database after a checkout was moved or copied: it names files by absolute paths.

The files of a local database are in mlartifacts/ beside it. If the database names such a folder elsewhere, the checkout
was moved or copied, and the present folder replaces the other one in all records: nothing is read from the old place,
and a copy never writes into its original.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import re
import shutil
import sqlite3
import tempfile
from pathlib import Path

from adaptformer.tracking.locations import ARTIFACTS, DATABASE, SQLITE

log = logging.getLogger("adaptformer")

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Tables and columns in which MLflow names files."""


def follow(database: Path) -> str | None:
    """Make a database name the files beside it, in one transaction; if it does already, nothing is written.

    A database that cannot be written stays as it is; then the address of a corrected copy is returned, which is for
    reading only and is deleted when the process ends.
    """
    database = database.resolve()
    present = (database.parent / ARTIFACTS).as_uri()
    before = _elsewhere(database, present)
    if not before:
        return None
    try:
        _let_name(database, before, present)
    except sqlite3.OperationalError as error:
        if "readonly" not in str(error):
            raise
        folder = tempfile.TemporaryDirectory(prefix="adaptformer-")
        atexit.register(folder.cleanup)
        copy = Path(folder.name, DATABASE)
        shutil.copyfile(database, copy)
        _let_name(copy, before, present)
        _refuse_changes(copy)
        return f"{SQLITE}{copy}"
    log.info("this project was moved or copied: MLflow's records name %s/ now", present)
    return None


def _elsewhere(database: Path, present: str) -> set[str]:
    """Return the folders of files that a database names and that are not the `present` one."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        locations = connection.execute(_ELSEWHERE, (f"file:%/{ARTIFACTS}", f"file:%/{ARTIFACTS}/%"))
        return {_folder(location) for (location,) in locations} - {present}


def _let_name(database: Path, before: set[str], present: str) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for folder in sorted(before):
            for table, column in COLUMNS:
                _replace(connection, table, column, folder, present)


_ELSEWHERE = (
    "select distinct artifact_location from experiments where artifact_location like ? or artifact_location like ?"
)


def _refuse_changes(database: Path) -> None:
    """Make a database refuse changes: in a copy they would be lost."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
            for act in ("insert", "update", "delete"):
                connection.execute(
                    f'create trigger "{table}_{act}" before {act} on "{table}" '
                    "begin select raise(abort, 'attempt to write a readonly database'); end"
                )


def _folder(location: str) -> str:
    """Return an address up to and including the folder mlartifacts."""
    return re.split(rf"(?<=/{ARTIFACTS})(?:/|$)", location, maxsplit=1)[0]


def _replace(connection: sqlite3.Connection, table: str, column: str, before: str, present: str) -> None:
    """Replace the folder `before` by `present` in the values of a column."""
    connection.execute(
        f"update {table} set {column} = ? || substr({column}, ?) "  # noqa: S608
        f"where {column} = ? or substr({column}, 1, ?) = ?",
        (present, len(before) + 1, before, len(before) + 1, f"{before}/"),
    )
