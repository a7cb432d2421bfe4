"""The difference of two models' top-1 on the same images: one exact test, with the interval that belongs to it.

Outcomes are ordered by the lower limit of Tango's score interval (Stat. Med. 17 (1998) 891). The p-value of a margin is
the largest probability of an outcome that ranks at least as high, over all shares of images on which the models
may differ: a Buehler limit (Lloyd & Kabaila, Aust. N. Z. J. Stat. 45 (2003) 337). The order does not depend on the
margin, so p rises with the margin, and p is below the level if and only if the lower limit is above it. The share of
differing images is confined to its own interval, whose error is added to p (Berger & Boos, J. Am. Stat. Assoc. 89
(1994) 1012).

Shapes: S shares of differing images, D numbers of differing images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, betaincinv, gammaln, xlog1py, xlogy
from scipy.stats import norm

_SPENT = 0.02
"""The part of the level that is spent on confining the share of differing images."""
_SHARES = 48
"""How many shares are tried to find the largest probability."""
_NEGLIGIBLE = 1e-9
"""Probability of all unlikely numbers of differing images together: they are not summed, and p is raised by this."""
_STEP = 1e-7
"""Precision of the limits."""


@dataclass(frozen=True)
class Gain:
    """A gain with the limits and the p-value of one test.

    Each of the limits `low` and `high` misses the truth with a probability of at most `level`. `p` is the one-sided
    p-value of "no more than the margin"; it is below `level` if and only if `low` is above the margin.
    """

    value: float
    low: float
    high: float
    p: float
    level: float


@cache  # classes and simulations ask for the same counts again
def difference(gained: int, lost: int, images: int, margin: float, level: float) -> Gain:
    """Return the gain in top-1: of `images`, only the challenger has `gained` right, and only the champion `lost`."""
    upwards, downwards = _Tail(gained, lost, images, level), _Tail(lost, gained, images, level)
    return Gain((gained - lost) / images, upwards.limit(), -downwards.limit(), upwards.p(margin), level)


def p_value(gained: int, lost: int, images: int, margin: float, level: float) -> float:
    """Return only the p-value of `difference`, in a fraction of its time."""
    return _Tail(gained, lost, images, level).p(margin)


def score(gained: NDArray[np.float64], lost: NDArray[np.float64], images: int, margin: float) -> NDArray[np.float64]:
    """Return Tango's z of a gain above the margin, for numbers of images [D] that only one side has right."""
    half = 2 * images * margin - (gained + lost) - margin * (gained - lost)
    # The share of images lost, if the gain is the margin: the larger root of 2nq² + (…)q − lost·margin·(1 − margin).
    share = np.sqrt(np.maximum(half**2 + 8 * images * lost * margin * (1 - margin), 0)) - half
    variance = images * (2 * np.maximum(share / (4 * images), 0) + margin * (1 - margin))
    above = gained - lost - images * margin
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(above == 0, 0.0, above / np.sqrt(np.maximum(variance, 0)))


class _Tail:
    """The outcomes at least as favourable to the challenger as the observed one, and their largest probability."""

    def __init__(self, gained: int, lost: int, images: int, level: float) -> None:
        self._observed, self._images, self._level = (gained - lost) / images, images, level
        differing, spent = gained + lost, _SPENT * level
        least = betaincinv(differing, images - differing + 1, spent / 2) if differing else 0.0
        most = betaincinv(differing + 1, images - differing, 1 - spent / 2) if differing < images else 1.0
        angles = np.linspace(math.asin(math.sqrt(least)), math.asin(math.sqrt(most)), _SHARES)
        self._shares = np.sin(angles) ** 2
        self._added = spent + _NEGLIGIBLE
        self._numbers = _likely(images, float(self._shares[0]), float(self._shares[-1]))
        self._needed = _needed(gained, lost, images, norm.isf(level), self._numbers)

    def p(self, margin: float) -> float:
        """Return the largest probability of these outcomes if the gain is at most the margin."""
        if margin >= 1:
            return 1.0
        shares = np.maximum(self._shares, -margin)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            ours = np.where(shares > 0, (shares + np.minimum(margin, shares)) / (2 * shares), 0.0)
        needed, numbers = self._needed, self._numbers
        tail = np.where(needed <= 0, 1.0, np.where(needed > numbers, 0.0, bdtrc(needed - 1, numbers, ours)))
        probabilities = (_binomial(numbers, self._images, shares) * tail).sum(axis=1)
        return min(1.0, float(probabilities.max()) + self._added)

    def limit(self) -> float:
        """Return the largest margin, to `_STEP`, at which p is below the level; −1 if there is none."""
        low, high = -1.0, 1.0
        near = self._observed
        while high - low > _STEP:
            middle = near if low < near < high else (low + high) / 2
            low, high = (middle, high) if self.p(middle) < self._level else (low, middle)
        return low


def _needed(gained: int, lost: int, images: int, z: float, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, by the number of differing images [D], how many must be gained for a limit as high as the observed one.

    The limit is the lower one of the score interval.
    """
    low, high = -1.0, (gained - lost) / images
    for _ in range(60):
        middle = (low + high) / 2
        statistic = score(np.array([float(gained)]), np.array([float(lost)]), images, middle)[0]
        low, high = (middle, high) if statistic >= z else (low, middle)
    if low == -1.0:  # no outcome has a lower limit
        return np.zeros_like(numbers)
    none, enough = np.full(len(numbers), -1), numbers + 1  # bounds of the smallest sufficient number
    while (enough - none > 1).any():
        middle_ = (none + enough) // 2
        open_ = enough - none > 1
        reached = score(middle_.astype(float), (numbers - middle_).astype(float), images, low) >= z - 1e-9
        enough = np.where(open_ & reached, middle_, enough)
        none = np.where(open_ & ~reached, middle_, none)
    return enough


def _likely(images: int, least: float, most: float) -> NDArray[np.int64]:
    """Return the numbers of differing images [D] that are not negligible at any share from `least` to `most`."""
    numbers = np.arange(images + 1)
    below = np.flatnonzero(np.cumsum(_binomial(numbers, images, np.array([[least]]))[0]) > _NEGLIGIBLE / 2)
    above = np.flatnonzero(np.cumsum(_binomial(numbers, images, np.array([[most]]))[0][::-1]) > _NEGLIGIBLE / 2)
    return numbers[below[0] : images + 1 - above[0]]


def _binomial(numbers: NDArray[np.int64], images: int, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability [S, D] of each number of images at each share [S, 1]."""
    ways = gammaln(images + 1) - gammaln(numbers + 1) - gammaln(images - numbers + 1)
    result: NDArray[np.float64] = np.exp(ways + xlogy(numbers, shares) + xlog1py(images - numbers, -shares))
    return result
