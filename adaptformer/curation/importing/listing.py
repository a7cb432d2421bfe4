"""The images of a source, in one form for all kinds of source: folders, lists, shards, buckets.

Each kind has a reader that returns a `Listing`. The rules about names, splits, groups and unusable files are the same
for all of them and are in rules.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from adaptformer.base import csv_file, files
from adaptformer.base.names import shown

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""Common names of the three splits, in lower case."""


class Image(NamedTuple):
    """A file that should be an image.

    `place` is its location in the source, for messages; `name` is the name of its file. `split` is empty if the source
    names none. Images of one `group`, such as a patient or a camera, must be in one split; it is empty if the source
    names none. A `fault` is the reason, known before the file is read, why the image cannot be used.
    """

    path: Path
    label: str
    place: str
    name: str
    split: str = ""
    group: str = ""
    fault: str = ""


class LeftOut(NamedTuple):
    """A file or folder of a source that is not imported, and why."""

    place: str
    reason: str


class Listing(NamedTuple):
    """The images of a source in a fixed order, the files and folders left out, and remarks about how it was read."""

    source: str
    images: Sequence[Image]
    left_out: Sequence[LeftOut] = ()
    remarks: Sequence[str] = ()


def split_of(name: str) -> str | None:
    """Return the split that a whole name means, or None."""
    return SPLIT_NAMES.get(name.strip().casefold())


def split_within(name: str) -> tuple[str, str] | None:
    """Return the split that one word of a name means, and the rest of the name: ("train", "seg_*") for seg_train."""
    words = re.split(r"([^a-z]+)", name.casefold())
    known = [index for index, word in enumerate(words) if word in SPLIT_NAMES]
    if len(known) != 1:
        return None
    (index,) = known
    return SPLIT_NAMES[words[index]], "".join([*words[:index], "*", *words[index + 1 :]])


def lines(rows: Iterable[LeftOut]) -> list[str]:
    """Return one line per reason: the number of files or folders, and the first of them."""
    rows = list(rows)
    firsts: dict[str, str] = {}
    for place, reason in rows:
        firsts.setdefault(reason, place)
    counts = Counter(reason for _, reason in rows)
    return [
        f"{count:,}: {reason} ({shown(firsts[reason])}{' and others' if count > 1 else ''})"
        for reason, count in counts.items()
    ]


def write(path: Path, left_out: Sequence[LeftOut]) -> None:
    """Write a CSV file with the columns path and reason; if nothing was left out, remove the file."""
    if not left_out:
        path.unlink(missing_ok=True)
        return
    rows = [(shown(place), reason) for place, reason in left_out]
    files.write_text(path, csv_file.text(pd.DataFrame.from_records(rows, columns=["path", "reason"])))
