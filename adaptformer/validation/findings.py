"""Findings about a data set: properties that are no faults but may spoil a model, each with kind, level and remedy.

`checks` in params.yaml gives each kind a level: `error` stops the run, `warn` is shown on the page, in the file and in
the terminal, `none` turns the check off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptformer.base import csv_file, files
from adaptformer.base.errors import UserError
from adaptformer.config.params import ChecksParams
from adaptformer.data.layout import SPLITS
from adaptformer.validation import near_duplicates

COLUMNS = ("kind", "level", "path", "other", "detail")
FIXES = {
    "leaks": "keep the photo in one split, or test results flatter the model",
    "conflicts": "keep the photo in its one right class",
    "repeats": "keep one of them: the same photo counts more than once",
    "constant": "move the image out of data/: it shows nothing",
    "dark": "check whether the image shows anything, and whether its format was read correctly",
    "bright": "check whether the image shows anything, and whether its format was read correctly",
    "low_contrast": "check whether the image shows anything, and whether its format was read correctly",
    "sixteen_bits": "set image.sixteen_bit_max to the largest value of the camera, such as 4095 for 12 bits",
    "small": "get the image in its original size, or move it out of data/",
    "odd_modes": "check whether these images come from another source than the rest",
    "imbalance": "add images of the small class, or set tuning.balance",
    "few_images": "add images of the class",
    "missing_classes": "add images of the class to the split, or its accuracy there is unknown",
}
"""The remedy for each kind of finding; the keys are those of the section `checks`."""

_PAIRS = ("leaks", "conflicts", "repeats")
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


def find(manifest: pd.DataFrame, pictures: NDArray[np.uint8] | None, levels: ChecksParams) -> pd.DataFrame:
    """Return all findings about a manifest [N rows], in the order of FIXES; no rows if there are none.

    `pictures` [N, s, s, 3] are the small pictures of its images (reading.small_picture); None if `needs_pictures` is
    false. The columns are COLUMNS: `path` is that of an image or SPLIT/CLASS, `other` that of an image that it repeats.
    """
    counts = pd.crosstab(manifest["label"], manifest["split"])
    found = [*of_classes(counts.reindex(columns=list(SPLITS), fill_value=0)), *_of_images(manifest)]
    if pictures is not None:
        for index, kind, detail in of_pictures(pictures, list(manifest["mode"])):
            found.append((kind, manifest["path"].iloc[index], "", detail))
        if any(getattr(levels, kind) != "none" for kind in _PAIRS):
            found += _pairs(manifest, near_duplicates.pairs(pictures))
    rows = [
        (kind, getattr(levels, kind), path, other, detail)
        for kind, path, other, detail in sorted(found, key=lambda row: (list(FIXES).index(row[0]), row[1:]))
        if getattr(levels, kind) != "none"
    ]
    return pd.DataFrame.from_records(rows, columns=list(COLUMNS)).astype("str")


def needs_pictures(levels: ChecksParams) -> bool:
    """Return whether a check that is turned on needs pixels."""
    return any(getattr(levels, kind) != "none" for kind in (*_PAIRS, *_SEEN))


def lines(findings: pd.DataFrame) -> list[str]:
    """Return one line for each kind: the first finding, the number of the others, and the remedy."""
    said = []
    for kind, group in findings.groupby("kind", sort=False):
        first = group.iloc[0]
        more = f" and {len(group) - 1:,} more" if len(group) > 1 else ""
        said.append(f"{str(kind).replace('_', ' ')}: {first['path']}: {first['detail']}{more}; {FIXES[str(kind)]}")
    return said


def write(path: Path, findings: pd.DataFrame) -> None:
    """Write the findings as CSV, each with its remedy."""
    table = findings.assign(fix=findings["kind"].map(FIXES).astype("str"))
    files.write_text(path, csv_file.text(table))


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Return the pairs of images that show the same photo, from the findings at `path`; none if there is no file.

    Raises UserError for a file that cannot be read.
    """
    if not path.is_file():
        return []
    try:
        table = csv_file.read(path)
        found = table[table["kind"].isin(_PAIRS) & (table["other"] != "")]
        return list(zip(found["path"], found["other"], strict=True))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read: {error}", "write it again with `adaptformer validate`") from error


def raise_on_errors(findings: pd.DataFrame, csv_path: Path) -> None:
    """Raise UserError if a finding's level is `error`."""
    errors = findings[findings["level"] == "error"]
    if len(errors):
        kinds = sorted(errors["kind"].unique())
        raise UserError(
            f"data/ has {len(errors)} findings whose level is error: {lines(errors)[0]}",
            f"see {csv_path}; correct data/, run `dvc add data` and the same command again, or set "
            f"{' and '.join(f'checks.{kind}' for kind in kinds)} to warn",
        )


def _pairs(manifest: pd.DataFrame, pairs: NDArray[np.int64]) -> Iterable[tuple[str, str, str, str]]:
    """Yield the findings of each pair of near duplicates [P, 2]; pairs of equal bytes are found without pixels."""
    columns = ("path", "split", "label", "sha256")
    paths, splits, labels, hashes = (manifest[column].to_numpy() for column in columns)
    for first, second in pairs:
        if hashes[first] == hashes[second]:
            continue
        for kind in of_pair((splits[first], labels[first]), (splits[second], labels[second])):
            yield kind, paths[first], paths[second], f"seems to show the same photo as {paths[second]}"


def of_pair(first: tuple[str, str], second: tuple[str, str]) -> list[str]:
    """Return the kinds of finding for two images of one photo, by the split and the class of each."""
    differ = [kind for kind, one, other in zip(("leaks", "conflicts"), first, second, strict=True) if one != other]
    return differ or ["repeats"]


def _of_images(manifest: pd.DataFrame) -> Iterable[tuple[str, str, str, str]]:
    same = manifest[manifest.duplicated(["split", "sha256"])]
    firsts = manifest.drop_duplicates(["split", "sha256"]).set_index(["split", "sha256"])["path"]
    for path, split, sha256 in same[["path", "split", "sha256"]].itertuples(index=False):
        other = str(firsts[split, sha256])
        yield "repeats", path, other, f"has the same bytes as {other}"
    for path, width, height in manifest[["path", "width", "height"]].itertuples(index=False):
        if min(width, height) < SMALL:
            yield "small", path, "", f"{width} x {height} pixels"
    odd = odd_modes(Counter(manifest["mode"]))
    for path, mode in manifest[["path", "mode"]].itertuples(index=False):
        if mode in odd:
            yield "odd_modes", path, "", odd[mode]


def odd_modes(counts: Mapping[str, int]) -> dict[str, str]:
    """Return a detail for each mode that few images have, from the number of images of each mode."""
    total = sum(counts.values())
    return {
        mode: f"mode {mode}, as {count} of {total:,} images have it"
        for mode, count in counts.items()
        if total >= _MANY and count <= _ODD * total
    }


def of_pictures(pictures: NDArray[np.uint8], modes: Sequence[str]) -> Iterable[tuple[int, str, str]]:
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


def of_classes(counts: pd.DataFrame) -> Iterable[tuple[str, str, str, str]]:
    """Yield the findings about numbers of images; `counts` has a row for each class and a column for each split."""
    largest = counts["train"].max()
    for label, train, validation, test in counts.itertuples():
        for split, count in (("validation", validation), ("test", test)):
            if not count:
                yield "missing_classes", f"{split}/{label}", "", f"no images in {split}"
        if train < _FEW_IMAGES:
            yield "few_images", f"train/{label}", "", f"{train} images in train"
        if largest > _IMBALANCE * max(train, 1):
            detail = f"{train:,} images in train, {counts['train'].idxmax()} has {largest:,}"
            yield "imbalance", f"train/{label}", "", detail
