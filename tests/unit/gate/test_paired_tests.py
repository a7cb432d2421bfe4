from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptformer.evaluation import intervals
from adaptformer.gate import paired_tests
from adaptformer.gate.paired_tests import PERMUTATIONS, gain, mcnemar, permutation
from adaptformer.scores import Metric, score

METRICS: tuple[Metric, ...] = get_args(Metric)
Labels = NDArray[np.int64]


def drawn(images: int = 300, classes: int = 5, better: float = 0.2, seed: int = 0) -> tuple[Labels, Labels, Labels]:
    """Labels of unequal classes, and two models' answers, the first better and both wrong on much the same images."""
    numbers = np.random.default_rng(seed)
    labels = np.minimum(numbers.geometric(0.4, images) - 1, classes - 1)
    theirs = np.where(numbers.random(images) < 0.3, numbers.integers(0, classes, images), labels)
    other = np.where(numbers.random(images) < 0.1, numbers.integers(0, classes, images), theirs)
    return labels, np.where(numbers.random(images) < better, labels, other), theirs


LABELS, OURS, THEIRS = drawn()


def discordant(gained: int, lost: int, both: int, neither: int) -> tuple[Labels, Labels, Labels]:
    """Two classes with the same numbers of images on which only we, only they, both or neither are right."""
    labels = np.repeat([0, 1], gained + lost + both + neither)
    ours_right = np.tile(np.repeat([True, False, True, False], [gained, lost, both, neither]), 2)
    theirs_right = np.tile(np.repeat([False, True, True, False], [gained, lost, both, neither]), 2)
    return labels, np.where(ours_right, labels, 1 - labels), np.where(theirs_right, labels, 1 - labels)


def difference(metric: Metric, labels: Labels, ours: Labels, theirs: Labels) -> float:
    return score(metric, labels, ours, 5) - score(metric, labels, theirs, 5)


@pytest.mark.parametrize("metric", METRICS)
def test_the_gains_interval_is_the_plain_bootstraps(metric: Metric) -> None:
    found = gain(metric, LABELS, OURS, THEIRS, 5)
    assert found.value == pytest.approx(difference(metric, LABELS, OURS, THEIRS))
    numbers, values = np.random.default_rng(7), []
    for _ in range(2000):
        chosen = numbers.integers(len(LABELS), size=len(LABELS))
        values.append(difference(metric, LABELS[chosen], OURS[chosen], THEIRS[chosen]))
    width = found.high - found.low
    assert (found.low, found.high) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.05 * width)


def test_the_gains_interval_is_one_of_95_percent() -> None:
    # 1.96 standard errors to each side; a 90 % interval has 1.64, one of 93 % has 1.81.
    widths = []
    for size in range(8, 16):
        labels, ours, theirs = discordant(2 * size, size, 4 * size, size)
        images = len(labels)
        variance = 6 * size / images - (2 * size / images) ** 2
        found = gain("top1", labels, ours, theirs, 2)
        widths.append((found.high - found.low) / math.sqrt(variance / images))
    assert np.mean(widths) == pytest.approx(2 * 1.96, abs=0.1)


def test_what_is_hard_for_both_cancels() -> None:
    ours, theirs = (intervals.interval("top1", LABELS, side, 5) for side in (OURS, THEIRS))
    found = gain("top1", LABELS, OURS, THEIRS, 5)
    assert found.high - found.low < 0.8 * math.hypot(ours.high - ours.low, theirs.high - theirs.low)
    alike = gain("macro_f1", LABELS, OURS, OURS.copy(), 5)
    assert (alike.value, alike.low, alike.high) == (0, 0, 0)


def test_the_other_way_round_the_gain_changes_its_sign() -> None:
    there, back = gain("top1", LABELS, OURS, THEIRS, 5), gain("top1", LABELS, THEIRS, OURS, 5)
    assert there.value == -back.value
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.01)


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_the_images_changes_nothing(metric: Metric) -> None:
    order = np.random.default_rng(1).permutation(len(LABELS))
    mixed, kept = (LABELS[order], OURS[order], THEIRS[order], 5), (LABELS, OURS, THEIRS, 5)
    assert gain(metric, *mixed) == gain(metric, *kept)
    assert permutation(metric, *mixed) == permutation(metric, *kept)


def tail(least: int, trials: int) -> float:
    return sum(math.comb(trials, k) for k in range(least, trials + 1)) / 2**trials


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (0, 5), (1, 0), (5, 0), (12, 3), (3, 12), (10, 10), (520, 479)])
def test_mcnemar_is_the_tail_of_the_binomial(gained: int, lost: int) -> None:
    assert mcnemar(gained, lost) == pytest.approx(tail(gained, gained + lost), rel=1e-9)
    assert mcnemar(5, 0) == 0.03125


@pytest.mark.parametrize(("gained", "lost"), [(4, 2), (7, 2), (3, 3), (2, 5)])
def test_with_classes_of_one_size_swapping_is_mcnemars_test(gained: int, lost: int) -> None:
    # Balanced accuracy is top-1 then, and ties with the observed gain are frequent: they count as reached.
    found = permutation("balanced_accuracy", *discordant(gained, lost, 20, 4), 2)
    assert found == pytest.approx(tail(2 * gained, 2 * gained + 2 * lost), abs=0.012)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
def test_swapping_counts_of_kinds_is_swapping_images(metric: Metric) -> None:
    labels, ours, theirs = drawn(200, better=0.16, seed=4)
    observed, numbers, reached = difference(metric, labels, ours, theirs), np.random.default_rng(5), 0
    for _ in range(2000):
        swap = numbers.random(len(labels)) < 0.5
        sides = np.where(swap, theirs, ours), np.where(swap, ours, theirs)
        reached += difference(metric, labels, *sides) >= observed - 1e-12
    assert 0.1 < reached / 2000 < 0.9
    assert permutation(metric, labels, ours, theirs, 5) == pytest.approx(reached / 2000, abs=0.035)


def test_the_smallest_p_value_is_that_of_the_observed_answers_alone() -> None:
    labels, ours, theirs = discordant(40, 0, 10, 0)
    assert PERMUTATIONS == 10_000
    assert permutation("balanced_accuracy", labels, ours, theirs, 2) == 1 / 10_001
    assert permutation("balanced_accuracy", labels, theirs, ours, 2) == 1
    assert permutation("macro_f1", labels, ours, ours.copy(), 2) == 1


def test_macro_f1_also_tells_wrong_answers_apart() -> None:
    # Both are wrong on the same images; we always answer class 1, they alternate.
    labels = np.repeat([0, 1, 2], 12)
    ours, theirs = labels.copy(), labels.copy()
    ours[:6], theirs[:6] = 1, [1, 2] * 3
    assert gain("macro_f1", labels, ours, theirs, 3).value != 0
    assert permutation("macro_f1", labels, ours, theirs, 3) < 1
    assert permutation("balanced_accuracy", labels, ours, theirs, 3) == 1


def test_all_resamples_are_drawn_in_pieces_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = permutation("macro_f1", LABELS, OURS, THEIRS, 5)
    sizes: list[int] = []
    scores = paired_tests.scores

    def counting(metric: Metric, counts: Any, *rest: Any) -> Any:
        sizes.append(len(counts))
        assert (counts.sum(axis=1) == len(LABELS)).all()
        return scores(metric, counts, *rest)

    monkeypatch.setattr(paired_tests, "scores", counting)
    for at_once in (1, 30_000):
        sizes.clear()
        monkeypatch.setattr(paired_tests, "_AT_ONCE", at_once)
        monkeypatch.setattr(paired_tests, "PERMUTATIONS", 700)
        pieces = permutation("macro_f1", LABELS, OURS, THEIRS, 5)
        assert sum(sizes) == 2 * (700 + 1)
        assert pieces == pytest.approx(whole, abs=0.02)
        assert max(sizes) == 1 or at_once > 1
    assert 4 < len(sizes) < 20
