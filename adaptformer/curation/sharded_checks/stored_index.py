"""The search for near duplicates in a folder: an index whose pictures lie in files, and steps that are done once.

Memory holds a block of pictures, a part of a cell, and about ten bytes for each image and each candidate pair.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptformer.base import array_file, files, integrity
from adaptformer.base.errors import UserError
from adaptformer.curation.checks import ivf_index, near_duplicates
from adaptformer.curation.checks.duplicate_candidates import SIZE
from adaptformer.curation.checks.ivf_index import BLOCK, Index
from adaptformer.curation.sharded_checks.row_file import Rows
from adaptformer.data.image_facts import SIDE

log = logging.getLogger("adaptformer")

_RECORD, _CELLS = "index.json", "cells.safetensors"
_FILES = ("pictures", "signatures", _CELLS)


def pairs(folder: Path, pictures: Iterable[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """Return the pairs [P, 2] of near duplicates among pictures, given in blocks [B, s, s, 3].

    Steps whose results are intact in `folder` are not repeated.
    """

    def result_of(name: str, step: near_duplicates.Step) -> pd.DataFrame:
        path = folder / f"{name}.parquet"
        if not integrity.is_intact(path):
            with files.replacing(path) as new_file:
                step().to_parquet(new_file, index=False)
            integrity.write_beside(path)
        return pd.read_parquet(path)

    return near_duplicates.search(prepare(folder, pictures), result_of)


def prepare(folder: Path, pictures: Iterable[NDArray[np.uint8]]) -> Index:
    """Return the index of pictures, given in blocks [B, s, s, 3]; build it in `folder` unless it is intact there."""
    stored = Rows(folder / "pictures", (SIDE, SIDE, 3), np.uint8)
    ordered = Rows(folder / "signatures", (SIZE,), np.float32)
    if not _is_intact(folder):
        (folder / _RECORD).unlink(missing_ok=True)  # the files that it describes are about to change
        folder.mkdir(parents=True, exist_ok=True)
        unordered = Rows(folder / "unordered", (SIZE,), np.float32)
        for leftover in ("pictures", "signatures", "unordered"):
            (folder / leftover).write_bytes(b"")
        for block in pictures:
            stored.append(block)
            unordered.append(ivf_index.signatures_of(block))
        members, starts, centres = ivf_index.sorted_by_cell(unordered)
        for start in range(0, len(members), BLOCK):
            ordered.append(unordered[members[start : start + BLOCK]])
        array_file.write(folder / _CELLS, {"members": members, "starts": starts, "centres": centres}, {})
        (folder / "unordered").unlink()
        integrity.write_record(folder / _RECORD, _hashes(folder))
    cells, _ = array_file.read(folder / _CELLS, "")
    return Index(stored, ordered, cells["members"], cells["starts"], cells["centres"])


def _is_intact(folder: Path) -> bool:
    """Return whether the files of an index are those that its record names."""
    if not (folder / _RECORD).is_file():
        return False
    try:
        if integrity.read_record(folder / _RECORD, "") != _hashes(folder):
            raise integrity.altered(folder, "")
    except (OSError, UserError) as error:
        log.warning("the index of pictures is built again: %s", getattr(error, "cause", error))
        return False
    return True


def _hashes(folder: Path) -> dict[str, str]:
    return {name: files.sha256_file(folder / name) for name in _FILES}
