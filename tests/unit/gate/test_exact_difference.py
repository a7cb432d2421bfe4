"""The exact test of a difference in top-1, against published figures, plain formulas and full enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binom, norm

from adaptformer.gate.exact_difference import Gain, difference, p_value, score

COUNTS = [(9, 3), (3, 9), (0, 0), (5, 0), (0, 5), (40, 20), (1, 0), (60, 0), (0, 60), (30, 30)]


def z_by_likelihood(gained: int, lost: int, images: int, margin: float) -> float:
    """Tango's statistic with the restricted estimate found by a search instead of the formula."""

    def unlikely(share: float) -> float:
        cells = [(gained, share + margin), (lost, share), (images - gained - lost, 1 - 2 * share - margin)]
        return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

    low, high = max(0.0, -margin) + 1e-12, min(1.0, (1 - margin) / 2) - 1e-12
    share = minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
    return (gained - lost - images * margin) / math.sqrt(images * (2 * share + margin * (1 - margin)))


@pytest.mark.parametrize(("gained", "lost"), [(9, 3), (3, 9), (5, 0), (0, 5), (20, 12)])
@pytest.mark.parametrize("margin", [-0.1, -0.01, 0.02, 0.1])
def test_the_score_is_tangos(gained: int, lost: int, margin: float) -> None:
    found = score(np.array([float(gained)]), np.array([float(lost)]), 60, margin)[0]
    assert found == pytest.approx(z_by_likelihood(gained, lost, 60, margin), rel=1e-4)


def test_the_score_interval_is_the_published_one() -> None:
    # Tango, Stat. Med. 17 (1998) 891: 43 of 44 and 44 of 44 cured, one lost; 95 % interval −11.8 % to 5.9 %... by hand:
    # without a margin the score is McNemar's z.
    assert score(np.array([9.0]), np.array([3.0]), 60, 0.0)[0] == pytest.approx(6 / math.sqrt(12))

    def at(margin: float, z: float) -> float:
        return float(score(np.array([1.0]), np.array([0.0]), 44, margin)[0]) - z

    limits = brentq(at, -0.5, 1 / 44 - 1e-9, args=(norm.isf(0.025),)), brentq(at, 1 / 44 + 1e-9, 0.6, args=(-1.96,))
    assert limits == pytest.approx((-0.0600, 0.1184), abs=2e-3)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_p_and_interval_never_contradict_each_other(counts: tuple[int, int], level: float) -> None:
    found = difference(*counts, 60, 0.0, level)
    assert found.low < found.value or found.value == -1
    assert found.high > found.value or found.value == 1
    for margin in (found.low - 2e-7, found.low + 2e-7, -0.2, -0.01, 0.0, 0.01, 0.2):
        if -1 < margin < 1:
            assert (p_value(*counts, 60, margin, level) < level) == (margin < found.low)


def test_the_other_way_round_the_limits_change_their_signs() -> None:
    there, back = difference(20, 8, 359, 0.0, 0.05), difference(8, 20, 359, 0.0, 0.05)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))


def test_p_rises_with_the_margin() -> None:
    values = [p_value(5, 3, 80, margin, 0.05) for margin in np.linspace(-0.3, 0.3, 41)]
    assert values == sorted(values)
    assert p_value(5, 3, 80, 1.0, 0.05) == 1


def test_the_test_is_exact_and_loses_little_power() -> None:
    # Close to the score test of large samples, and never as far from it as the bound of all shares of differing images.
    found = difference(60, 40, 2000, 0.0, 0.05)
    assert found.p == pytest.approx(norm.sf(20 / 10), abs=0.005)
    assert isinstance(found, Gain)
    assert difference(5, 0, 50, 0.0, 0.05).p < 1 / 32, "McNemar's test, which fixes the number of differing images"


def promoted(images: int, margin: float, differing: float, level: float, most: int) -> float:
    """The probability of a p-value below the level where the true gain is the margin, by summing over all outcomes."""
    ours, theirs = (differing + margin) / 2, (differing - margin) / 2
    total = 0.0
    for gained in range(most + 1):
        for lost in range(most + 1):
            if gained - lost > images * margin and p_value(gained, lost, images, margin, level) < level:
                total += binom.pmf(gained, images, ours) * binom.pmf(lost, images - gained, theirs / (1 - ours))
    return total


@pytest.mark.parametrize(
    ("images", "margin", "differing", "most"),
    [(400, -0.01, 0.01, 10), (100, -0.05, 0.05, 12), (60, 0.0, 0.1, 14), (60, -0.02, 0.08, 13)],
)
def test_no_more_than_the_level_is_promoted(images: int, margin: float, differing: float, most: int) -> None:
    # The percentile bootstrap, of a level of 2.5 %, promoted 12.5 % of models that are a point worse, of 359 images.
    assert 0.005 < promoted(images, margin, differing, 0.05, most) <= 0.05
