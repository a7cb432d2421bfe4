"""Slices: parts of the test images, by class, size, brightness and group, on which a model may be worse.

Shapes: N images, M slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from adaptformer.data import groups as grouping
from adaptformer.data.eval_images import Images
from adaptformer.evaluation import intervals
from adaptformer.evaluation.intervals import Interval

COLUMNS = ("width", "height", "brightness", "group")
"""Columns for slices in a table of predictions; tables written by earlier versions lack them."""

SUPPORT = 10
"""Smallest number of images in a slice: smaller slices would show nothing."""
_LEVEL = 0.05
_AT_ONCE = 256


@dataclass(frozen=True)
class Slice:
    """One slice of the test images: its top-1 with Wilson's interval, and top-1 of all other images.

    `p` is the p-value of the slice being worse than the others (Fisher's exact test), adjusted for the number of slices
    (Holm).
    """

    name: str
    images: int
    top1: Interval
    others: float
    p: float

    @property
    def shown_worse(self) -> bool:
        """Whether the slice is significantly worse than the rest."""
        return self.p < _LEVEL


def brightness(images: Images) -> NDArray[np.float64]:
    """Return the mean pixel value, 0 to 255, of each image [N] as prepared for evaluation, before the crop."""
    starts = range(0, len(images), _AT_ONCE)
    parts = [images[start : start + _AT_ONCE].mean(axis=(1, 2, 3), dtype=np.float64) for start in starts]
    return np.concatenate(parts) if parts else np.empty(0)


def masks(table: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Return a mask [N] for each slice by size, brightness and group, as far as the table has these columns.

    Size and brightness are divided into thirds; the size is the side of a square with the area of the image. Slices
    with fewer than SUPPORT images, or with all of them, are left out.
    """
    by_name: dict[str, NDArray[np.bool_]] = {}
    if {"width", "height"} <= set(table):
        area = table["width"].astype("float64") * table["height"].astype("float64")
        side = np.sqrt(area.to_numpy(np.float64))
        by_name |= _thirds("size", side, "px")
    if "brightness" in table:
        by_name |= _thirds("brightness", table["brightness"].astype("float64").to_numpy(np.float64), "of 255")
    if "group" in table:
        names = table["group"].fillna("").astype(str).to_numpy()
        by_name |= {f"group {name}": names == name for name in sorted(set(names) - {""})}
    return {name: mask for name, mask in by_name.items() if SUPPORT <= mask.sum() < len(mask)}


def groups(table: pd.DataFrame) -> NDArray[np.int64] | None:
    """Return the number of each image's recorded group [N]; None if no two images share a group."""
    return grouping.codes(table["group"].fillna("").astype(str).tolist()) if "group" in table else None


def find(
    correct: NDArray[np.bool_], slices: Mapping[str, NDArray[np.bool_]], groups: NDArray[np.int64] | None = None
) -> list[Slice]:
    """Return the slices, lowest top-1 first; `correct` [N] marks the correct answers.

    Intervals and tests take `groups` [N] into account: a slice counts as the number of independent images of the same
    precision. The test of a slice that is one group takes its images as independent: it is about this group alone.
    """
    rows = []
    for name, mask in slices.items():
        images, other_hits, others = int(mask.sum()), int(correct[~mask].sum()), int((~mask).sum())
        within = intervals.dense(None if groups is None else groups[mask])
        p = _p_worse(correct, mask, groups)
        rows.append((name, intervals.share(correct[mask], within), images, other_hits / others, p))
    adjusted = holm([row[-1] for row in rows])
    all_slices = [
        Slice(name, images, top1, others, p) for (name, top1, images, others, _), p in zip(rows, adjusted, strict=True)
    ]
    return sorted(all_slices, key=lambda slice_: (slice_.top1.value, slice_.name))


def _p_worse(correct: NDArray[np.bool_], mask: NDArray[np.bool_], groups: NDArray[np.int64] | None) -> float:
    """Return the p-value of Fisher's one-sided test that the share of right answers is lower within the mask [N]."""
    table = []
    for part in (mask, ~mask):
        images, right = float(part.sum()), float(correct[part].sum())
        if groups is not None and len(np.unique(groups[mask])) > 1:
            fewer = min(intervals.worth(correct[part].astype(np.float64), intervals.dense(groups[part])) / images, 1.0)
            images, right = images * fewer, right * fewer
        table.append([round(right), round(images) - round(right)])
    return float(fisher_exact(table, alternative="less")[1])


def sentence(listed: Sequence[Slice]) -> str:
    """Return a sentence that summarises the slices."""
    if not listed:
        return f"No slice has at least {SUPPORT} images."
    worst = next((slice_ for slice_ in listed if slice_.shown_worse), None)
    if worst is None:
        lowest = listed[0]
        return (
            f"No slice is shown to be worse than the rest; the lowest top-1 is {lowest.top1.value:.1%}, of "
            f"{lowest.images:,} images ({lowest.name})."
        )
    return (
        f"Worst slice: {worst.name}, top-1 {worst.top1.value:.1%} of {worst.images:,} images, {worst.others:.1%} of "
        "the others."
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values [M] adjusted for their number, in the same order.

    The probability that any adjusted value without an effect is below a level α is at most α. Holm, Scand. J. Stat. 6
    (1979) 65.
    """
    raw = np.asarray(p_values)
    order = np.argsort(raw)  # the order of equal values does not matter: the larger of their results counts
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1)), 1.0)
    return [float(value) for value in adjusted]


def _thirds(what: str, values: NDArray[np.floating[Any]], unit: str) -> dict[str, NDArray[np.bool_]]:
    low, high = np.quantile(values, [1 / 3, 2 / 3]) if len(values) else (0.0, 0.0)
    return {
        f"{what} up to {low:.0f} {unit}": values <= low,
        f"{what} {low:.0f} to {high:.0f} {unit}": (values > low) & (values <= high),
        f"{what} above {high:.0f} {unit}": values > high,
    }
