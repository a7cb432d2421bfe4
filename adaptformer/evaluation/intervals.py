"""Intervals and paired tests: how far a figure from this many images can be trusted.

Everything that is drawn is a function of a key (randomness.py): the same predictions always give the same decision.

Shapes: N images, R resamples, C classes, K kinds of image (true class and what was predicted).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adaptformer import randomness

Metric = Literal["top1", "balanced_accuracy", "macro_f1"]
Counts = NDArray[np.int64]
RESAMPLES = 2000
CONFIDENCE = 0.95
_Z = 1.959963984540054
_AT_ONCE = 1 << 24
"""Numbers held in memory at once while resampling."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the bounds between which 95 % of such intervals hold the true value."""

    value: float
    low: float
    high: float

    def to_list(self) -> list[float]:
        """Return [low, high], rounded for JSON."""
        return [round(self.low, 6), round(self.high, 6)]


def wilson(hits: int, images: int) -> Interval:
    """Return the share of hits with Wilson's score interval, which holds for few images and for shares of 0 and 1.

    Wilson, J. Am. Stat. Assoc. 22 (1927). NaN without images.
    """
    if images == 0:
        return Interval(math.nan, 0.0, 1.0)
    share = hits / images
    middle = (share + _Z**2 / (2 * images)) / (1 + _Z**2 / images)
    half = _Z * math.sqrt(share * (1 - share) / images + _Z**2 / (4 * images**2)) / (1 + _Z**2 / images)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def mcnemar(gained: int, lost: int) -> float:
    """Return the one-sided p-value that the challenger is no better: P(X ≥ gained), X ~ Binomial(gained + lost, ½).

    `gained` images only the challenger has right, `lost` only the champion. McNemar, Psychometrika 12 (1947).
    """
    discordant = gained + lost
    if gained <= 0:
        return 1.0
    if discordant >= 1000:
        return _tail(discordant, gained)
    ways = sum(math.comb(discordant, k) for k in range(gained, discordant + 1))
    return float(ways / (1 << discordant))


def _tail(trials: int, least: int) -> float:
    """Return P(X ≥ least), X ~ Binomial(trials, ½), in logarithms: the exact numbers would have thousands of digits."""
    terms = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) - trials * math.log(2)
        for k in range(least, trials + 1)
    ]
    largest = max(terms)
    return min(1.0, math.exp(largest) * math.fsum(math.exp(term - largest) for term in terms))


def score(metric: Metric, labels: Counts, predicted: Counts, classes: int) -> float:
    """Return a metric of predictions [N] over true labels [N]; classes that do not occur in `labels` do not count."""
    kinds, weights = np.unique(labels * classes + predicted, return_counts=True)
    return float(_scores(metric, weights[None], kinds // classes, kinds % classes, classes)[0])


def interval(metric: Metric, labels: Counts, predicted: Counts, classes: int, seed: int = 0) -> Interval:
    """Return a metric with its bootstrap interval: the images are drawn anew R times, with repetition."""
    kinds, weights = np.unique(labels * classes + predicted, return_counts=True)

    def of(drawn: Counts) -> NDArray[np.float64]:
        return _scores(metric, drawn, kinds // classes, kinds % classes, classes)

    return _percentiles(of(weights[None])[0], of, weights, seed)


def paired(
    metric: Metric, labels: Counts, challenger: Counts, champion: Counts, classes: int, seed: int = 0
) -> Interval:
    """Return how much larger the metric is for the challenger's predictions [N] than for the champion's [N].

    Paired: each resample draws images, and both models are scored on the same ones, so that what is hard for both
    cancels (Efron & Tibshirani, An Introduction to the Bootstrap, 1993).
    """
    kinds, weights = np.unique((labels * classes + challenger) * classes + champion, return_counts=True)
    true, ours, theirs = kinds // classes**2, kinds // classes % classes, kinds % classes

    def of(drawn: Counts) -> NDArray[np.float64]:
        return _scores(metric, drawn, true, ours, classes) - _scores(metric, drawn, true, theirs, classes)

    return _percentiles(of(weights[None])[0], of, weights, seed)


def mean(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """Return the mean of one value an image [N] with its bootstrap interval."""
    count = len(values)
    means = [
        values[randomness.generator("bootstrap", seed, number).integers(count, size=count)].mean()
        for number in range(RESAMPLES)
    ]
    return Interval(float(values.mean()), *_bounds(np.asarray(means)))


def _percentiles(value: float, of: Callable[[Counts], NDArray[np.float64]], weights: Counts, seed: int) -> Interval:
    # Images of one kind are alike to every metric here, so a resample is a draw of how many there are of each kind.
    images, at_once = int(weights.sum()), max(1, _AT_ONCE // len(weights))
    drawn = []
    for start in range(0, RESAMPLES, at_once):
        generator = randomness.generator("bootstrap", seed, start)
        drawn.append(of(generator.multinomial(images, weights / images, min(at_once, RESAMPLES - start))))
    return Interval(float(value), *_bounds(np.concatenate(drawn)))


def _bounds(drawn: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _scores(metric: Metric, drawn: Counts, true: Counts, predicted: Counts, classes: int) -> NDArray[np.float64]:
    """Return the metric [R] of resamples: numbers of images [R, K] of each kind, of true and predicted class [K]."""
    right = true == predicted
    if metric == "top1":
        share: NDArray[np.float64] = drawn[:, right].sum(axis=1) / drawn.sum(axis=1)
        return share
    hits = _per_class(drawn[:, right], true[right], classes)
    images = _per_class(drawn, true, classes)
    occurs = images > 0
    below = images if metric == "balanced_accuracy" else (images + _per_class(drawn, predicted, classes)) / 2
    values = np.where(occurs, hits / np.maximum(below, 0.5), 0.0)
    result: NDArray[np.float64] = values.sum(axis=1) / occurs.sum(axis=1)
    return result


def _per_class(drawn: Counts, labels: Counts, classes: int) -> NDArray[np.float64]:
    """Sum the columns of `drawn` [R, K] that belong to the same class [R, C]."""
    summed = np.zeros((classes, len(drawn)))
    np.add.at(summed, labels, drawn.T)
    return summed.T
