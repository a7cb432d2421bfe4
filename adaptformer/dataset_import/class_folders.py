"""What a folder given to `adaptformer data import` holds: its splits, classes and files."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

from adaptformer.data.layout import ignored
from adaptformer.errors import UserError

_LOG = logging.getLogger("adaptformer")

_SPLIT_NAMES = {"train": "train", "test": "test", **dict.fromkeys(("val", "valid", "validation"), "validation")}
_EXPECTED = "give a folder that holds CLASS/FILE, or train/CLASS/FILE and test/CLASS/FILE"


class SourceImage(NamedTuple):
    """A file that should be an image; `split` is "train" where the source has no splits."""

    path: Path
    split: str
    label: str


def images_of(source: Path) -> list[SourceImage]:
    """Return the files of all class folders of `source`, in a fixed order, nested folders included.

    A folder named train, val, valid, validation or test, in whatever case, is a split when it holds folders
    and a class otherwise. Raises UserError when there are no classes, when splits stand beside classes or
    lack train, and when class names differ only in case.
    """
    images = []
    for folder, split in _split_folders(source):
        for class_folder in _folders(folder):
            images += [SourceImage(path, split, class_folder.name) for path in _files_below(class_folder)]
    if not images:
        raise UserError(f"{source} holds no images in class folders", _EXPECTED)
    _refuse_bad_names({image.label for image in images})
    return images


def _split_folders(source: Path) -> list[tuple[Path, str]]:
    """Return the folders that hold class folders, each with its split."""
    folders = _folders(source)
    found = [(folder, _SPLIT_NAMES[folder.name.casefold()]) for folder in folders if _is_split(folder)]
    _warn_of_loose_files([source, *(folder for folder, _ in found)])
    if not found:
        return [(source, "train")]
    others = [folder.name for folder in folders if not _is_split(folder)]
    if others:
        raise UserError(f"{source} has split folders and, beside them, {others[0]!r}", _EXPECTED)
    if "train" not in {split for _, split in found}:
        raise UserError(f"{source} has the split {found[0][0].name} but no train", _EXPECTED)
    return found


def _is_split(folder: Path) -> bool:
    return folder.name.casefold() in _SPLIT_NAMES and bool(_folders(folder))


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if not ignored(child.name))
    except OSError as error:
        raise UserError(f"cannot list {folder}: {error.strerror}", "make it readable, or leave it out") from error


def _folders(folder: Path) -> list[Path]:
    return [child for child in _children(folder) if child.is_dir()]


def _warn_of_loose_files(folders: list[Path]) -> None:
    """Log which files beside the class folders, such as READMEs and label lists, are not copied."""
    loose = [file for folder in folders for file in _children(folder) if not file.is_dir()]
    if loose:
        _LOG.warning("left out %d file(s) outside of class folders, such as %s", len(loose), loose[0])


def _files_below(folder: Path) -> list[Path]:
    """Return the files in a class folder, however deep. Links to folders are not followed: they may form a cycle."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not ignored(name)]
        found += [Path(place, name) for name in names if not ignored(name)]
    return sorted(found)


def _refuse_bad_names(labels: set[str]) -> None:
    alike: dict[str, str] = {}
    for label in sorted(labels):
        if label != label.strip():
            raise UserError(f"the class name {label!r} begins or ends with a space", "rename the class folder")
        if not label.isprintable():
            raise UserError(f"the class name {label!r} has unprintable characters", "rename the class folder")
        other = alike.setdefault(label.casefold(), label)
        if other != label:
            raise UserError(
                f"the class names {other!r} and {label!r} differ only in case", "give the class one name everywhere"
            )
