"""Reader of the class folders given to `adaptformer data import`: their splits, classes and files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from adaptformer.base.errors import UserError
from adaptformer.base.names import ignored, one_form, shown
from adaptformer.curation.importing.listing import Image, LeftOut, Listing, split_of, split_within

_EXPECTED = "give a folder that holds CLASS/FILE, or train/CLASS/FILE and test/CLASS/FILE"
_UNLABELLED = {
    "pred",
    "predict",
    "prediction",
    "predictions",
    "unlabelled",
    "unlabeled",
    "unlabel",
    "unsup",
    "submission",
}
"""Words in the names of folders that stand beside splits and whose images have no classes."""


class _Class(NamedTuple):
    folder: Path
    split: str


def images_of(source: Path) -> Listing:
    """Return the files of all class folders of `source`, in a fixed order, nested folders included.

    A folder whose name means a split (found.SPLIT_NAMES, in any case) is a split if it holds folders, and a class
    otherwise. Folders such as seg_train and seg_test are splits too. A split folder that holds only a folder of the
    same name is replaced by that folder. Links to folders are followed, each folder once. Class names are in Unicode
    form NFC. Raises UserError if there are no classes, if splits stand beside classes or lack train, and if the classes
    seem to be one level deeper.
    """
    walk = _Walk(source)
    splits = _split_folders(source, walk)
    classes = [_Class(folder, split) for parent, split in splits for folder in walk.folders(parent)]
    files = walk.files(one.folder for one in classes)
    images = [
        Image(path, one_form(one.folder.name), walk.place(path), path.name, one.split)
        for one in classes
        for path in files[one.folder]
    ]
    if not images:
        raise UserError(f"{source} holds no images in class folders", _remedy(source))
    _refuse_one_level_too_high(source, classes, walk)
    already_listed = {place for place, _ in walk.left_out}
    empty = (walk.place(one.folder) for one in classes if not files[one.folder])
    walk.left_out += [LeftOut(place, "an empty class folder") for place in empty if place not in already_listed]
    _note_one_level_too_low(source, walk)
    remarks = _same_folders_in_each(classes, files)
    return Listing(str(source), images, sorted(set(walk.left_out)), remarks)


class _Walk:
    """Reads each folder once and records the paths that are left out."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._seen: dict[tuple[int, int], Path] = {}
        self.left_out: list[LeftOut] = []

    def place(self, path: Path) -> str:
        """Return a path relative to the source if it is below it, for messages."""
        return path.relative_to(self._source).as_posix() if path.is_relative_to(self._source) else str(path)

    def leave_out(self, path: Path, reason: str) -> None:
        """Record that a path is not imported."""
        self.left_out.append(LeftOut(self.place(path), reason))

    def children(self, folder: Path) -> list[Path]:
        """Return the sorted children of a folder; hidden ones and other programs' litter are recorded as left out."""
        kept = []
        for child in _listed(folder):
            if not ignored(child.name):
                kept.append(child)
            elif child.name.startswith("."):
                self.leave_out(child, "hidden")
            else:
                self.leave_out(child, "of a system or a photo program, by its name")
        return kept

    def folders(self, folder: Path) -> list[Path]:
        """Return the folders in a folder, links to folders included; files beside them are recorded as left out."""
        folders = []
        for child in self.children(folder):
            if child.is_dir():
                folders.append(child)
            else:
                self.leave_out(child, "a file outside of class folders")
        return folders

    def files(self, folders: Iterable[Path]) -> dict[Path, list[Path]]:
        """Return the sorted files below each folder; real folders are read before linked ones, each folder once."""
        waiting: list[tuple[Path, Path]] = []
        files: dict[Path, list[Path]] = {}
        for folder in folders:
            files[folder] = []
            waiting.append((folder, folder))
        real = [pair for pair in waiting if not pair[0].is_symlink()]
        links = [pair for pair in waiting if pair[0].is_symlink()]
        while real or links:
            folder, top = real.pop(0) if real else links.pop(0)
            if (before := self._first_seen(folder)) is not None:
                self.leave_out(folder, f"a link to a folder that is read already: {self.place(before)}")
                continue
            for child in self.children(folder):
                if not child.is_dir():
                    files[top].append(child)
                elif child.is_symlink():
                    links.append((child, top))
                else:
                    real.append((child, top))
        return {folder: sorted(paths) for folder, paths in files.items()}

    def _first_seen(self, folder: Path) -> Path | None:
        status = folder.stat()
        first = self._seen.setdefault((status.st_dev, status.st_ino), folder)
        return None if first == folder else first


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UserError(
            f"cannot list {shown(str(folder))}: {error.strerror}", "make it readable, or leave it out"
        ) from error


def _split_folders(source: Path, walk: _Walk) -> list[tuple[Path, str]]:
    """Return the folders that hold class folders, each with its split, or "" if there are no splits."""
    folders = [child for child in walk.children(source) if child.is_dir()]
    split_folders = [
        (folder, split) for folder in folders if (split := split_of(folder.name)) and _holds_folders(folder)
    ]
    split_folders = split_folders or _named_alike(folders)
    if not split_folders:
        return [(source, "")]
    walk.folders(source)  # records the files beside them
    taken = {folder for folder, _ in split_folders}
    others = [folder for folder in folders if folder not in taken]
    unlabelled = [folder for folder in others if _is_unlabelled(folder)]
    for folder in unlabelled:
        count = sum(1 for path in folder.rglob("*") if path.is_file() and not ignored(path.name))
        walk.leave_out(folder, f"a folder beside the splits whose images ({count:,}) have no classes")
    if rest := [shown(folder.name) for folder in others if folder not in unlabelled]:
        raise UserError(f"{source} has split folders and, beside them, {rest[0]!r}", _EXPECTED)
    if "train" not in {split for _, split in split_folders}:
        raise UserError(f"{source} has the split {split_folders[0][0].name} but no train", _EXPECTED)
    return [(_inner(folder), split) for folder, split in split_folders]


def _named_alike(folders: list[Path]) -> list[tuple[Path, str]]:
    """Return folders such as seg_train and seg_test, whose names differ only in the word for the split."""
    named = [
        (folder, *within) for folder in folders if (within := split_within(folder.name)) and _holds_folders(folder)
    ]
    for _, split, rest in named:
        alike = [(folder, other) for folder, other, its_rest in named if its_rest == rest]
        if split == "train" and len({other for _, other in alike}) > 1:
            return alike
    return []


def _inner(folder: Path) -> Path:
    """Return the only child of a folder if it is a folder of the same name, as in many archives; else the folder."""
    children = [child for child in _listed(folder) if not ignored(child.name)]
    if len(children) == 1 and children[0].is_dir() and children[0].name.casefold() == folder.name.casefold():
        return _inner(children[0])
    return folder


def _is_unlabelled(folder: Path) -> bool:
    words = set(re.split(r"[^a-z]+", folder.name.casefold()))
    return (bool(words & _UNLABELLED) or split_of(folder.name) is not None) and not _holds_folders(_inner(folder))


def _holds_folders(folder: Path) -> bool:
    return any(child.is_dir() and not ignored(child.name) for child in _listed(folder))


def _refuse_one_level_too_high(source: Path, classes: list[_Class], walk: _Walk) -> None:
    """Raise UserError if the only class holds nothing but folders, which are then the classes."""
    class_folders = {one.folder.name: one.folder for one in classes}
    if len(class_folders) != 1:
        return
    (only,) = class_folders.values()
    children = walk.children(only)
    inner = [child for child in children if child.is_dir()]
    if inner and len(inner) == len(children):
        names = ", ".join(shown(child.name) for child in inner[:3]) + (", ..." if len(inner) > 3 else "")
        raise UserError(
            f"{source} would give one class, {shown(only.name)!r}, which holds only the folders {names}",
            f"give {only} as the path",
        )


def _same_folders_in_each(classes: list[_Class], files: dict[Path, list[Path]]) -> list[str]:
    """Return a remark if all classes hold only folders, with the same names in each, which may be the real classes."""
    if len({one.folder.name for one in classes}) < 2:
        return []
    inner = []
    for one in classes:
        parts = [path.relative_to(one.folder).parts for path in files[one.folder]]
        if not parts or any(len(part) < 2 for part in parts):
            return []
        inner.append({part[0] for part in parts})
    if len(inner[0]) < 2 or any(names != inner[0] for names in inner):
        return []
    names = ", ".join(shown(name) for name in sorted(inner[0])[:5])
    tops = ", ".join(sorted({shown(one.folder.name) for one in classes})[:5])
    return [f"each of the classes {tops} holds the same folders, {names}: are those the classes?"]


def _note_one_level_too_low(source: Path, walk: _Walk) -> None:
    """Record the splits beside a source folder that is itself a split: they are not imported."""
    own, folder = split_of(source.resolve().name), source.resolve()
    if own is None:
        return
    for sibling in _listed(folder.parent):
        if sibling != folder and split_of(sibling.name) not in {None, own} and sibling.is_dir():
            walk.left_out.append(
                LeftOut(str(sibling), f"another split beside the folder {folder.name}: give {folder.parent} for both")
            )


def _remedy(source: Path) -> str:
    """Return the remedy for a folder without classes; a folder of files may itself be a class."""
    if not any(child.is_file() and not ignored(child.name) for child in _listed(source)):
        return _EXPECTED
    return f"{_EXPECTED}; if {shown(source.name)} is itself a class, give {source.resolve().parent}"
