"""Gains and losses of a challenger in each class, with intervals that hold for few images and tests of the falls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptformer.evaluation import intervals, slices
from adaptformer.evaluation.intervals import CONFIDENCE, Interval, plain_wilson
from adaptformer.evaluation.slices import holm
from adaptformer.gate import sign_flips
from adaptformer.gate.paired_tests import Groups, fall
from adaptformer.gate.pairing import Pairs


@dataclass(frozen=True)
class ClassChange:
    """One shared class, or slice: its compared images, top-1 of both sides, and the difference with its 95 % interval.

    `p` is the p-value of any fall in top-1 (paired_tests.fall), adjusted for the number of classes that are tested
    (Holm); None for a class with too few images to be tested.
    """

    label: str
    images: int
    champion: float
    challenger: float
    gained: int
    lost: int
    change: float
    low: float
    high: float
    p: float | None


@dataclass(frozen=True)
class NewClass:
    """A class that only the challenger knows: its unseen images, and top-1 with its interval (None without images)."""

    label: str
    images: int
    top1: float | None
    low: float | None
    high: float | None


def class_changes(pairs: Pairs, support: int) -> tuple[ClassChange, ...]:
    """Return the shared classes that have compared images, the largest fall first; test those with `support` images."""
    labels = pairs.labels
    return _changes(pairs, {label: labels == index for index, label in enumerate(pairs.shared)}, support)


def slice_changes(pairs: Pairs) -> tuple[ClassChange, ...]:
    """Return the changes in slices by size, brightness and group (evaluation/slices.py), as far as recorded."""
    return _changes(pairs, slices.masks(pairs.rows), slices.SUPPORT)


def _changes(pairs: Pairs, parts: Mapping[str, NDArray[np.bool_]], support: int) -> tuple[ClassChange, ...]:
    ours, theirs, groups = pairs.right("challenger"), pairs.right("champion"), pairs.groups
    part_of = {}
    for label, mask in parts.items():
        if mask.any():
            within = intervals.dense(None if groups is None else groups[mask])
            part_of[label] = _Part(ours[mask], theirs[mask], within)
    tested = [label for label, part in part_of.items() if len(part.ours) >= support]
    p_of = dict(zip(tested, holm([fall(*part_of[label]) for label in tested]), strict=True))
    changes = [_change(label, part, p_of.get(label)) for label, part in part_of.items()]
    return tuple(sorted(changes, key=lambda change: (change.change, change.label)))


class _Part(NamedTuple):
    """Whether each side is right on some images [N], and the images' groups."""

    ours: NDArray[np.bool_]
    theirs: NDArray[np.bool_]
    groups: Groups


def _change(label: str, part: _Part, p: float | None) -> ClassChange:
    ours, theirs = part.ours, part.theirs
    gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    change = newcombe(int((ours & theirs).sum()), gained, lost, int((~ours & ~theirs).sum()))
    low, high = change.low, change.high
    if part.groups is not None:
        by_groups = sign_flips.top1(ours, theirs, part.groups, 0.0, (1 - CONFIDENCE) / 2)
        low, high = min(low, by_groups.low), max(high, by_groups.high)
    shares = float(theirs.mean()), float(ours.mean())
    return ClassChange(label, len(ours), *shares, gained, lost, change.value, low, high, p)


def new_classes(pairs: Pairs) -> tuple[NewClass, ...]:
    """Return the classes that only the challenger knows, by name."""
    result = []
    for label in pairs.new:
        rows = pairs.apart[pairs.apart["label"] == label]
        if len(rows) == 0:
            result.append(NewClass(label, 0, None, None, None))
            continue
        right = (rows["challenger_predicted"] == label).to_numpy(np.bool_)
        top1 = intervals.share(right, pairs.groups_of(rows))
        result.append(NewClass(label, len(rows), top1.value, top1.low, top1.high))
    return tuple(result)


def newcombe(both: int, gained: int, lost: int, neither: int) -> Interval:
    """Return the difference of two paired shares of hits with an interval built from Wilson's (method 10).

    `both` images are right on both sides, `gained` only on ours, `lost` only on theirs. The
    interval has a width even if no image changed. Newcombe, Stat. Med. 17 (1998) 2635.
    """
    images = both + gained + lost + neither
    ours, theirs = plain_wilson(both + gained, images), plain_wilson(both + lost, images)
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    cross: float = both * neither - gained * lost
    if cross > 0:  # the method's correction for continuity
        cross = max(cross - images / 2, 0)
    phi = cross / math.sqrt(margins) if margins else 0.0

    def distance(one: float, other: float) -> float:
        return math.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0))

    value = (gained - lost) / images
    return Interval(
        value,
        value - distance(ours.value - ours.low, theirs.high - theirs.value),
        value + distance(ours.high - ours.value, theirs.value - theirs.low),
    )
