"""Gains and losses of a challenger in each class, with intervals that hold for few images and tests of the falls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptformer.evaluation import slices
from adaptformer.evaluation.intervals import Interval, wilson
from adaptformer.evaluation.slices import holm
from adaptformer.gate.paired_tests import mcnemar
from adaptformer.gate.pairing import Pairs


@dataclass(frozen=True)
class ClassChange:
    """One shared class, or slice: its compared images, top-1 of both sides, and the difference with its 95 % interval.

    `p` is the p-value of a fall in top-1 (McNemar's exact, one-sided test), adjusted for the number of classes that
    are tested (Holm); None for a class with too few images to be tested.
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
    """Return the same of slices by size, brightness and group (evaluation/slices.py), where they are recorded."""
    return _changes(pairs, slices.masks(pairs.rows), slices.SUPPORT)


def _changes(pairs: Pairs, parts: Mapping[str, NDArray[np.bool_]], support: int) -> tuple[ClassChange, ...]:
    ours, theirs = pairs.right("challenger"), pairs.right("champion")
    counts = {}
    for label, of_class in parts.items():
        both = int((of_class & ours & theirs).sum())
        gained, lost = int((of_class & ours & ~theirs).sum()), int((of_class & theirs & ~ours).sum())
        counts[label] = (both, gained, lost, int(of_class.sum()) - both - gained - lost)
    tested = [label for label, found in counts.items() if sum(found) >= support]
    p_values = holm([mcnemar(gained=lost, lost=gained) for _, gained, lost, _ in map(counts.__getitem__, tested)])
    p_of = dict(zip(tested, p_values, strict=True))
    changes = [_change(label, *found, p_of.get(label)) for label, found in counts.items() if sum(found)]
    return tuple(sorted(changes, key=lambda change: (change.change, change.label)))


def _change(label: str, both: int, gained: int, lost: int, neither: int, p: float | None) -> ClassChange:
    images, change = both + gained + lost + neither, newcombe(both, gained, lost, neither)
    shares = ((both + lost) / images, (both + gained) / images)
    return ClassChange(label, images, *shares, gained, lost, change.value, change.low, change.high, p)


def new_classes(pairs: Pairs) -> tuple[NewClass, ...]:
    """Return the classes that only the challenger knows, by name."""
    result = []
    for label in pairs.new:
        rows = pairs.apart[pairs.apart["label"] == label]
        if len(rows) == 0:
            result.append(NewClass(label, 0, None, None, None))
            continue
        top1 = wilson(int((rows["challenger_predicted"] == label).sum()), len(rows))
        result.append(NewClass(label, len(rows), top1.value, top1.low, top1.high))
    return tuple(result)


def newcombe(both: int, gained: int, lost: int, neither: int) -> Interval:
    """Return the difference of two paired shares of hits with an interval built from Wilson's (method 10).

    `both` images are right on both sides, `gained` only on ours, `lost` only on theirs. Unlike the bootstrap it gives
    an interval with a width even where no image changed. Newcombe, Stat. Med. 17 (1998) 2635.
    """
    images = both + gained + lost + neither
    ours, theirs = wilson(both + gained, images), wilson(both + lost, images)
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
