"""The list of images that a command moved within data/ or removed from it, so that its last run can be undone.

It is a CSV file: the number of the run, the path before and the path after, which is empty for a removed image.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from adaptformer.base import csv_file, integrity
from adaptformer.base.errors import UserError
from adaptformer.data import layout

COLUMNS = ("number", "before", "after")
_REMEDY = "bring it back from a copy, or move it away: the moves that it lists can then not be undone"


def read(path: Path) -> pd.DataFrame:
    """Return the list at `path`, or an empty one if there is no file.

    Raises UserError for a file that cannot be read, and for one that its checksum does not fit; lists of earlier
    versions have none.
    """
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    if integrity.beside(path).is_file():
        integrity.check_beside(path, _REMEDY)
    try:
        table = csv_file.read(path)
        return table[list(COLUMNS)].astype({"number": "int64"})
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged", _REMEDY) from error


def next_number(done: pd.DataFrame) -> int:
    """Return the number of the next run."""
    return int(done["number"].max()) + 1 if len(done) else 1


def extended(path: Path, done: pd.DataFrame, moved: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of the list with one more run and of its checksum, by path; `moved` maps old to new paths."""
    news = pd.DataFrame([(next_number(done), *move) for move in moved.items()], columns=list(COLUMNS))
    return integrity.with_beside(path, csv_file.text(pd.concat([done, news])))


def last(path: Path, done: pd.DataFrame, what: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the moves of the last run, and the texts of the list without them and of its checksum, by path.

    `what` names a run in messages, such as "relabelling". Raises UserError if there is no run.
    """
    if done.empty:
        raise UserError(f"no {what} is left to undo", f"{path} lists those that can be")
    is_last = done["number"] == done["number"].max()
    return done[is_last], integrity.with_beside(path, csv_file.text(done[~is_last]))


def places_before(data: Path, moves: pd.DataFrame, what: str, otherwise: str) -> dict[str, str]:
    """Return for each image in `data` its path before the moves; removed images are not among them.

    Raises UserError if images are no longer at the paths that they were moved to; `otherwise` is a second remedy,
    appended to `dvc checkout`.
    """
    kept = moves[moves["after"] != ""]
    back = dict(zip(kept["after"], kept["before"], strict=True))
    present = {entry.path for entry in layout.entries(data)[0]} if data.is_dir() else set()
    places = {path: back.get(path, path) for path in present}
    missing = sorted(back.keys() - present)
    taken = {*places.values(), *moves.loc[moves["after"] == "", "before"]}
    if missing or len(taken) < len(places) + int((moves["after"] == "").sum()):
        where = f"{missing[0]} is gone" if missing else "an image has taken the place of one that was moved"
        raise UserError(
            f"{data}/ has changed since the last {what}: {where}",
            f"bring data/ back to the state after it (`dvc checkout`){otherwise}",
        )
    return places
