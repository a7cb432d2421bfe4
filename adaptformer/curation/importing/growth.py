"""Addition of images to data/: existing images keep their splits, and only new ones are assigned."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptformer.base import progress
from adaptformer.base.errors import UserError
from adaptformer.base.names import refuse_class_names, shown
from adaptformer.config.params import DataParams
from adaptformer.curation.importing import importing, rules, sources
from adaptformer.curation.importing.copying import Manner, copied, free_names, groups_of, place
from adaptformer.curation.importing.csv_list import GROUP_PATTERN
from adaptformer.curation.importing.importing import USUAL
from adaptformer.curation.importing.listing import Image, Listing
from adaptformer.curation.importing.replacement import Change, replacing_folder
from adaptformer.data import groups, layout, splits
from adaptformer.data.layout import SPLITS, Entry
from adaptformer.data.stat_cache import known_hash

_LISTED = 20


@dataclass(frozen=True)
class Growth:
    """Result of an addition: new images by split and by class, images that were in data/ already, and new classes.

    `without` are the classes that got no image. `frozen` is the number of images that the first addition moved from
    train to data/validation/, so that later additions do not change the validation split.
    """

    added: dict[str, int]
    by_class: dict[str, int]
    already: int
    new_classes: tuple[str, ...]
    without: tuple[str, ...]
    frozen: int

    def lines(self) -> list[str]:
        """Return the result as lines for the terminal."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.added.items())
        lines = [
            f"added {sum(self.added.values()):,} images ({counts}), removed none; every other image kept its split"
        ]
        if self.already:
            lines.append(f"left out {self.already:,} that are in data/ already, byte by byte")
        if self.frozen:
            lines.append(frozen_line(self.frozen))
        if self.new_classes:
            lines.append(f"new classes: {', '.join(self.new_classes)}: a model trained before does not know them")
        if self.without and self.by_class:
            lines.append(f"classes that got no image: {', '.join(self.without)}")
        return lines


def add_images(
    source: str | Path,
    data: Path,
    params: DataParams,
    manner: Manner = USUAL,
    change: Callable[[Growth], Change] | None = None,
) -> Growth:
    """Copy the images of `source` that are not in `data` yet, beside those that are.

    If the source has splits, its images go to them. Otherwise the hash of an image, or of the name of its group,
    decides: it goes to test with probability test_fraction, and of the rest to validation with probability
    validation_fraction. A group that is in `data` already keeps its split, and a new class has two images outside test
    if possible. If `data` has no validation split, the one that `validate` would choose is moved to data/validation/
    first, because more images would change that choice. `data` changes as a whole or not at all; `change` returns the
    other parts of the change. Raises UserError as an import does, and for images that are in `data` under another
    class.
    """
    with sources.listing(str(source), data, manner.work, params.max_file_mb * 1_000_000) as listed:
        images = rules.checked(listed)
        present = _present(data)
        refuse_class_names({*(entry.label for entry in present), *(image.label for image in images.images)} - {""})
        _refuse_other_groups(images, params)
        read = progress.steps(present, "reading data/", len(present), "images")
        hashes = {entry: known_hash(data / entry.path, manner.known) for entry in read}
        return _added(images, data, params, manner, hashes, change)


def _present(data: Path) -> list[Entry]:
    present, faults = layout.entries(data) if data.is_dir() else ([], {})
    if faults or not present:
        raise UserError(
            f"{data}/ has {len(faults)} paths that are no images" if faults else f"there are no images in {data}/",
            "see `adaptformer validate`" if faults else "import without --add",
        )
    return present


def _refuse_other_groups(images: Listing, params: DataParams) -> None:
    if params.group_pattern != GROUP_PATTERN and any(image.group for image in images.images):
        raise UserError(
            f"{images.source} names groups, and data.group_pattern = {params.group_pattern!r} would not find them",
            f"leave the column group out, or set data.group_pattern to '{GROUP_PATTERN}' if it fits all files in data/",
        )


def _added(
    images: Listing,
    data: Path,
    params: DataParams,
    manner: Manner,
    hashes: dict[Entry, str],
    change: Callable[[Growth], Change] | None,
) -> Growth:
    kept, frozen = with_validation(list(hashes), hashes, params)
    classes = {entry.label for entry in kept}
    growth: Growth
    with replacing_folder(data, (lambda: change(growth)) if change else None) as new_data:
        taken = copied(images, new_data, params, manner)
        fresh = _not_there(taken.images, taken.hashes, hashes)
        new = [taken.images[i] for i in fresh]
        sides = _sides(new, [taken.hashes[i] for i in fresh], kept, hashes, params)
        names = free_names(new, sides, [(split, entry.label, Path(entry.path).name) for entry, split in kept.items()])
        there = [(f"{split}/{below_split(entry)}", entry.label, split, hashes[entry]) for entry, split in kept.items()]
        rules.refuse_faulty_images(new, [taken.facts[i] for i in fresh], sides, names, params.group_pattern, there)
        link(data, new_data, {entry.path: f"{split}/{below_split(entry)}" for entry, split in kept.items()})
        place([taken.copies[i] for i in fresh], new, sides, names, new_data)
        for i in set(range(len(taken.images))) - set(fresh):
            taken.copies[i].unlink()
        importing.tell(images, taken, manner)
        by_class = Counter(image.label for image in new)
        growth = Growth(
            added={split: sides.count(split) for split in SPLITS},
            by_class=dict(by_class),
            already=len(taken.images) - len(fresh),
            new_classes=tuple(sorted(set(by_class) - classes)),
            without=tuple(sorted(classes - set(by_class))),
            frozen=frozen,
        )
    return growth


def frozen_line(frozen: int) -> str:
    """Return a line for the terminal about the images that were moved from train to data/validation/."""
    return f"moved the {frozen:,} images that validation had so far to data/validation/: they stay there"


def with_validation(
    present: Sequence[Entry], hashes: dict[Entry, str], params: DataParams
) -> tuple[dict[Entry, str], int]:
    """Return the split of each present image, and the number of images that move from train to validation now.

    Images move only if data/validation/ is empty; they are those that `validate` chooses by their `hashes`.
    """
    kept = {entry: entry.split for entry in present}
    if "validation" in kept.values():
        return kept, 0
    train = [entry for entry in present if entry.split == "train"]
    members = groups.of((below_split(entry) for entry in train), params.group_pattern)
    labels = [entry.label for entry in train]
    is_validation = splits.choose(
        labels, [hashes[entry] for entry in train], params.validation_fraction, params.seed, members
    )
    moved = {entry: "validation" for entry, moves in zip(train, is_validation, strict=True) if moves}
    return kept | moved, len(moved)


def _not_there(images: Sequence[Image], news: Sequence[str], hashes: dict[Entry, str]) -> list[int]:
    """Return the indices of the images that are not in data/. Raises UserError if one is there under another class."""
    there = {sha256: entry for entry, sha256 in hashes.items()}
    clashes = [
        f"{shown(image.place)}: {image.label!r}, in data/ it is {there[sha256].path}"
        for image, sha256 in zip(images, news, strict=True)
        if sha256 in there and there[sha256].label != image.label
    ]
    if clashes:
        error = UserError(
            f"{len(clashes)} images are in data/ under another class: {clashes[0]}",
            "move the wrong one of each away, here or in data/ (then `dvc add data`), then run the same command again",
        )
        for clash in clashes[:_LISTED] if len(clashes) > 1 else []:
            error.add_note(clash)
        raise error
    return [index for index, sha256 in enumerate(news) if sha256 not in there]


def _sides(
    images: Sequence[Image],
    news: Sequence[str],
    kept: dict[Entry, str],
    hashes: dict[Entry, str],
    params: DataParams,
) -> list[str]:
    """Return the split of each new image."""
    if {image.split for image in images} - {"train"}:  # the source has splits of its own
        return [image.split for image in images]
    old = list(kept)
    members = [*groups.of(map(below_split, old), params.group_pattern), *groups_of(images, params)]
    together = splits.units([*(hashes[entry] for entry in old), *news], members)
    known = dict(zip(together, kept.values(), strict=False))
    units = together[len(old) :]
    side_of = {unit: known.get(unit) or _side(unit, params) for unit in units}
    _leave_enough_to_train(side_of, set(units) - set(known), units, images, {entry.label for entry in old})
    return [side_of[unit] for unit in units]


def _leave_enough_to_train(
    side_of: dict[str, str], movable: set[str], units: Sequence[str], images: Sequence[Image], classes: set[str]
) -> None:
    """Move units to train for each new class that has no unit there, or fewer than two outside test."""
    members: dict[str, list[str]] = {}
    for unit, image in zip(units, images, strict=True):
        if image.label not in classes and unit not in members.setdefault(image.label, []):
            members[image.label].append(unit)
    for own in members.values():
        for source, enough in (("test", 2), ("validation", 1)):
            targets = {"test": ("train", "validation"), "validation": ("train",)}[source]
            spare = sorted(unit for unit in own if side_of[unit] == source and unit in movable)
            while spare and sum(side_of[unit] in targets for unit in own) < enough:
                side_of[spare.pop(0)] = "train"


def _side(unit: str, params: DataParams) -> str:
    if splits.share(f"test of {unit}", params.seed) < params.test_fraction:
        return "test"
    return "validation" if splits.share(f"validation of {unit}", params.seed) < params.validation_fraction else "train"


def link(data: Path, folder: Path, places: Mapping[str, str]) -> None:
    """Hard-link files of `data` into another folder, by path and new path; copy them if links are impossible."""
    for path, new in places.items():
        target = folder / new
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(data / path, target, follow_symlinks=False)
        except OSError:
            shutil.copy2(data / path, target, follow_symlinks=False)


def below_split(entry: Entry) -> str:
    """Return CLASS/FILE of an image in data/."""
    return entry.path.partition("/")[2]
