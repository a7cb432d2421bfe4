"""The manifest: one row per image of data/, with its label, split, size and hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from adaptformer.base import csv_file, files, integrity, progress
from adaptformer.base.errors import UserError
from adaptformer.data import groups, layout, splits
from adaptformer.data.decoding import Pixels
from adaptformer.data.image_facts import ImageFacts
from adaptformer.data.image_scan import DEFAULT, ReadOptions, read_all

_TYPES = {
    "path": "str", "label": "str", "split": "str", "width": "int64", "height": "int64", "mode": "str", "bytes": "int64",
    "sha256": "str",
}  # fmt: skip
COLUMNS = tuple(_TYPES)
"""The columns; `path` is relative to data/ in POSIX form, `width` and `height` are in pixels as displayed."""

_GET_DATA = "bring images in with `adaptformer data import PATH`, or write the sample with `adaptformer data sample`"

REGISTER = "its file in MLflow was changed: register the run again, or choose another version"
"""The remedy if the manifest of a registered version is not the one it was registered with."""
_VALIDATE = (
    "write it again with `adaptformer validate`; to change labels or splits, move files in data/ "
    "or use `adaptformer data relabel`"
)


@dataclass(frozen=True)
class ValidationShare:
    """The share of the train images that becomes the validation split if data/ has none, and its random seed.

    Images of one group by the pattern `group` (groups.py) stay together.
    """

    fraction: float
    seed: int
    group: str | None = None


def scan(
    data: Path,
    share: ValidationShare,
    on_picture: Callable[[str, Pixels], None] | None = None,
    options: ReadOptions = DEFAULT,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read every file of data/; return the manifest, and a table of the unusable files with reasons.

    Both are sorted by path; the second has the columns `path` and `reason`. If data/ has no validation split, one is
    taken from train (splits.py): those rows keep their path below train/. `on_picture` is called with the path and the
    small picture of each usable image. Files and images above the limits of `options` are unusable.
    Raises UserError if data/, its train or its test split is missing or empty.
    """
    if not layout.occupied(data):
        raise UserError(f"there are no images in {data}/", _GET_DATA)
    entries, unusable = layout.entries(data)
    present = {entry.split for entry in entries}
    for split in ("train", "test"):
        if split not in present:
            raise UserError(f"{data}/ has no {split} split: no file matches {data}/{split}/CLASS/FILE", _GET_DATA)
    records = []
    on_indexed = None if on_picture is None else (lambda index, picture: on_picture(entries[index].path, picture))
    read = read_all([data / entry.path for entry in entries], on_indexed, options)
    for entry, facts in zip(entries, progress.steps(read, "validating", len(entries), "images"), strict=True):
        if isinstance(facts, ImageFacts):
            records.append({**entry._asdict(), **facts._asdict()})
        else:
            unusable[entry.path] = facts
    manifest = _typed(pd.DataFrame.from_records(records, columns=list(COLUMNS)))
    if "validation" not in present:
        _carve_validation(manifest, share)
    unreadable = pd.DataFrame(sorted(unusable.items()), columns=["path", "reason"], dtype="str")
    return manifest, unreadable


def _carve_validation(manifest: pd.DataFrame, share: ValidationShare) -> None:
    train = manifest.index[manifest["split"] == "train"]
    labels, hashes, paths = (list(manifest.loc[train, column]) for column in ("label", "sha256", "path"))
    members = groups.of((path.partition("/")[2] for path in paths), share.group)
    is_validation = splits.choose(labels, hashes, share.fraction, share.seed, members)
    manifest.loc[train[is_validation], "split"] = "validation"


def write_manifest(path: Path, manifest: pd.DataFrame) -> None:
    """Write the manifest as CSV and its checksum beside it, each whole or not at all; equal rows give equal bytes."""
    files.write_text(path, csv_file.text(manifest, COLUMNS))
    integrity.write_beside(path)


def read_manifest(path: Path) -> pd.DataFrame:
    """Return the manifest at `path`; labels such as "001" and "NA" stay strings.

    Raises UserError if it is damaged, or was edited since `write_manifest`.
    """
    integrity.check_beside(path, _VALIDATE)
    return read_stored(path, _VALIDATE)


def read_stored(path: Path, remedy: str) -> pd.DataFrame:
    """Return a manifest from elsewhere, such as MLflow, that the caller has verified.

    Raises UserError with `remedy` if the file is not a manifest.
    """
    try:
        return _typed(csv_file.read(path)[list(COLUMNS)])
    except (OSError, ValueError, KeyError, OverflowError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}", remedy) from error


def _typed(manifest: pd.DataFrame) -> pd.DataFrame:
    return manifest.astype(_TYPES)


def class_names(manifest: pd.DataFrame) -> list[str]:
    """Return the labels of the train split, sorted: the model's classes, in the order of its logits."""
    return sorted(manifest.loc[manifest["split"] == "train", "label"].unique())


def rows(manifest: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows of one split ("train", "validation" or "test"), numbered from 0."""
    return manifest[manifest["split"] == split].reset_index(drop=True)
