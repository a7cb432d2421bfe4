"""The layout of data/: `<split>/<class>/<file>`."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from adaptformer.base.names import ignored, shown, steers
from adaptformer.data import image_files

log = logging.getLogger("adaptformer")

SPLITS = ("train", "validation", "test")


class Entry(NamedTuple):
    """An image file in data/: its `path` relative to data/ in POSIX form, its split and its label."""

    path: str
    split: str
    label: str


def visible_files(folder: str | Path, left_out: LeftOut | None = None) -> Iterator[tuple[str, list[str]]]:
    """Yield a folder and every one below it, with the sorted names of its files.

    What is `ignored` is not among them, but counted in `left_out`.
    """
    for place, names, names_of_files in os.walk(folder):
        if left_out is not None:
            left_out.count(place, [*names, *names_of_files])
        names[:] = sorted(name for name in names if not ignored(name))  # os.walk descends in this order
        yield place, sorted(name for name in names_of_files if not ignored(name))


class LeftOut:
    """Counter of files and folders that are never read as images: hidden ones and other programs' litter."""

    def __init__(self) -> None:
        self._number, self._first = 0, ""

    def count(self, place: str, names: Iterable[str]) -> None:
        """Count the ignored ones among the names of a folder."""
        for name in sorted(filter(ignored, names)):
            self._first = self._first or f"{place}/{name}"
            self._number += 1

    def tell(self, folder: str) -> None:
        """Log how many were counted below a folder, if there were any."""
        if self._number:
            log.info(
                "left out in %s: hidden files and folders, or litter of other programs: %s, the first is %s",
                shown(folder), f"{self._number:,}", shown(self._first),
            )  # fmt: skip


def entries(data: Path) -> tuple[list[Entry], dict[str, str]]:
    """Return the files in the places of images, and each other path with its fault, both sorted by path.

    Faults: a path outside a split's class folders, a link that is broken or leads out of data/, a folder that cannot be
    listed, a name that is not UTF-8 or has control characters, and a file that is not regular.
    """
    images: list[Entry] = []
    faults: dict[str, str] = {}
    root = data.resolve()
    folders: list[tuple[Path, tuple[str, ...]]] = [(data, ())]
    while folders:
        folder, parts = folders.pop()
        try:
            children = sorted(folder.iterdir())
        except OSError as error:
            faults[shown("/".join(parts))] = error.strerror or "cannot be listed"
            continue
        for child in children:
            if ignored(child.name):
                continue
            place = (*parts, child.name)
            path = "/".join(place)
            reason = _misplaced(child, place, root)
            if reason:
                faults[shown(path)] = reason
            elif len(place) < 3:
                folders.append((child, place))
            else:
                images.append(Entry(path, place[0], place[1]))
    return sorted(images), dict(sorted(faults.items()))


def _misplaced(child: Path, place: tuple[str, ...], root: Path) -> str | None:
    """Return why a path below data/ cannot be used, or None."""
    if steers(child.name):
        return "its name is not UTF-8, or has control characters"
    if child.is_symlink() and (reason := _bad_link(child, root)):
        return reason
    try:
        mode = child.stat().st_mode
    except OSError as error:
        return error.strerror or "cannot be read"
    is_folder, depth = stat.S_ISDIR(mode), len(place)
    reasons = {
        f"only the folders {', '.join(SPLITS)} belong in data/": depth == 1 and not (is_folder and place[0] in SPLITS),
        "not in a class folder": depth == 2 and not is_folder,
        "a folder inside a class folder": depth == 3 and is_folder,
        image_files.kind(mode): depth == 3 and not is_folder and not stat.S_ISREG(mode),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _bad_link(link: Path, root: Path) -> str | None:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return "a broken link"
    # `dvc config cache.type symlink` makes every file a link to <cache>/files/md5/ab/cdef: DVC protects those targets.
    if target.is_relative_to(root) or target.parts[-4:-2] == ("files", "md5"):
        return None
    return "a link that leads out of data/"


def occupied(data: Path) -> bool:
    """Return whether writing to `data` would destroy something there. An empty folder does not count."""
    if data.is_dir():
        return any(data.iterdir())
    return data.exists() or data.is_symlink()
