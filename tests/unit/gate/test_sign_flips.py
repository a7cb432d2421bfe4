from __future__ import annotations

import itertools

import numpy as np
import pytest

from adaptformer.gate import sign_flips
from adaptformer.gate.exact_difference import difference
from adaptformer.gate.sign_flips import SUBSETS, blank, flips, top1

RANDOM = np.random.default_rng(0)


def test_p_is_the_share_of_signs_that_reach_the_observed_sum() -> None:
    values, weights, margin = RANDOM.normal(0.2, 1, 10) / 10, np.full(10, 0.1), 0.05
    surplus = values - margin * weights
    reached = [
        float(np.dot(signs, surplus)) >= surplus.sum() - 1e-12 for signs in itertools.product((-1, 1), repeat=10)
    ]
    assert flips(values, weights, None, margin, 0.05).p == pytest.approx(np.mean(reached), abs=0.015)


def test_groups_are_flipped_as_wholes() -> None:
    values, groups = RANDOM.normal(0.3, 1, 24) / 24, np.repeat(np.arange(8), 3)
    sums = np.bincount(groups, weights=values)
    reached = [float(np.dot(signs, sums)) >= sums.sum() - 1e-12 for signs in itertools.product((-1, 1), repeat=8)]
    found = flips(values, np.full(24, 1 / 24), groups, 0.0, 0.05)
    assert found.p == pytest.approx(np.mean(reached), abs=0.015)
    alone = flips(sums, np.full(8, 1 / 8), None, 0.0, 0.05)
    assert (found.p, found.low, found.high) == (alone.p, alone.low, alone.high)


@pytest.mark.parametrize("level", [0.05, 0.025, 0.001])
@pytest.mark.parametrize("many", [1, 3])
def test_p_and_interval_never_contradict_each_other(level: float, many: int) -> None:
    values = np.repeat(RANDOM.normal(0.1, 1, 40), many) / (40 * many)
    weights = np.full(40 * many, 1 / (40 * many))
    found = flips(values, weights, None, 0.0, level)
    for margin in (found.low - 1e-6, found.low + 1e-6, -0.1, 0.0, 0.1):
        assert (flips(values, weights, None, margin, level).p < level) == (margin < found.low)
    mirrored = flips(-values, weights, None, 0.0, level)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=0.03)


def test_the_interval_is_students_for_values_of_one_size() -> None:
    widths = []
    for seed in range(12):
        values = np.random.default_rng(seed).normal(0.3, 1, 60)
        found = flips(values / 60, np.full(60, 1 / 60), None, 0.0, 0.05)
        widths.append((found.high - found.low) / (values.std(ddof=1) / np.sqrt(60)))
    assert np.mean(widths) == pytest.approx(2 * 1.671, rel=0.03)


def test_a_level_that_no_number_of_subsets_can_reach_gives_no_limit() -> None:
    found = flips(np.full(50, 0.02), np.full(50, 0.02), None, 0.0, 0.5 / SUBSETS)
    assert (found.low, found.high) == (-1, 1)
    assert found.p >= 1 / (1 + SUBSETS)


def test_without_a_change_the_limits_still_differ() -> None:
    right, groups = np.arange(40) < 30, np.repeat(np.arange(10), 4)
    found = top1(right, right, groups, 0.0, 0.05)
    assert found.value == 0
    assert found.low < -0.05 < 0.05 < found.high
    assert found.p > 0.5


def test_a_blank_image_counts_for_as_many_as_come_as_one() -> None:
    weights, groups = np.full(12, 1 / 12), np.repeat(np.arange(3), 4)
    assert blank(np.zeros(12), weights, None) == pytest.approx(1 / 12)
    assert blank(np.zeros(12), weights, groups) == pytest.approx(4 / 12)
    assert blank(weights * (groups == 0), weights, groups) == pytest.approx(4 / 12)
    apart = weights * (np.arange(12) % 4 == 0)
    assert blank(apart, weights, groups) == pytest.approx(1 / 12)


def test_groups_whose_images_agree_show_less() -> None:
    # 12 newly right and 2 newly wrong of 240; in one case each alone in its group, in the other in few groups.
    ours, theirs = np.ones(240, bool), np.ones(240, bool)
    theirs[:12], ours[12:14] = False, False
    spread, together = np.arange(240) % 24, np.arange(240) // 10
    alone = difference(12, 2, 240, 0.0, 0.05)
    assert alone.p < 0.01
    assert top1(ours, theirs, spread, 0.0, 0.05).p < 0.02
    assert top1(ours, theirs, together, 0.0, 0.05).p > 0.2


def test_pieces_of_any_size_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    values, weights = RANDOM.normal(0.1, 1, 30) / 30, np.full(30, 1 / 30)
    whole = flips(values, weights, None, 0.0, 0.05)
    monkeypatch.setattr(sign_flips, "_AT_ONCE", 1000)
    pieces = flips(values, weights, None, 0.0, 0.05)
    assert pieces.p == pytest.approx(whole.p, abs=0.03)
    assert (pieces.low, pieces.high) == pytest.approx((whole.low, whole.high), abs=0.03)
