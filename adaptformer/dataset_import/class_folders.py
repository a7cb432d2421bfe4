"""What a folder given to `adaptformer data import` holds: its splits, classes and files."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

from adaptformer.errors import UserError
from adaptformer.names import ignored, one_form, refuse_class_names, shown

_LOG = logging.getLogger("adaptformer")

SPLIT_NAMES = {"train": "train", "test": "test", **dict.fromkeys(("val", "valid", "validation"), "validation")}
_EXPECTED = "give a folder that holds CLASS/FILE, or train/CLASS/FILE and test/CLASS/FILE"


class SourceImage(NamedTuple):
    """A file that should be an image; `split` is "train" where the source has no splits.

    Images of one `group`, such as a patient or a camera, must be in one split; empty where the source names none.
    """

    path: Path
    split: str
    label: str
    group: str = ""


def images_of(source: Path) -> list[SourceImage]:
    """Return the files of all class folders of `source`, in a fixed order, nested folders included.

    A folder named train, val, valid, validation or test, in whatever case, is a split when it holds folders
    and a class otherwise. Class names are in Unicode's form NFC, whichever the file system has. Hidden files and
    folders are left out and logged. Raises UserError when there are no classes, when splits stand beside classes or
    lack train, when the classes seem to be one level deeper, and about class names (`names.refuse_class_names`).
    """
    images, hidden = [], []
    split_folders = _split_folders(source)
    for folder, split in split_folders:
        hidden += _hidden(folder)
        for class_folder in _folders(folder):
            files, left_out = _files_below(class_folder)
            hidden += left_out
            images += [SourceImage(path, split, one_form(class_folder.name)) for path in files]
    if not images:
        raise UserError(f"{source} holds no images in class folders", _EXPECTED)
    _refuse_one_level_too_high(source, [folder for folder, _ in split_folders])
    refuse_class_names(image.label for image in images)
    if hidden:
        _LOG.warning("left out %d hidden files or folders, such as %s", len(hidden), shown(str(hidden[0])))
    return images


def _refuse_one_level_too_high(source: Path, parents: list[Path]) -> None:
    """Raise UserError where the only class is a folder of folders: those are the classes."""
    found = {child.name: child for parent in parents for child in _folders(parent)}
    if len(found) != 1:
        return
    (only,) = found.values()
    inner = _folders(only)
    if inner and not any(child.is_file() for child in _children(only)):
        names = ", ".join(child.name for child in inner[:3]) + (", ..." if len(inner) > 3 else "")
        raise UserError(
            f"{source} would give one class, {only.name!r}, out of the folders {names}", f"give {only} as the path"
        )


def _split_folders(source: Path) -> list[tuple[Path, str]]:
    """Return the folders that hold class folders, each with its split."""
    folders = _folders(source)
    found = [(folder, SPLIT_NAMES[folder.name.casefold()]) for folder in folders if _is_split(folder)]
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
    return folder.name.casefold() in SPLIT_NAMES and bool(_folders(folder))


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
        _LOG.warning("left out %d file(s) outside of class folders, such as %s", len(loose), shown(str(loose[0])))


def _files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files in a class folder, however deep, and what is hidden there.

    Links to folders are not followed: they may form a cycle.
    """
    found: list[Path] = []
    hidden: list[Path] = []
    for place, folders, names in os.walk(folder):
        hidden += [Path(place, name) for name in (*folders, *names) if name.startswith(".")]
        folders[:] = [name for name in folders if not ignored(name)]
        found += [Path(place, name) for name in names if not ignored(name)]
    return sorted(found), sorted(hidden)


def _hidden(folder: Path) -> list[Path]:
    """Return the hidden folders beside the class folders: they may have been meant as classes."""
    return sorted(child for child in folder.iterdir() if child.name.startswith(".") and child.is_dir())
