"""Findings about a data set: properties that are no faults but may spoil a model, each with kind, level and remedy.

`checks` in params.yaml gives each kind a level: `error` stops the run, `warn` is shown on the page, in the file and in
the terminal, `none` turns the check off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptformer.base import csv_file, files
from adaptformer.base.errors import UserError
from adaptformer.config.params import ChecksParams
from adaptformer.curation.checks import near_duplicates
from adaptformer.data.layout import SPLITS

COLUMNS = ("kind", "level", "path", "other", "detail", "fix")
FIXES = {
    "leaks": "keep the photo in one split, or test results flatter the model",
    "label_conflicts": "keep the photo in its one right class",
    "duplicates": "keep one of them: the same photo counts more than once",
    "constant": "move the image out of data/: it shows nothing",
    "dark": "check whether the image shows anything, and whether its format was read correctly",
    "bright": "check whether the image shows anything, and whether its format was read correctly",
    "low_contrast": "check whether the image shows anything, and whether its format was read correctly",
    "sixteen_bits": "set image.sixteen_bit_max to the largest value of the camera, such as 4095 for 12 bits",
    "small": "get the image in its original size, or move it out of data/",
    "rare_modes": "check whether these images come from another source than the rest",
    "imbalance": "add images of the small class, or set training.class_balance",
    "few_images": "add images of the class",
    "missing_classes": "add images of the class to the split, or its accuracy there is unknown",
}
"""The remedy for each kind of finding; the keys are those of the section `checks`."""
UNREADABLE = "unreadable"
"""The kind of a file that is no usable image; `validate` calls it a fault, so it has no level in `checks`."""
_FIXES = {UNREADABLE: "repair the file, or move it away", **FIXES}

PLACE = ("path", "split", "label")
"""The columns that decide which kind of finding a pair of images is."""
SAME_BYTES, SAME_PHOTO = "has the same bytes as", "seems to show the same photo as"
_PAIRS = ("leaks", "label_conflicts", "duplicates")
_SEEN = ("constant", "dark", "bright", "low_contrast", "sixteen_bits")
_DARK, _BRIGHT, _FLAT = 10, 245, 4
"""Limits, on a scale of 255, of the mean level (two) and of the standard deviation: an image below _DARK, above _BRIGHT
or with a deviation below _FLAT is likely to show nothing."""
_FEW_BITS = 64
"""A 16-bit image whose largest level, on a scale of 255, is at most this has at most 14 bits."""
_CONTRAST = 1.5
"""A picture whose levels, on a scale of 255, have a smaller standard deviation shows nothing."""
SMALL = 16
"""An image whose shorter side has fewer pixels is a finding."""
_ODD, _MANY = 0.01, 100
"""A mode is odd if at most the share _ODD of at least _MANY images has it."""
_FEW_IMAGES, _IMBALANCE = 10, 10


class Finding(NamedTuple):
    """A finding: its kind, the path of an image or SPLIT/CLASS, the image that it repeats if there is one, a detail."""

    kind: str
    path: str
    other: str
    detail: str


@dataclass(frozen=True)
class Summary:
    """The number of findings of each kind, and a line for each kind, both in the order of the remedies."""

    counts: dict[str, int]
    lines: dict[str, str]


def find(manifest: pd.DataFrame, pictures: NDArray[np.uint8] | None, levels: ChecksParams) -> list[Finding]:
    """Return the findings about a manifest [N rows] whose level is not `none`, in the order of FIXES.

    `pictures` [N, s, s, 3] are the small pictures of its images (reading.small_picture); None if `needs_pictures` is
    false.
    """
    counts = pd.crosstab(manifest["label"], manifest["split"]).reindex(columns=list(SPLITS), fill_value=0)
    rows = [*of_classes(counts), *of_images(manifest, pictures, rare_modes(Counter(manifest["mode"])))]
    rows += of_pairs(places(manifest, _copies(manifest)), SAME_BYTES)
    if pictures is not None and wants_pairs(levels):
        pairs = near_duplicates.pairs(pictures)
        hashes = manifest["sha256"].to_numpy()[pairs]  # pairs of equal bytes are found without pixels
        rows += of_pairs(places(manifest, pairs[hashes[:, 0] != hashes[:, 1]]), SAME_PHOTO)
    order = {kind: number for number, kind in enumerate(FIXES)}
    kept = (row for row in rows if level(row.kind, levels) != "none")
    return sorted(kept, key=lambda row: (order[row.kind], row[1:]))


def level(kind: str, levels: ChecksParams) -> str:
    """Return the level of a kind: error, warn or none."""
    return "warn" if kind == UNREADABLE else str(getattr(levels, kind))


def wants_pairs(levels: ChecksParams) -> bool:
    """Return whether a check that is turned on needs the pairs of near duplicates."""
    return any(level(kind, levels) != "none" for kind in _PAIRS)


def needs_pictures(levels: ChecksParams) -> bool:
    """Return whether a check that is turned on needs pixels."""
    return wants_pairs(levels) or any(level(kind, levels) != "none" for kind in _SEEN)


def write(path: Path, findings: Iterable[Finding], levels: ChecksParams) -> Summary:
    """Write the findings whose level is not `none` as CSV, each with its remedy, and return their summary.

    The findings are written as they come, so memory does not grow with their number.
    """
    firsts: dict[str, Finding] = {}
    numbers: Counter[str] = Counter()
    with files.replacing(path) as new_file, new_file.open("w", encoding="utf-8", newline="") as file:
        rows = csv_file.Writer(file)
        rows.row(COLUMNS)
        for finding in findings:
            if (its_level := level(finding.kind, levels)) != "none":
                rows.row([finding.kind, its_level, *finding[1:], _FIXES[finding.kind]])
                firsts.setdefault(finding.kind, finding)
                numbers[finding.kind] += 1
    kinds = [kind for kind in _FIXES if kind in numbers]
    lines = {}
    for kind in kinds:
        more = f" and {numbers[kind] - 1:,} more" if numbers[kind] > 1 else ""
        lines[kind] = f"{kind.replace('_', ' ')}: {firsts[kind].path}: {firsts[kind].detail}{more}; {_FIXES[kind]}"
    return Summary({kind: numbers[kind] for kind in kinds}, lines)


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Return the pairs of images that show the same photo, from the findings at `path`; none if there is no file.

    Raises UserError for a file that cannot be read.
    """
    if not path.is_file():
        return []
    try:
        table = csv_file.read(path)
        pairs = table[table["kind"].isin(_PAIRS) & (table["other"] != "")]
        return list(zip(pairs["path"], pairs["other"], strict=True))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read: {error}", "write it again with `adaptformer validate`") from error


def raise_on_errors(summary: Summary, levels: ChecksParams, subject: str, remedy: str) -> None:
    """Raise UserError about `subject` if the level of a finding is `error`; a lower level is named beside `remedy`."""
    if errors := [kind for kind in summary.counts if level(kind, levels) == "error"]:
        number = sum(summary.counts[kind] for kind in errors)
        keys = " and ".join(f"checks.{kind}" for kind in sorted(errors))
        raise UserError(
            f"{subject} {number:,} findings whose level is error: {summary.lines[errors[0]]}",
            f"{remedy}, or set {keys} to warn",
        )


def places(images: pd.DataFrame, pairs: NDArray[np.int64]) -> pd.DataFrame:
    """Return PLACE of both images of each pair [P, 2] of row numbers, in the columns first_path, ..., second_label."""
    sides = [
        images[list(PLACE)].iloc[pairs[:, side]].add_prefix(prefix).reset_index(drop=True)
        for side, prefix in enumerate(("first_", "second_"))
    ]
    return pd.concat(sides, axis=1)


def of_pairs(pairs: pd.DataFrame, relation: str) -> Iterator[Finding]:
    """Yield the findings about pairs of images of one photo, given as `places` returns them."""
    columns = [f"{which}_{name}" for which in ("first", "second") for name in PLACE]
    for path, split, label, other, other_split, other_label in pairs[columns].itertuples(index=False, name=None):
        kinds = [
            kind
            for kind, differs in (("leaks", split != other_split), ("label_conflicts", label != other_label))
            if differs
        ]
        for kind in kinds or ["duplicates"]:
            yield Finding(kind, path, other, f"{relation} {other}")


def _copies(manifest: pd.DataFrame) -> NDArray[np.int64]:
    """Return the rows [P, 2] of the first image and of each further one with the same bytes in one split."""
    numbers = pd.Series(range(len(manifest)))
    firsts = numbers.groupby([manifest["split"].to_numpy(), manifest["sha256"].to_numpy()]).transform("min")
    repeated = numbers != firsts
    return np.stack([numbers[repeated], firsts[repeated]], axis=1).astype(np.int64)


def of_images(images: pd.DataFrame, pictures: NDArray[np.uint8] | None, rare: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the findings about single images [N rows] and their small pictures [N, s, s, 3]; `rare` as `rare_modes`."""
    paths, modes = images["path"].to_list(), images["mode"].to_list()
    if pictures is not None:
        for index, kind, detail in of_pictures(pictures, modes):
            yield Finding(kind, paths[index], "", detail)
    for path, mode, width, height in zip(paths, modes, images["width"], images["height"], strict=True):
        if min(width, height) < SMALL:
            yield Finding("small", path, "", f"{width} x {height} pixels")
        if mode in rare:
            yield Finding("rare_modes", path, "", rare[mode])


def rare_modes(counts: Mapping[str, int]) -> dict[str, str]:
    """Return a detail for each mode that few images have, from the number of images of each mode."""
    total = sum(counts.values())
    return {
        mode: f"mode {mode}, as {count} of {total:,} images have it"
        for mode, count in counts.items()
        if total >= _MANY and count <= _ODD * total
    }


def of_pictures(pictures: NDArray[np.uint8], modes: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Yield index, kind and detail of each small picture [N, s, s, 3] that shows little, by the images' `modes`."""
    pixels = pictures.reshape(len(pictures), -1, 3)
    contrast = pixels.std(axis=1).max(axis=1)
    mean, largest = pixels.mean(axis=(1, 2)), pixels.max(axis=(1, 2), initial=0)
    for index, mode in enumerate(modes):
        level = f"its mean level is {mean[index]:.0f} of 255"
        if contrast[index] < _CONTRAST:
            yield index, "constant", "all of it has one colour"
        if mode.startswith("I") and 0 < largest[index] <= _FEW_BITS:
            yield index, "sixteen_bits", f"16 bits whose values end at about {int(largest[index]) * 257:,} of 65,535"
        elif contrast[index] >= _CONTRAST:
            if mean[index] < _DARK:
                yield index, "dark", level
            elif mean[index] > _BRIGHT:
                yield index, "bright", level
            elif contrast[index] < _FLAT:
                yield index, "low_contrast", f"its levels deviate by {contrast[index]:.1f} of 255 from their mean"


def of_classes(counts: pd.DataFrame) -> Iterator[Finding]:
    """Yield the findings about numbers of images; `counts` has a row for each class and a column for each split."""
    largest = counts["train"].max()
    for label, train, validation, test in counts.itertuples():
        for split, count in (("validation", validation), ("test", test)):
            if not count:
                yield Finding("missing_classes", f"{split}/{label}", "", f"no images in {split}")
        if train < _FEW_IMAGES:
            yield Finding("few_images", f"train/{label}", "", f"{train} images in train")
        if largest > _IMBALANCE * max(train, 1):
            detail = f"{train:,} images in train, {counts['train'].idxmax()} has {largest:,}"
            yield Finding("imbalance", f"train/{label}", "", detail)
