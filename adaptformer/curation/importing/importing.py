"""Import of labelled images into an empty data/, or in place of its content; makes missing splits."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptformer.base.errors import UserError
from adaptformer.config.params import DataParams
from adaptformer.curation.importing import listing, rules, sample, sources
from adaptformer.curation.importing.copying import Copied, Manner, copied, free_names, groups_of, place
from adaptformer.curation.importing.csv_list import GROUP_PATTERN
from adaptformer.curation.importing.listing import Image, Listing
from adaptformer.curation.importing.replacement import Change, replacing_folder
from adaptformer.data import splits
from adaptformer.data.layout import SPLITS, occupied

_LOG = logging.getLogger("adaptformer")


USUAL = Manner()


@dataclass(frozen=True)
class ImportSummary:
    """The result of an import: images per split, sorted class names, and the splits that the import made.

    `shorter_side` is the median of the images' shorter sides in pixels; `groups` is whether the source names groups.
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
    source: str | Path,
    data: Path,
    params: DataParams,
    replace: bool,
    manner: Manner = USUAL,
    change: Callable[[ImportSummary], Change] | None = None,
) -> ImportSummary:
    """Copy the images of `source`, with or without splits, to `data/<split>/<class>/<file>`.

    Missing test and validation splits are made (splits.py). Each file is read once, and the old content of `data` is
    removed only when all new files are in place. `change` returns the other parts of the change. Raises UserError for a
    source that cannot be read, holds unusable files (each is a note of the exception) or only one class, for images
    that `validate` would refuse, and if `data` has content and `replace` is false.
    """
    if not replace and occupied(data):
        sources.refuse(str(source), data)
        refuse_occupied(data, str(source))
    with sources.listing(str(source), data, manner.work, params.max_file_mb * 1_000_000) as listed:
        images = rules.checked(listed)
        rules.refuse_few_classes(images)
        return _imported(images, data, params, manner, change)


def _imported(
    images: Listing, data: Path, params: DataParams, manner: Manner, change: Callable[[ImportSummary], Change] | None
) -> ImportSummary:
    summary: ImportSummary
    with replacing_folder(data, (lambda: change(summary)) if change else None) as new_data:
        # The hashes choose the splits, so a file is copied before its place is known.
        taken = copied(images, new_data, params, manner)
        sides, made = splits_of(taken.images, taken.hashes, params)
        grouped = any(image.group for image in taken.images)
        names = free_names(taken.images, sides)
        group = GROUP_PATTERN if grouped else params.group_pattern
        rules.refuse_faulty_images(taken.images, taken.facts, sides, names, group)
        place(taken.copies, taken.images, sides, names, new_data)
        tell(images, taken, manner)
        summary = ImportSummary(
            images={split: sides.count(split) for split in SPLITS},
            classes=tuple(sorted({image.label for image in taken.images})),
            made=made,
            shorter_side=statistics.median_low(min(known.height, known.width) for known in taken.facts),
            groups=grouped,
        )
    return summary


def tell(images: Listing, taken: Copied, manner: Manner) -> None:
    """Log how the source was read, and what was left out and repaired; write the lists of these files, if requested."""
    for remark in images.remarks:
        _LOG.warning("%s: %s", images.source, remark)
    for line in listing.lines(taken.left_out):
        _LOG.warning("left out %s", line)
    for line in listing.lines(taken.repaired):
        _LOG.warning("took %s", line)
    if manner.left_out is not None:
        for path, rows in (
            (manner.left_out, taken.left_out),
            (manner.left_out.with_name("repaired.csv"), taken.repaired),
        ):
            listing.write(path, rows)
            if rows:
                _LOG.warning("all of that is listed in %s", path)


def refuse_occupied(data: Path, source: str, *, can_add: bool = True) -> None:
    """Raise UserError if `data` has content; its remedy replaces the sample, but never a user's own images."""
    if not occupied(data):
        return
    if sample.is_in(data):
        raise UserError(
            f"{data}/ holds the sample's digits", f"give --replace, and the images of {source} take their place"
        )
    add = f"give --add to import the images of {source} beside those that are there"
    raise UserError(f"{data}/ is not empty", add if can_add else f"move {data}/ away, then run the same command again")


def splits_of(images: Sequence[Image], hashes: Sequence[str], params: DataParams) -> tuple[list[str], tuple[str, ...]]:
    """Return the split of each image, by its sha256, and the splits that are made here because the source has none."""
    sides = [image.split for image in images]
    made = tuple(split for split in ("test", "validation") if split not in sides)
    for split in made:
        _carve(split, images, hashes, sides, params)
    return sides, made


def _carve(split: str, images: Sequence[Image], hashes: Sequence[str], sides: list[str], params: DataParams) -> None:
    """Move the chosen images from train to `split`."""
    fraction = params.test_fraction if split == "test" else params.validation_fraction
    train = [index for index, side in enumerate(sides) if side == "train"]
    members = groups_of([images[i] for i in train], params)
    is_moved = splits.choose(
        [images[i].label for i in train], [hashes[i] for i in train], fraction, params.seed, members
    )
    for index, moves in zip(train, is_moved, strict=True):
        if moves:
            sides[index] = split
