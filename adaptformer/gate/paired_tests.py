"""The gain of one model over another on the same images, by one test whose p-value and interval cannot disagree.

Top-1 has an exact test (exact_difference.py). For the other metrics, and if images come in groups, signs are
flipped (sign_flips.py). Every random number is a function of a key (randomness.py), so the same answers always give the
same decision.

Shapes: N images, C classes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from adaptformer.base.classification_scores import Counts, Metric
from adaptformer.gate.exact_difference import Gain, difference
from adaptformer.gate.sign_flips import Floats, blank, flips, top1

Groups = NDArray[np.int64] | None


def gain(
    metric: Metric, labels: Counts, challenger: Counts, champion: Counts, classes: int, groups: Groups, margin: float,
    level: float,
) -> Gain:  # fmt: skip
    """Return how much larger the metric is for the challenger's answers [N] than for the champion's [N].

    `groups` [N] are the images' groups, None if images are independent. Groups can only widen the interval.
    """
    if metric == "top1":
        ours, theirs = challenger == labels, champion == labels
        gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        alone = difference(gained, lost, len(labels), margin, level)
        return alone if groups is None else wider(alone, top1(ours, theirs, groups, margin, level))
    gains, weights = contributions(metric, labels, challenger, champion, classes)

    def flipping(units: Groups) -> Gain:
        return flips(gains, weights, units, margin, level, blank=blank(gains, weights, units))

    return flipping(None) if groups is None else wider(flipping(None), flipping(groups))


def mean_rise(values: Floats, groups: Groups, margin: float, level: float) -> Gain:
    """Return the mean of one difference per image [N] with its test and limits."""
    weights = np.full(len(values), 1 / len(values))
    return flips(values * weights, weights, groups, margin, level)


def wider(one: Gain, other: Gain) -> Gain:
    """Return the first gain with the wider limits and the larger p of the two."""
    return replace(one, low=min(one.low, other.low), high=max(one.high, other.high), p=max(one.p, other.p))


def fall(challenger: NDArray[np.bool_], champion: NDArray[np.bool_], groups: Groups) -> float:
    """Return the one-sided p-value of a fall in top-1, given whether each side is right on each image [N].

    It is that of McNemar's exact test; with groups, the larger of that and the p-value of the test that flips groups.
    """
    gained, lost = int((challenger & ~champion).sum()), int((champion & ~challenger).sum())
    p = mcnemar(gained=lost, lost=gained)
    if groups is None or not lost > gained:
        return p
    return max(p, top1(champion, challenger, groups, 0.0, 0.05).p)


def mcnemar(gained: int, lost: int) -> float:
    """Return the one-sided p-value of a gain in top-1: P(X ≥ gained), X ~ Binomial(gained + lost, ½); exact.

    `gained` images only the challenger has right, `lost` only the champion. McNemar, Psychometrika 12 (1947).
    """
    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost, alternative="greater").pvalue)


def contributions(metric: Metric, labels: Counts, ours: Counts, theirs: Counts, classes: int) -> tuple[Floats, Floats]:
    """Return each image's contribution to the gain in a mean over classes [N], and its weight among all images [N].

    The contributions add up to the gain. If the two models swap their answers to an image, its contribution changes its
    sign and nothing else (for macro-F1 also by a factor near 1).
    """
    images = np.bincount(labels, minlength=classes)
    occurring = np.count_nonzero(images)
    weights = 1 / (occurring * images[labels])
    won = (ours == labels).astype(float) - (theirs == labels)
    if metric == "balanced_accuracy":
        return weights * won, weights
    hits = [np.bincount(labels[side == labels], minlength=classes) for side in (ours, theirs)]
    below = [images + np.bincount(side, minlength=classes) for side in (ours, theirs)]
    # F1 = 2 · hits / below. If h and b are the means of both models and Δ is their difference:
    # ΔF1 = 2 (b Δh − h Δb) / (b₁ b₂).
    scale = np.where(images > 0, 1 / np.maximum(below[0] * below[1], 1), 0) / occurring
    by_hit, by_answer = scale * (below[0] + below[1]), scale * (hits[0] + hits[1])
    return by_hit[labels] * won - (by_answer[ours] - by_answer[theirs]), weights
