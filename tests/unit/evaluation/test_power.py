from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from adaptformer.evaluation import power


def test_disagreement_is_that_of_two_probit_models() -> None:
    numbers = np.random.default_rng(0)
    shared = math.sqrt(0.8) * numbers.standard_normal(400_000)
    sides = [
        shared + math.sqrt(0.2) * numbers.standard_normal(400_000) < norm.ppf(accuracy) for accuracy in (0.859, 0.9)
    ]
    assert power.disagreement(0.859, 0.9) == pytest.approx((sides[0] != sides[1]).mean(), abs=0.002)
    assert power.disagreement(0.859, 0.859) == pytest.approx(0.112, abs=0.001)


def test_power_and_the_images_that_are_needed_are_each_others_inverse() -> None:
    images = power.images_needed(0.02, 0.11, 0.05)
    assert power.power(images, 0.02, 0.11, 0.05) == pytest.approx(0.8, abs=0.001)
    assert power.power(359, 0.0, 0.11, 0.05) == pytest.approx(0.05)
    # Connor (1987), by hand: (1.6449 √0.11 + 0.8416 √(0.11 − 0.0004))² / 0.0004.
    assert images == math.ceil((1.6449 * math.sqrt(0.11) + 0.8416 * math.sqrt(0.1096)) ** 2 / 0.0004)


def test_power_is_what_a_simulation_of_the_test_finds() -> None:
    numbers, differing, gain, images = np.random.default_rng(1), 0.11, 0.05, 359
    shares = [(differing + gain) / 2, (differing - gain) / 2, 1 - differing]
    gained, lost, _ = numbers.multinomial(images, shares, 20_000).T
    found = (gained - lost) / np.sqrt(gained + lost) > norm.isf(0.05)
    assert power.power(images, gain, differing, 0.05) == pytest.approx(found.mean(), abs=0.02)


@pytest.mark.parametrize(
    ("images", "accuracy", "expected"),
    [
        (359, 0.859, "359 independent images: +5 points would be found in 9 of 10 cases, +2 in 3 of 10, "
                     "+1 in 1 of 10."),
        (359, 0.989, "359 independent images: +1 point would be found in 6 of 10 cases."),
        (50_000, 0.859, "50,000 independent images: +5 points would be found in nearly all cases, +2 in nearly all, "
                        "+1 in nearly all."),
        (20, 0.95, "20 independent images: +2 points would be found in 1 of 10 cases, +1 in 1 of 10."),
        (359, 0.995, "At 99.5% there is less than a point to gain: only a loss could be shown."),
    ],
)  # fmt: skip
def test_a_sentence_states_the_gain_that_a_number_of_images_can_show(
    images: float, accuracy: float, expected: str
) -> None:
    assert power.sentence(images, accuracy, 0.05) == expected


def test_the_number_of_images_that_would_settle_a_gain_is_computed() -> None:
    # 1.645 standard errors are needed for p, 2.4865 for finding it 8 times in 10: 359 · (2.4865² − 1) = 1861.
    error = 0.01
    assert power.still_needed(359, error, error - 1.6449 * error, 0.0, 0.05) == 1900
    assert power.still_needed(359, 0.02, 0.02 - 1.6449 * error, 0.01, 0.05) == 1900
    assert power.still_needed(359, 0.0, -0.01, 0.0, 0.05) is None
    assert power.still_needed(359, 0.01, -0.01, 0.02, 0.05) is None


@pytest.mark.parametrize("versions", [1, 2, 5, 20])
def test_looks_at_one_test_set_are_correlated(versions: int) -> None:
    numbers = np.random.default_rng(2)
    champion = numbers.standard_normal((200_000, 1))
    best = (numbers.standard_normal((200_000, versions)) - champion).max(axis=1) / math.sqrt(2)
    assert power.by_chance(versions, 0.05) == pytest.approx((best > norm.isf(0.05)).mean(), abs=0.003)
