"""Paired statistics of two models on the same images: the gain's interval, and tests whether it may be chance.

Every random number is a function of a key (randomness.py), so the same answers always give the same decision.

Shapes: N images, R resamples, K kinds of image (true class and both answers), M tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from adaptformer import randomness
from adaptformer.evaluation.intervals import Interval, bootstrap
from adaptformer.scores import Counts, Metric, scores

PERMUTATIONS = 10_000
_AT_ONCE = 1 << 20
"""Numbers held in memory at once while answers are swapped."""
_ROUNDING = 1e-12
"""Gains that are equal as fractions may differ by so much as sums of floating-point numbers."""


@dataclass(frozen=True)
class _Kinds:
    """How many images [K] have each combination of true class and both answers [K], of C classes."""

    metric: Metric
    true: Counts
    ours: Counts
    theirs: Counts
    counts: Counts
    classes: int

    def gains(self, counts: Counts) -> NDArray[np.float64]:
        """Return the challenger's gain [R] where there are so many images of each kind [R, K]."""
        ours, theirs = (scores(self.metric, counts, self.true, side, self.classes) for side in (self.ours, self.theirs))
        return ours - theirs


def gain(metric: Metric, labels: Counts, challenger: Counts, champion: Counts, classes: int) -> Interval:
    """Return how much larger the metric is for the challenger's answers [N] than for the champion's [N].

    The bootstrap is paired: both models are scored on the same resampled images, so what is hard for both cancels.
    """
    kinds = _kinds(metric, labels, challenger, champion, classes)
    return bootstrap(kinds.gains, kinds.counts)


def permutation(metric: Metric, labels: Counts, challenger: Counts, champion: Counts, classes: int) -> float:
    """Return the one-sided p-value of the challenger's gain in a metric, by swapping answers at random.

    If the models are equally good, an image's two answers [N] could as well belong to each other's model. Each of
    10,000 resamples swaps them with probability ½, independently for each image; p is (1 + resamples with at least
    the observed gain) / (1 + resamples). Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39.
    """
    kinds = _kinds(metric, labels, challenger, champion, classes)
    observed = kinds.gains(kinds.counts[None])[0]
    differ = kinds.ours != kinds.theirs  # swapping two equal answers changes nothing
    with_swapped = replace(
        kinds,
        true=np.append(kinds.true, kinds.true[differ]),
        ours=np.append(kinds.ours, kinds.theirs[differ]),
        theirs=np.append(kinds.theirs, kinds.ours[differ]),
    )
    at_once, reached = max(1, _AT_ONCE // len(with_swapped.true)), 0
    for start in range(0, PERMUTATIONS, at_once):
        size = (min(at_once, PERMUTATIONS - start), int(differ.sum()))
        # Of n images of a kind, Binomial(n, ½) are swapped.
        swapped = randomness.generator("permutation", start).binomial(kinds.counts[differ], 0.5, size)
        kept = np.tile(kinds.counts, (len(swapped), 1))
        kept[:, differ] -= swapped
        gains = with_swapped.gains(np.concatenate([kept, swapped], axis=1))
        reached += int((gains >= observed - _ROUNDING).sum())
    return (1 + reached) / (1 + PERMUTATIONS)


def mcnemar(gained: int, lost: int) -> float:
    """Return the one-sided p-value of a gain in top-1: P(X ≥ gained), X ~ Binomial(gained + lost, ½); exact.

    `gained` images only the challenger has right, `lost` only the champion. McNemar, Psychometrika 12 (1947).
    """
    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost, alternative="greater").pvalue)


def _kinds(metric: Metric, labels: Counts, ours: Counts, theirs: Counts, classes: int) -> _Kinds:
    if metric != "macro_f1":  # all wrong answers count alike; one index for them makes kinds few
        ours, theirs = (np.where(answers == labels, labels, classes) for answers in (ours, theirs))
    base = classes + 1
    kinds, counts = np.unique((labels * base + ours) * base + theirs, return_counts=True)
    return _Kinds(metric, kinds // base**2, kinds // base % base, kinds % base, counts, base)
