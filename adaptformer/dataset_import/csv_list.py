"""What a CSV file given to `adaptformer data import` lists: path, label, and if wanted split and group."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from adaptformer.dataset_import.class_folders import SPLIT_NAMES, SourceImage
from adaptformer.errors import UserError
from adaptformer.names import class_name_fault, group_name_fault, one_form, quoted, refuse_class_names

GROUP_PATTERN = "/(.+?)__"
"""The `data.group` that finds a group of the list in the names which its images get in data/: GROUP__FILE."""

_NEEDED, _OPTIONAL = ("path", "label"), ("split", "group")
_FORMAT = "give the columns path and label, and if wanted split (train, validation, test) and group"


def images_of(source: Path) -> list[SourceImage]:
    """Return the images that a CSV file lists; relative paths begin at its folder.

    Raises one UserError about all lines that cannot be used; each is a note of the exception.
    """
    table = _read(source)
    faults: list[str] = []
    images = []
    splits = table["split"].str.strip().str.casefold() if "split" in table else pd.Series("train", table.index)
    groups = table["group"].str.strip() if "group" in table else pd.Series("", table.index)
    for line, (path, label, split, group) in enumerate(
        zip(table["path"], table["label"], splits, groups, strict=True), start=2
    ):
        reasons = [
            *(["no path"] if not path else []),
            *(["the path has a NUL character"] if "\0" in path else []),
            *([f"the label {quoted(label)} {fault}"] if (fault := class_name_fault(one_form(label))) else []),
            *([f"no such split: {split!r}"] if split not in SPLIT_NAMES else []),
            *([f"the group {quoted(group)} {fault}"] if group and (fault := group_name_fault(group)) else []),
        ]
        faults += [f"line {line}: {reason}" for reason in reasons]
        if not reasons:
            images.append(SourceImage(source.parent / path, SPLIT_NAMES[split], one_form(label), group))
    if not faults and "train" not in {image.split for image in images}:
        faults.append("no image is in train")
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        error = UserError(f"{source}, {faults[0]}{more}", _FORMAT)
        for fault in faults[1:]:
            error.add_note(fault)
        raise error
    refuse_class_names(image.label for image in images)
    return images


def _read(source: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(source, dtype="str", keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # pandas' errors of parsing and of empty files are ValueErrors
        raise UserError(f"{source} cannot be read: {' '.join(str(error).split())}", _FORMAT) from error
    table.columns = table.columns.str.strip().str.casefold()
    missing = [name for name in _NEEDED if name not in table]
    unknown = [name for name in table if name not in (*_NEEDED, *_OPTIONAL)]
    if missing or unknown or table.columns.duplicated().any():
        raise UserError(f"{source} has the columns {', '.join(table.columns)}", _FORMAT)
    if table.empty:
        raise UserError(f"{source} lists no images", _FORMAT)
    return table
