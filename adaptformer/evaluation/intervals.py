"""95 % intervals of metrics, from the number of test images.

Each is Wilson's interval of a share, computed for the number of independent images with the same precision. That number
is smaller than the number of images if images come in groups or classes differ in size. So every interval has a width,
even if all answers are correct.

Shapes: N images, C classes, R resamples, U sums over groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv
from scipy.stats import norm, t

from adaptformer.base import randomness
from adaptformer.base.classification_scores import Counts, Metric, score

CONFIDENCE = 0.95
_Z = float(norm.ppf((1 + CONFIDENCE) / 2))
_RESAMPLES = 400
_PRIOR = 4.0
"""Prior weight, in images, of the mean accuracy in each class's accuracy, for estimating the bias of macro-F1."""

Groups = NDArray[np.int64] | None
"""The group of each image; None if images are independent of each other (data/groups.py)."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval: 95 % of such intervals contain the true value."""

    value: float
    low: float
    high: float

    def to_list(self) -> list[float]:
        """Return [low, high], rounded for JSON."""
        return [round(self.low, 6), round(self.high, 6)]


@cache  # classes of the same size need the same intervals
def wilson(hits: int, images: int) -> Interval:
    """Return the share of hits with Wilson's score interval, which is valid for few images and for shares of 0 and 1.

    Wilson, J. Am. Stat. Assoc. 22 (1927). If only one to three images are hits, or misses, the limit nearer to that end
    comes from the Poisson distribution: Wilson's would cover as little as 84 % there. Brown, Cai & DasGupta, Stat. Sci.
    16 (2001) 112. NaN if there are no images.
    """
    return Interval(math.nan, 0.0, 1.0) if images == 0 else _at(hits / images, images)


@cache
def plain_wilson(hits: int, images: int) -> Interval:
    """Return the share of hits with Wilson's interval as published, without the correction of `wilson`."""
    return Interval(hits / images, *_wilson(hits / images, images))


def dense(groups: Groups) -> Groups:
    """Return the groups of some images, renumbered from 0; None if each of these images is alone in its group."""
    if groups is None:
        return None
    names, codes = np.unique(groups, return_inverse=True)
    return codes.astype(np.int64) if len(names) < len(codes) else None


def share(right: NDArray[np.bool_], groups: Groups) -> Interval:
    """Return the share of correct answers [N] with its interval; NaN if there are no answers."""
    if groups is None or not len(right):
        return wilson(int(right.sum()), len(right))
    return mean(right.astype(np.float64), groups)


def mean(values: Floats, groups: Groups) -> Interval:
    """Return the mean, with its interval, of one share (0 to 1) per image [N], such as the share of correct runs."""
    return _at(float(values.mean()), worth(values, groups))


def worth(values: Floats, groups: Groups) -> float:
    """Return how many independent images would give the mean of one share per image [N] the same precision."""
    value = float(values.mean())
    deviations = (values - value) / len(values)
    spread = float((deviations**2).sum())
    images = value * (1 - value) / spread if spread else float(len(values))
    return images / _as_one(deviations, values < 0.5, groups)


def independent(metric: Metric, labels: Counts, predicted: Counts, classes: int, groups: Groups) -> float:
    """Return the number of independent images, in classes of equal size, that would give the metric this precision."""
    value = score(metric, labels, predicted, classes)
    deviations, most = _deviations(metric, labels, predicted, classes, value)
    spread = float((deviations**2).sum())
    images = min(value * (1 - value) / spread, most) if spread and 0 < value < 1 else most
    return images / _as_one(deviations, predicted != labels, groups)


def interval(metric: Metric, labels: Counts, predicted: Counts, classes: int, groups: Groups = None) -> Interval:
    """Return one metric of predictions [N] against true labels [N], with its interval."""
    if metric == "top1":
        return share(predicted == labels, groups)
    value = score(metric, labels, predicted, classes)
    images = independent(metric, labels, predicted, classes, groups)
    raw = _at(value, images)
    if metric == "balanced_accuracy":
        return raw
    # The estimate is biased, and the bias itself is uncertain: the interval covers the raw and the corrected estimate.
    corrected = _at(min(max(value - _bias(labels, predicted, classes), 0.0), 1.0), images)
    return Interval(value, min(raw.low, corrected.low), max(raw.high, corrected.high))


def _at(value: float, images: float) -> Interval:
    low, high = _wilson(value, images)
    return Interval(value, min(low, _rare(value, images)), max(high, 1 - _rare(1 - value, images)))


def _wilson(value: float, images: float) -> tuple[float, float]:
    centre = value + _Z**2 / (2 * images)
    reach = _Z * math.sqrt(max(value * (1 - value), 0.0) / images + (_Z / (2 * images)) ** 2)
    scale = 1 + _Z**2 / images
    # At 0 and 1 the limits are exact; the formula gives them only up to rounding.
    return 0.0 if value == 0 else (centre - reach) / scale, 1.0 if value == 1 else (centre + reach) / scale


def _rare(value: float, images: float) -> float:
    """Return the Poisson lower limit of a share of few hits, or 1 if the hits are not few."""
    hits = value * images
    few = 0 < hits <= 3 + 1e-9 and value < 0.5
    return float(gammaincinv(hits, 1 - CONFIDENCE)) / images if few else 1.0


def _deviations(metric: Metric, labels: Counts, predicted: Counts, classes: int, value: float) -> tuple[Floats, float]:
    """Return the effect of each image [N] on a metric, and the number of equal weights with the same precision.

    Every class is assumed to be as good as the metric says: its own mean over few images would show too little spread.
    """
    images = np.bincount(labels, minlength=classes)
    weights = 1 / (np.count_nonzero(images) * images[labels])
    most = 1 / float((weights**2).sum())
    right = predicted == labels
    if metric == "top1":
        return (right - value) / len(labels), float(len(labels))
    if metric == "balanced_accuracy":
        return weights * (right - value), most
    below = images + np.bincount(predicted, minlength=classes)
    per_class = np.where(images > 0, 1 / np.maximum(below, 1), 0.0) / np.count_nonzero(images)
    return 2 * right * per_class[labels] - value * (per_class[labels] + per_class[predicted]), most


def _as_one(deviations: Floats, wrong: NDArray[np.bool_], groups: Groups) -> float:
    """Return the factor by which groups reduce the number of independent images.

    It is the spread of the group sums [U] over that of independent images (the design effect), stabilised by one extra
    group of identical images, times a correction by Student's t for this number of groups. Korn & Graubard, Surv.
    Methodol. 24 (1998).
    """
    if groups is None:
        return 1.0
    sizes, sums = np.bincount(groups), np.bincount(groups, weights=deviations)
    count = len(sizes)
    alike = float((sizes**2).sum()) / len(groups)
    students = float(t.ppf((1 + CONFIDENCE) / 2, max(count - 1, 1))) / _Z
    alone = float((deviations**2).sum())
    if alone == 0 or count == 1:
        return alike * students**2
    spread = float((sums**2).sum()) / alone * count / (count - 1)
    mixed = min(len(np.unique(groups[wrong])), len(np.unique(groups[~wrong])))
    return max((spread * mixed + alike) / (mixed + 1), 1.0) * students**2


def _bias(labels: Counts, predicted: Counts, classes: int) -> float:
    """Return the bias of macro-F1 for this number of images, by drawing images from a smoothed model."""
    hits = np.bincount(labels[labels == predicted], minlength=classes)
    images, answers = np.bincount(labels, minlength=classes), np.bincount(predicted, minlength=classes)
    there = images > 0
    images, hits, wrong = images[there], hits[there], (answers - hits)[there] + 0.5
    total, wrong = int(images.sum()), wrong / wrong.sum()
    # Class sizes that differ only by chance are treated as equal: James & Stein's shrinkage.
    mean, variance = float(images.mean()), float(images.var())
    shares = (mean + max(1 - mean / variance, 0.0) * (images - mean) if variance else images) / total
    right = (hits + _PRIOR * (hits.sum() + 0.5) / (total + 1)) / (images + _PRIOR)
    taken = wrong * float((shares * (1 - right)).sum())
    true = float((2 * shares * right / (shares * (1 + right) + taken)).mean())
    random = randomness.generator("macro-F1", total)
    drawn = random.multinomial(total, shares, _RESAMPLES)
    drawn_hits = random.binomial(drawn, right)
    others = random.multinomial(total - drawn_hits.sum(axis=1), wrong)
    f1 = np.where(drawn > 0, 2 * drawn_hits / np.maximum(drawn + drawn_hits + others, 1), 0.0)
    return float((f1.sum(axis=1) / (drawn > 0).sum(axis=1)).mean()) - true
