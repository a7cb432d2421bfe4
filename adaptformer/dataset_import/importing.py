"""Import labelled images into an empty data/, or in its place: copy each file, make missing splits."""

from __future__ import annotations

import logging
import statistics
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from adaptformer import files, progress
from adaptformer.data import groups, splits
from adaptformer.data.image_files import Limits
from adaptformer.data.known_facts import KnownFacts
from adaptformer.data.layout import SPLITS, occupied
from adaptformer.data.reading import ImageFacts, copy_all
from adaptformer.dataset_import import class_folders, csv_list
from adaptformer.dataset_import.class_folders import SourceImage
from adaptformer.dataset_import.replacement import Change, replacing_folder
from adaptformer.errors import UserError
from adaptformer.names import shown, stored
from adaptformer.params import DataParams

_LOG = logging.getLogger("adaptformer")


@dataclass(frozen=True)
class ImportSummary:
    """The result of an import: images per split, sorted class names, and the splits that the import made.

    `shorter_side` in pixels is the median of the images'; `groups` says whether the source names groups.
    """

    images: dict[str, int]
    classes: tuple[str, ...]
    made: tuple[str, ...]
    shorter_side: int
    groups: bool

    def __str__(self) -> str:
        """Return the summary as one line."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.images.items())
        made = f"; made here: {' and '.join(self.made)}" if self.made else ""
        return f"{sum(self.images.values()):,} images of {len(self.classes)} classes ({counts}{made})"


def import_folder(
    source: Path,
    data: Path,
    params: DataParams,
    replace: bool,
    skipped: Path | None = None,
    known: KnownFacts | None = None,
    change: Callable[[ImportSummary], Change] | None = None,
) -> ImportSummary:
    """Copy the class folders of `source`, with or without split folders, to `data/<split>/<class>/<file>`.

    Test and validation are made where they are missing (splits.py). Each file is read once, and what lay in `data`
    before is removed only when all of the new is in place; the new files are `known` then. Files that are no images are
    left out and listed in the CSV file `skipped`, where that is given. `change` says what else belongs to it. Raises UserError when `source` is no such folder
    or holds files that are no images (each is a note of the exception), when there is one class only, and when `data`
    has content and `replace` is false.
    """
    if not replace:
        if occupied(data):
            refuse_source(source, data)
        refuse_occupied(data, str(source))
    images = source_images(source, data)
    labels = sorted({image.label for image in images})
    if len(labels) < 2:
        raise UserError(f"{source} holds one class, {labels[0]!r}", "add a folder with images of another class")
    summary: ImportSummary
    with replacing_folder(data, (lambda: change(summary)) if change else None) as beside:
        # The hashes choose the splits, so a file is copied before its place is known.
        images, copies, facts = copied(source, images, beside, limits_of(params), skipped, known)
        sides = [image.split for image in images]
        made = tuple(split for split in ("test", "validation") if split not in sides)
        hashes = [found.sha256 for found in facts]
        for split in made:
            _carve(split, images, hashes, sides, params)
        place(copies, images, sides, beside)
        summary = ImportSummary(
            images={split: sides.count(split) for split in SPLITS},
            classes=tuple(labels),
            made=made,
            shorter_side=statistics.median_low(min(found.height, found.width) for found in facts),
            groups=any(image.group for image in images),
        )
    return summary


def refuse_occupied(data: Path, source: str) -> None:
    """Raise UserError where `data` has content."""
    if occupied(data):
        raise UserError(
            f"{data}/ is not empty", f"add --add to bring the images of {source} in beside those that are there"
        )


def source_images(source: Path, data: Path) -> list[SourceImage]:
    """Return the images of a folder or a CSV file, not yet read. Raises UserError where it cannot be imported."""
    refuse_source(source, data)
    return csv_list.images_of(source) if source.is_file() else class_folders.images_of(source)


def refuse_source(source: Path, data: Path) -> None:
    """Raise UserError where `source` is neither a folder outside of `data` nor a CSV file."""
    if not source.exists():
        raise UserError(f"there is no {source}", "give the path of a folder that holds one folder per class")
    if source.suffix.casefold() == ".csv" and source.is_file():
        return
    if not source.is_dir():
        if source.is_file() and (tarfile.is_tarfile(source) or zipfile.is_zipfile(source)):
            raise UserError(f"{source} is an archive", "unpack it and give the path of the folder")
        raise UserError(
            f"{source} is neither a folder nor a CSV file", "give the path of a folder that holds one folder per class"
        )
    inner, outer = source.resolve(), data.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UserError(f"one of {source} and {data}/ contains the other", "give a folder outside of data/")


def copied(
    source: Path,
    images: list[SourceImage],
    folder: Path,
    limits: Limits,
    skipped: Path | None,
    known: KnownFacts | None = None,
) -> tuple[list[SourceImage], list[Path], list[ImageFacts]]:
    """Copy every image into `folder` under a number; return the images, their copies and what is known of each.

    Raises one UserError about all unusable files; with `skipped` they are left out, and listed in that CSV file.
    """
    copies = [folder / f"{number}.copy" for number in range(len(images))]
    files_read = copy_all([image.path for image in images], copies, known, limits)
    read = progress.steps(files_read, "importing", len(images), "images")
    found = list(zip(images, copies, read, strict=True))
    usable = [(image, copy, facts) for image, copy, facts in found if isinstance(facts, ImageFacts)]
    faults = [(_within(source, image.path), reason) for image, _, reason in found if isinstance(reason, str)]
    if skipped is not None:
        skipped.unlink(missing_ok=True)
    if faults and (skipped is None or not usable):
        raise _unusable(source, faults, len(images))
    if faults and skipped is not None:
        table = pd.DataFrame.from_records(faults, columns=["path", "reason"])
        files.write_text(skipped, table.to_csv(index=False, lineterminator="\n"))
        _LOG.warning("left out %d of %d files, which are no usable images: see %s", len(faults), len(images), skipped)
    return [row[0] for row in usable], [row[1] for row in usable], [row[2] for row in usable]


def _unusable(source: Path, faults: list[tuple[str, str]], of: int) -> UserError:
    lines = [shown(f"{path}: {reason}") for path, reason in faults]
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    error = UserError(
        f"{len(lines)} of {of} files in {source} are no usable images: {lines[0]}{more}",
        "repair or remove them, or leave them out with --skip-bad",
    )
    for line in lines if len(lines) > 1 else []:
        error.add_note(line)
    return error


def _within(source: Path, path: Path) -> str:
    """Return a path as a person finds it, below the source if it lies there, as one safe line."""
    return shown((path.relative_to(source) if path.is_relative_to(source) else path).as_posix())


def limits_of(params: DataParams) -> Limits:
    """Return how large files and images may be."""
    return Limits.of(params.max_file_mb, params.max_megapixels)


def groups_of(images: Sequence[SourceImage], params: DataParams) -> list[str]:
    """Return the group of each image: the one that its source names, or the one by its path (params.group)."""
    by_path = groups.of((f"{image.label}/{file_name(image)}" for image in images), params.group)
    return [image.group or found for image, found in zip(images, by_path, strict=True)]


def _carve(split: str, images: list[SourceImage], hashes: list[str], sides: list[str], params: DataParams) -> None:
    """Move the chosen images from train to `split`."""
    fraction = params.test_fraction if split == "test" else params.validation_fraction
    train = [index for index, side in enumerate(sides) if side == "train"]
    members = groups_of([images[i] for i in train], params)
    chosen = splits.choose([images[i].label for i in train], [hashes[i] for i in train], fraction, params.seed, members)
    for index, moves in zip(train, chosen, strict=True):
        if moves:
            sides[index] = split


def place(
    copies: Iterable[Path],
    images: Iterable[SourceImage],
    sides: Iterable[str],
    folder: Path,
    taken: Iterable[tuple[str, str, str]] = (),
) -> None:
    """Move each image's copy to `folder`/<split>/<class>/<file>; `taken` (split, class, file) are there already."""
    names = {(split, label, name.casefold()) for split, label, name in taken}
    for copy, image, split in zip(copies, images, sides, strict=True):
        name = free_name(file_name(image), split, image.label, names)
        target = folder / split / image.label / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy.rename(target)


def file_name(image: SourceImage) -> str:
    """Return what an image's file is called in data/: a group that its source names stands before two underscores."""
    return stored(image.path.name, f"{image.group}__" if image.group else "")


def free_name(name: str, split: str, label: str, taken: set[tuple[str, str, str]]) -> str:
    """Return `name`, or the first of "name-2", "name-3", ... that no file of the class has, in whatever case."""
    file, free, number = PurePosixPath(name), name, 1
    while (split, label, free.casefold()) in taken:
        number += 1
        free = f"{file.stem}-{number}{file.suffix}"
    taken.add((split, label, free.casefold()))
    return free
