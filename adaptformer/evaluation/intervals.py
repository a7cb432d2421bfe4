"""95 % intervals: how far a figure from this many images can be trusted.

Every random number is a function of a key (randomness.py), so the same predictions always give the same interval.

Shapes: N images, R resamples, M statistics, K kinds of image (true class and answer).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from adaptformer import randomness
from adaptformer.scores import Counts, Metric, scores

RESAMPLES = 2000
CONFIDENCE = 0.95
_AT_ONCE = 1 << 21
"""Numbers held in memory at once while resampling."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval: of such intervals, 95 % contain the true value."""

    value: float
    low: float
    high: float

    def to_list(self) -> list[float]:
        """Return [low, high], rounded for JSON."""
        return [round(self.low, 6), round(self.high, 6)]


@cache  # scipy takes a millisecond, and classes of the same size ask for the same intervals
def wilson(hits: int, images: int) -> Interval:
    """Return the share of hits with Wilson's score interval, which holds for few images and for shares of 0 and 1.

    Wilson, J. Am. Stat. Assoc. 22 (1927). NaN without images.
    """
    if images == 0:
        return Interval(math.nan, 0.0, 1.0)
    found = binomtest(hits, images).proportion_ci(CONFIDENCE, "wilson")
    return Interval(hits / images, float(found.low), float(found.high))


def of_predictions(
    metrics: Sequence[Metric], labels: Counts, predicted: Counts, classes: int
) -> dict[Metric, Interval]:
    """Return metrics of predictions [N] over true labels [N], each with its bootstrap interval; all share the draws."""
    kinds, counts = np.unique(labels * classes + predicted, return_counts=True)

    def values(drawn: Counts) -> NDArray[np.float64]:
        true, answers = kinds // classes, kinds % classes
        return np.stack([scores(metric, drawn, true, answers, classes) for metric in metrics], axis=1)

    return dict(zip(metrics, _bootstraps(values, counts), strict=True))


def interval(metric: Metric, labels: Counts, predicted: Counts, classes: int) -> Interval:
    """Return one metric of predictions [N] over true labels [N] with its bootstrap interval."""
    return of_predictions([metric], labels, predicted, classes)[metric]


def mean(values: NDArray[np.float64]) -> Interval:
    """Return the mean of one value per image [N] with its bootstrap interval."""
    count = len(values)
    means = [
        values[randomness.generator("bootstrap", 0, number).integers(count, size=count)].mean()
        for number in range(RESAMPLES)
    ]
    return Interval(float(values.mean()), *_bounds(np.asarray(means)))


def bootstrap(statistic: Callable[[Counts], NDArray[np.float64]], counts: Counts) -> Interval:
    """Return a statistic of images with its percentile interval: R resamples of as many images, with replacement.

    `counts` [K] says how many images there are of each kind. Images of one kind are alike to the statistic, so it maps
    numbers of each kind [R, K] to values [R]. Efron & Tibshirani, An Introduction to the Bootstrap, 1993.
    """
    (found,) = _bootstraps(lambda drawn: statistic(drawn)[:, None], counts)
    return found


def _bootstraps(statistics: Callable[[Counts], NDArray[np.float64]], counts: Counts) -> list[Interval]:
    """Return M statistics, as `bootstrap` does one, all on the same resamples: [R, K] is mapped to [R, M]."""
    images, at_once = int(counts.sum()), max(1, _AT_ONCE // len(counts))
    drawn = []
    for start in range(0, RESAMPLES, at_once):
        generator = randomness.generator("bootstrap", 0, start)
        drawn.append(statistics(generator.multinomial(images, counts / images, min(at_once, RESAMPLES - start))))
    columns = zip(statistics(counts[None])[0], np.concatenate(drawn).T, strict=True)
    return [Interval(float(value), *_bounds(column)) for value, column in columns]


def _bounds(drawn: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
