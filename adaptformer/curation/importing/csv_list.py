"""Reader of the CSV lists given to `adaptformer data import`: path, label, and optionally split and group."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path, PurePosixPath

from adaptformer.base.errors import UserError
from adaptformer.base.names import class_name_fault, group_name_fault, one_form, quoted, shown
from adaptformer.curation.importing import csv_table
from adaptformer.curation.importing.csv_table import Row
from adaptformer.curation.importing.listing import Image, LeftOut, Listing, split_of

GROUP_PATTERN = "/(.+?)__"
"""The value of `data.group_pattern` that finds the groups of a list: its images are named GROUP__FILE in data/."""

_HEADERS = {
    "path": (
        "path", "file_name", "filename", "filepath", "file_path", "image_path", "img_path", "image", "img", "file",
        "image_id", "image_name",
    ),
    "label": ("label", "class", "category", "class_name", "label_name", "target", "labels"),
    "split": ("split", "subset", "set", "partition"),
    "group": ("group",),
}  # fmt: skip
_MISSING = {"nan", "NaN", "None", "none", "null", "NULL", "N/A", "<NA>"}
"""Texts that programs write for a missing value."""
_ABSOLUTE = re.compile(r"[A-Za-z]:|[/\\]")
_FORMAT = "give the columns path and label, and optionally split (train, validation, test) and group"


def images_of(source: Path) -> Listing:
    """Return the images that a CSV file lists; relative paths start at its folder.

    A path that does not exist is searched for: it may be a Windows path, start at a folder of another machine, or lack
    its suffix. An image without a label gets a fault. Raises one UserError about all unusable lines, with a note for
    each further one.
    """
    table = csv_table.read(source, _HEADERS, ("path", "label"), _FORMAT)
    images, left_out = [], [LeftOut(f"line {line}", "a blank row") for line in table.blank]
    faults: list[str] = []
    seen: dict[Path, tuple[int, str]] = {}
    search = _Search(source.parent)
    for row in table.rows:
        image, reasons = _image(row, search)
        faults += [f"line {row.line}: {reason}" for reason in reasons]
        if reasons:
            continue
        if image.fault:
            images.append(image)
            continue
        first, label = seen.setdefault(image.path, (row.line, image.label))
        if first != row.line and label == image.label:
            left_out.append(LeftOut(f"line {row.line}", "a row that is listed before"))
        elif first != row.line:
            faults.append(
                f"line {row.line}: {shown(image.place)} is {quoted(image.label)}, and in line {first} {quoted(label)}"
            )
        else:
            images.append(image)
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        error = UserError(f"{source}, {faults[0]}{more}", _FORMAT)
        for fault in faults[1:]:
            error.add_note(fault)
        raise error
    labels = {image.label for image in images}
    remarks = [
        *([f"read as {table.encoding}"] if table.encoding in {"cp1252", "utf-16"} else []),
        *([f"ignored the columns {', '.join(table.other)}"] if table.other else []),
        *(f"found {count:,} images {how}" for how, count in search.how.items()),
        *(f"the label {label!r} is taken as a class: is it a missing value?" for label in sorted(_MISSING & labels)),
    ]
    return Listing(str(source), images, left_out, remarks)


def _image(row: Row, search: _Search) -> tuple[Image, list[str]]:
    """Return the image of a row, and the faults of the row; a missing label is a fault of the image instead."""
    path, given, word, group = (row.values.get(name, "") for name in ("path", "label", "split", "group"))
    label, group = one_form(given.strip()), one_form(group.strip())
    split = split_of(word) if "split" in row.values else ""
    reasons = [
        *(["no path"] if not path.strip() else []),
        *(["the path has a NUL character"] if "\0" in path else []),
        *(["an address: only files on this machine can be listed"] if "://" in path else []),
        *([f"the label {quoted(label)} {fault}"] if label and (fault := class_name_fault(label)) else []),
        *([f"no such split: {quoted(word.strip())}"] if split is None else []),
        *([f"the group {quoted(group)} {fault}"] if group and (fault := group_name_fault(group)) else []),
    ]
    if reasons:
        return Image(Path(), label, path, ""), reasons
    file = search.found(path)
    place = path if label else f"line {row.line}"
    return Image(file, label, place, file.name, split or "", group, "" if label else "no label"), []


class _Search:
    """Search for the files that a list names; `how` counts the ways in which inexact paths were found."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.how: Counter[str] = Counter()

    def found(self, name: str) -> Path:
        """Return the path of an image; if it is not found, the plain path below the list's folder."""
        plain = self._folder / name
        ways: dict[str, Callable[[], Path | None]] = {
            "": lambda: plain if _there(plain) else None,
            "by their paths without surrounding spaces": lambda: self._below(PurePosixPath(name.strip())),
            "below the list's folder, by the ends of their paths": lambda: self._by_end(name.strip()),
            "by their names without an ending": lambda: self._by_stem(name.strip()),
        }
        for way, look in ways.items():
            if path := look():
                if way:
                    self.how[way] += 1
                return path
        return plain

    def _below(self, path: PurePosixPath) -> Path | None:
        there = self._folder / path
        return there if _there(there) else None

    def _by_end(self, name: str) -> Path | None:
        """Return the file at a path with Windows separators, or at the longest existing end of an absolute path."""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        starts = range(1, len(parts)) if _ABSOLUTE.match(name) else range(1)
        ends = (PurePosixPath(*parts[start:]) for start in starts)
        return next((match for end in ends if (match := self._below(end))), None)

    def _by_stem(self, name: str) -> Path | None:
        """Return the file below the list's folder that has this name without its suffix, if there is only one."""
        stem = PurePosixPath(name.replace("\\", "/"))
        alike = [path for path in self._by_stems.get(stem.name, []) if _ends_with(path, stem)]
        return alike[0] if len(alike) == 1 else None

    @cached_property
    def _by_stems(self) -> dict[str, list[Path]]:
        stems: dict[str, list[Path]] = {}
        for path in sorted(self._folder.rglob("*")):
            if path.is_file():
                stems.setdefault(path.stem, []).append(path)
        return stems


def _there(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except (OSError, ValueError):  # a name that is too long, or has a NUL character
        return False


def _ends_with(path: Path, end: PurePosixPath) -> bool:
    return path.with_suffix("").parts[-len(end.parts) :] == end.parts
