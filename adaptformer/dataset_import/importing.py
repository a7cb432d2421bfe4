"""Import a folder of labelled images into data/: check and copy every file, make missing splits, record with DVC."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from adaptformer import progress
from adaptformer.data import splits
from adaptformer.data.layout import SPLITS, occupied
from adaptformer.data.reading import ImageFacts, copy_all
from adaptformer.dataset_import.class_folders import SourceImage, images_of
from adaptformer.dataset_import.replacement import replacing_folder
from adaptformer.errors import UserError
from adaptformer.params import DataParams


@dataclass(frozen=True)
class ImportSummary:
    """The result of an import: images per split, sorted class names, and the splits that the import made.

    `shorter_side` in pixels is the median of the images'.
    """

    images: dict[str, int]
    classes: tuple[str, ...]
    made: tuple[str, ...]
    shorter_side: int

    def __str__(self) -> str:
        """Return the summary as one line."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.images.items())
        made = f"; made here: {' and '.join(self.made)}" if self.made else ""
        return f"{sum(self.images.values()):,} images of {len(self.classes)} classes ({counts}{made})"


def import_folder(source: Path, data: Path, params: DataParams, replace: bool) -> ImportSummary:
    """Copy the class folders of `source`, with or without split folders, to `data/<split>/<class>/<file>`.

    Test and validation are made where they are missing (splits.py). Each file is read once, and what lay in `data`
    before is removed only when all of the new is in place. Raises UserError when `source` is no such folder or holds
    files that are no images (each is a note of the exception), and when `data` has content and `replace` is false.
    """
    _refuse_source(source, data)
    if occupied(data) and not replace:
        raise UserError(f"{data}/ is not empty", f"add --replace to put {source} in its place")
    images = images_of(source)
    sides = [image.split for image in images]
    made = tuple(split for split in ("test", "validation") if split not in sides)
    with replacing_folder(data) as beside:
        # The hashes choose the splits, so a file is copied before its place is known.
        copies = [beside / f"{number}.copy" for number in range(len(images))]
        facts = _copied(source, images, copies)
        hashes = [found.sha256 for found in facts]
        for split in made:
            _carve(split, images, hashes, sides, params)
        _place(copies, images, sides, beside)
    return ImportSummary(
        images={split: sides.count(split) for split in SPLITS},
        classes=tuple(sorted({image.label for image in images})),
        made=made,
        shorter_side=statistics.median_low(min(found.height, found.width) for found in facts),
    )


def _refuse_source(source: Path, data: Path) -> None:
    if not source.exists():
        raise UserError(f"there is no {source}", "give the path of a folder that holds one folder per class")
    if not source.is_dir():
        if tarfile.is_tarfile(source) or zipfile.is_zipfile(source):
            raise UserError(f"{source} is an archive", "unpack it and give the path of the folder")
        raise UserError(f"{source} is not a folder", "give the path of a folder that holds one folder per class")
    inner, outer = source.resolve(), data.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UserError(f"one of {source} and {data}/ contains the other", "give a folder outside of data/")


def _copied(source: Path, images: list[SourceImage], copies: list[Path]) -> list[ImageFacts]:
    """Copy every image and return what is known of each. Raises one UserError about all unusable files."""
    facts, faults = [], []
    copied = progress.steps(copy_all([image.path for image in images], copies), "importing", len(images), "images")
    for image, found in zip(images, copied, strict=True):
        if isinstance(found, ImageFacts):
            facts.append(found)
        else:
            faults.append(f"{image.path.relative_to(source)}: {found}")
    if faults:
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        error = UserError(
            f"{len(faults)} of {len(images)} files in {source} are no usable images: {faults[0]!r}{more}",
            "repair or remove them, then run the same command again",
        )
        for fault in faults:
            error.add_note(fault)
        raise error
    return facts


def _carve(split: str, images: list[SourceImage], hashes: list[str], sides: list[str], params: DataParams) -> None:
    """Move the chosen images from train to `split`."""
    fraction = params.test_fraction if split == "test" else params.validation_fraction
    train = [index for index, side in enumerate(sides) if side == "train"]
    chosen = splits.choose([images[i].label for i in train], [hashes[i] for i in train], fraction, params.seed)
    for index, moves in zip(train, chosen, strict=True):
        if moves:
            sides[index] = split


def _place(copies: Iterable[Path], images: Iterable[SourceImage], sides: Iterable[str], folder: Path) -> None:
    """Move each image's copy to `folder`/<split>/<class>/<file>."""
    taken: set[tuple[str, str, str]] = set()
    for copy, image, split in zip(copies, images, sides, strict=True):
        name = _free_name(image.path.name, split, image.label, taken)
        target = folder / split / image.label / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy.rename(target)


def _free_name(name: str, split: str, label: str, taken: set[tuple[str, str, str]]) -> str:
    """Return `name`, or the first of "name-2", "name-3", ... that no file of the class has, in whatever case."""
    file, free, number = PurePosixPath(name), name, 1
    while (split, label, free.casefold()) in taken:
        number += 1
        free = f"{file.stem}-{number}{file.suffix}"
    taken.add((split, label, free.casefold()))
    return free


def dvc_add(data: Path) -> bool:
    """Record `data` with `dvc add`; return False where its parent is no DVC repository. Raises UserError on failure."""
    root = data.absolute().parent
    if not (root / ".dvc").is_dir():
        return False
    command = [sys.executable, "-m", "dvc", "add", "--quiet", data.name]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise UserError(
            f"`dvc add {data.name}` failed: {reason}", f"fix that, then run `dvc add {data.name}` in {root}"
        )
    return True
