"""The statistical power of the gate for a number of test images, so that a user knows it before training.

It is the power of the gate's one-sided paired test of top-1 (Connor, Biometrics 43 (1987) 207). How often two models
disagree is unknown before both exist; it is estimated with a probit model in which their errors correlate with RHO.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import multivariate_normal, norm

RHO = 0.8
"""Correlation of two models' errors. At an accuracy of 85.9 %, exactly one of them is right on 11.2 % of the images."""
GAINS = (0.01, 0.02, 0.05)
OFTEN = 0.8
"""A gain counts as detectable if the test finds it in this share of cases."""
LEVEL = 0.05
"""The level of the gate's test that is used on pages without access to params.yaml."""


def disagreement(before: float, after: float) -> float:
    """Return the share of images on which exactly one of two models with these accuracies is right."""
    both = multivariate_normal.cdf(norm.ppf([before, after]), mean=[0, 0], cov=[[1, RHO], [RHO, 1]])
    return before + after - 2 * float(both)


def power(images: float, gain: float, differing: float, level: float) -> float:
    """Return the probability that the test shows a gain in top-1 with this number of images.

    `differing` is the share of images on which exactly one model is right.
    """
    return float(norm.cdf(_excess(images, gain, differing, level)))


def images_needed(gain: float, differing: float, level: float) -> int:
    """Return the number of images with which the test shows a gain in a share OFTEN of cases."""
    reach = float(norm.isf(level) * math.sqrt(differing) + norm.ppf(OFTEN) * math.sqrt(max(differing - gain**2, 0.0)))
    return math.ceil((reach / gain) ** 2)


def _excess(images: float, gain: float, differing: float, level: float) -> float:
    spread = max(differing - gain**2, 1e-12)
    return float((math.sqrt(images) * gain - norm.isf(level) * math.sqrt(differing)) / math.sqrt(spread))


def sentence(images: float, accuracy: float, level: float) -> str:
    """Return a sentence on the gains that this number of independent images can show over a champion's accuracy."""
    possible = [gain for gain in GAINS if accuracy + gain < 1][::-1]
    if not possible:
        return f"At {accuracy:.1%} there is less than a point to gain: only a loss could be shown."
    first, *others = [
        (f"{100 * gain:.0f}", _cases(power(images, gain, disagreement(accuracy, accuracy + gain), level)))
        for gain in possible
    ]
    noun = "point" if first[0] == "1" else "points"
    rest = "".join(f", +{size} in {cases}" for size, cases in others)
    return f"{images:,.0f} independent images: +{first[0]} {noun} would be found in {first[1]} cases{rest}."


def _cases(share: float) -> str:
    if 0.05 <= share <= 0.95:
        return f"{min(max(round(10 * share), 1), 9)} of 10"
    return "nearly all" if share > 0.95 else "few"


def still_needed(images: int, gain: float, low: float, margin: float, level: float) -> int | None:
    """Return how many more such images would show a gain as large as the observed one in a share OFTEN of cases.

    `low` is the lower limit of the gain at this level. None if the gain is not above the margin or its precision is
    unknown.
    """
    if not gain > margin or not gain > low:
        return None
    reached = (gain - margin) / (gain - low) * norm.isf(level)  # in standard errors
    more = images * (((norm.isf(level) + norm.ppf(OFTEN)) / reached) ** 2 - 1)
    return _rounded(more) if more > 0 else None


def _rounded(number: float) -> int:
    """Return a number rounded up to two significant digits."""
    step = 10 ** max(math.floor(math.log10(number)) - 1, 0) if number >= 1 else 1
    return math.ceil(number / step) * step


def by_chance(versions: int, level: float) -> float:
    """Return the probability that at least one of several versions passes by chance, none being better.

    All are compared with the same champion on the same images, so their tests correlate with ½; the rest of their
    variation is taken as independent. For uncorrelated tests the result would be 1 − (1 − level)^versions.
    """
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    none = norm.cdf(points + norm.isf(level) * math.sqrt(2)) ** versions
    return float(1 - (weights * none).sum() / weights.sum())
