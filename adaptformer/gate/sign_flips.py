"""A paired test of any mean of differences, by flipping the signs of whole groups, with its own interval.

If the challenger's gain equals the margin, each group's surplus over the margin could as well have the opposite sign.
Flipping the groups of a random subset gives at least the observed sum of surpluses if and only if the gain within this
subset is at most the margin. So the p-value is the share of subsets with a gain up to the margin, and the limits are
quantiles of the gains within the same subsets (Hartigan, J. Am. Stat. Assoc. 64 (1969) 1303): p rises with the margin,
and is below the level if and only if the lower limit is above the margin.

Shapes: N images, U kinds of groups with the same surplus, R subsets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from adaptformer.base import randomness
from adaptformer.gate.exact_difference import Gain

SUBSETS = 10_000
_AT_ONCE = 1 << 20
"""Numbers held in memory at once."""
_ROUNDING = 1e-12
"""Tolerance for gains that are equal as fractions, but differ as sums of floating-point numbers."""

Floats = NDArray[np.float64]


def flips(
    gains: Floats, weights: Floats, groups: NDArray[np.int64] | None, margin: float, level: float, *, blank: float = 0.0
) -> Gain:
    """Return the sum of `gains` [N] with its test and limits; `weights` [N], which add up to 1, carry the margin.

    Each of the `groups` [N] is flipped as a whole; with None each image is flipped alone. `blank` is the weight of each
    of two additional images, one won and one lost: with them the limits differ even if no image changed.
    """
    value = float(gains.sum())
    if groups is not None:
        gains, weights = _sums(groups, gains), _sums(groups, weights)
    kinds, counts = np.unique(np.stack([gains, weights], axis=1), axis=0, return_counts=True)
    within = np.concatenate([_within(*part) for part in _subsets(kinds, counts, blank)])
    reached = 1 + int((np.nan_to_num(within, nan=-np.inf) <= margin + _ROUNDING).sum())
    return Gain(value, _limit(within, level), -_limit(-within, level), reached / (1 + SUBSETS), level)


def top1(
    ours: NDArray[np.bool_], theirs: NDArray[np.bool_], groups: NDArray[np.int64], margin: float, level: float
) -> Gain:
    """Return the gain in top-1 on images [N] in groups, given whether each side is right on each image."""
    weights = np.full(len(ours), 1 / len(ours))
    gains = weights * (ours.astype(np.float64) - theirs)
    return flips(gains, weights, groups, margin, level, blank=blank(gains, weights, groups))


def blank(gains: Floats, weights: Floats, groups: NDArray[np.int64] | None) -> float:
    """Return the weight of one independent image: an image's weight times how many images of a group count as one."""
    weight = float((weights**2).sum())
    if groups is None:
        return weight
    alone = float((gains**2).sum())
    together = float((_sums(groups, gains) ** 2).sum())
    return weight * (max(together / alone, 1.0) if alone else len(groups) / (int(groups.max()) + 1))


def _sums(groups: NDArray[np.int64], values: Floats) -> Floats:
    sums: Floats = np.bincount(groups, weights=values).astype(np.float64)
    return sums


def _within(gains: Floats, weights: Floats) -> Floats:
    """Return the gain in each subset [R]; NaN for a subset without weight, whose flip changes nothing at any margin."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(weights > 0, gains / weights, np.nan)


def _limit(within: Floats, level: float) -> float:
    """Return, from the gains in all subsets [R], the margin below which p is below the level."""
    rank = math.ceil(level * (1 + SUBSETS) - 1) - 1
    return -1.0 if rank < 0 else float(np.sort(np.nan_to_num(within, nan=-np.inf))[rank])


def _subsets(kinds: Floats, counts: NDArray[np.int64], blank: float) -> Iterator[tuple[Floats, Floats]]:
    """Yield the gains and weights of random subsets, each of which holds each group with probability ½."""
    at_once = max(1, _AT_ONCE // len(counts))
    for start in range(0, SUBSETS, at_once):
        size = min(at_once, SUBSETS - start)
        random = randomness.generator("sign flips", start)
        extra = blank * (random.integers(0, 2, size) - random.integers(0, 2, size))
        if counts.max() == 1:
            bits = np.frombuffer(random.bytes(size * -(-len(counts) // 8)), np.uint8).reshape(size, -1)
            taken = np.unpackbits(bits, axis=1, count=len(counts)).astype(np.float64)
        else:
            taken = random.binomial(counts, 0.5, (size, len(counts))).astype(np.float64)
        sums = taken @ kinds
        yield sums[:, 0] + extra, sums[:, 1]
