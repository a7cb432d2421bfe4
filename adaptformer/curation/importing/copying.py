"""Copying of images into a folder beside data/, each read once, and the names of their files there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from adaptformer.base import progress
from adaptformer.base.errors import UserError
from adaptformer.base.names import shown, stored
from adaptformer.config.params import DataParams
from adaptformer.curation.importing import rules
from adaptformer.curation.importing.listing import Image, LeftOut, Listing
from adaptformer.data import groups, image_files, repair
from adaptformer.data.decoding import TRUNCATED
from adaptformer.data.image_facts import MIN_SIDE, ImageFacts
from adaptformer.data.image_files import Limits
from adaptformer.data.image_scan import ReadOptions, copy_all, read_facts
from adaptformer.data.stat_cache import StatCache


@dataclass(frozen=True)
class Manner:
    """How a source is imported.

    `skip_bad` leaves out unusable files; `repair` accepts truncated JPEG files, after repair. Everything left out is
    listed in the CSV file `left_out`, if given, and repaired files in repaired.csv beside it. Shards and buckets are
    copied into the folder `work` first. The facts of the new files are added to `known`.
    """

    skip_bad: bool = False
    left_out: Path | None = None
    work: Path = Path("artifacts/downloads/source")
    known: StatCache | None = None
    repair: bool = False


class Copied(NamedTuple):
    """The usable images, their copies and facts, everything left out of the source, and the repaired images.

    The reason of a `repaired` image says how much of it is missing.
    """

    images: list[Image]
    copies: list[Path]
    facts: list[ImageFacts]
    left_out: list[LeftOut]
    repaired: list[LeftOut]

    @property
    def hashes(self) -> list[str]:
        """The sha256 of each image."""
        return [one.sha256 for one in self.facts]


def copied(listing: Listing, folder: Path, params: DataParams, manner: Manner) -> Copied:
    """Copy every image into `folder` under a number.

    Unusable files, and images with the same bytes in several classes or splits, are left out if `manner.skip_bad` is
    set. Raises one UserError about all of them if it is not set, or if no image is left.
    """
    limits = Limits.of(params.max_file_mb, params.max_megapixels)
    readable = [image for image in listing.images if not image.fault]
    copies = [folder / f"{number}.copy" for number in range(len(readable))]
    files_read = copy_all([image.path for image in readable], copies, ReadOptions(manner.known, limits))
    read = zip(copies, progress.steps(files_read, "importing", len(readable), "images"), strict=True)
    usable, faults, repaired = [], [], list[LeftOut]()
    for image in listing.images:
        if image.fault:
            faults.append(LeftOut(image.place, image.fault))
            continue
        copy, facts = next(read)
        if facts == TRUNCATED and manner.repair and (mended := _repaired(image, copy, limits)):
            facts, repair = mended
            repaired.append(repair)
        if isinstance(facts, str):
            faults.append(LeftOut(image.place, facts))
        elif min(facts.width, facts.height) < MIN_SIDE:
            copy.unlink()
            faults.append(LeftOut(image.place, f"{facts.width} x {facts.height} pixels: too small"))
        else:
            usable.append((image, copy, facts))
    if faults and not (manner.skip_bad and usable):
        raise _unusable(listing, faults)
    wrong = rules.contradictions([image for image, _, _ in usable], [facts.sha256 for _, _, facts in usable])
    if not manner.skip_bad:
        rules.refuse_contradictions(listing, wrong.values())
    for index in wrong:
        usable[index][1].unlink()
    kept = [row for index, row in enumerate(usable) if index not in wrong]
    left_out = [*listing.left_out, *faults, *wrong.values()]
    return Copied([row[0] for row in kept], [row[1] for row in kept], [row[2] for row in kept], left_out, repaired)


def _repaired(image: Image, copy: Path, limits: Limits) -> tuple[ImageFacts, LeftOut] | None:
    """Write a truncated JPEG to `copy` with an end; return what is known of it then, and how much of it is grey."""
    mended = repair.with_end(image_files.read(image.path, limits.bytes), limits.pixels)
    if mended is None:
        return None
    copy.write_bytes(mended.content)
    facts = read_facts(copy, options=ReadOptions(limits=limits))
    if isinstance(facts, str):
        return None
    what = f"{mended.grey:,} of {mended.rows:,} rows are grey" if mended.grey else "no row is grey, it is less sharp"
    return facts, LeftOut(image.place, f"a truncated JPEG, repaired: {what}")


def _unusable(listing: Listing, faults: Sequence[LeftOut]) -> UserError:
    lines = [shown(f"{place}: {reason}") for place, reason in faults]
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    error = UserError(
        f"{len(lines)} of {len(listing.images)} files in {listing.source} are no usable images: {lines[0]}{more}",
        "repair them or move them away, or leave them out with --skip-bad",
    )
    for line in lines if len(lines) > 1 else []:
        error.add_note(line)
    return error


def groups_of(images: Sequence[Image], params: DataParams) -> list[str]:
    """Return the group of each image: the one that its source names, else that of its path (group_pattern)."""
    named = zip(images, stored_names(images), strict=True)
    by_path = groups.of((f"{image.label}/{name}" for image, name in named), params.group_pattern)
    return [image.group or group for image, group in zip(images, by_path, strict=True)]


def stored_names(images: Sequence[Image]) -> list[str]:
    """Return the names of the images' files in data/, before numbers make equal names distinct.

    A group that the source names stands before two underscores. In a source that names groups, an image without a group
    must not seem to have one: double underscores in its name become single ones.
    """
    grouped = any(image.group for image in images)
    return [
        stored(image.name, f"{image.group}__")
        if image.group
        else stored(_without_double(image.name) if grouped else image.name)
        for image in images
    ]


def _without_double(name: str) -> str:
    while "__" in name:
        name = name.replace("__", "_")
    return name


def free_names(images: Sequence[Image], sides: Sequence[str], taken: Iterable[tuple[str, str, str]] = ()) -> list[str]:
    """Return the final name of each image's file; `taken` are the files (split, class, name) that exist already."""
    names = {(split, label, name.casefold()) for split, label, name in taken}
    return [
        free_name(name, side, image.label, names)
        for image, name, side in zip(images, stored_names(images), sides, strict=True)
    ]


def free_name(name: str, split: str, label: str, taken: set[tuple[str, str, str]]) -> str:
    """Return the first of `name`, "name-2", ... that no file of the class has, ignoring case, and mark it as taken."""
    file, free, number = PurePosixPath(name), name, 1
    while (split, label, free.casefold()) in taken:
        number += 1
        free = f"{file.stem}-{number}{file.suffix}"
    taken.add((split, label, free.casefold()))
    return free


def place(
    copies: Iterable[Path], images: Iterable[Image], sides: Iterable[str], names: Iterable[str], folder: Path
) -> None:
    """Move each image's copy to `folder`/<split>/<class>/<name>."""
    for copy, image, split, name in zip(copies, images, sides, names, strict=True):
        target = folder / split / image.label / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy.rename(target)
