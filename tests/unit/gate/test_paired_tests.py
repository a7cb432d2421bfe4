from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from adaptformer.base.classification_scores import Metric, score
from adaptformer.gate.exact_difference import Gain, difference
from adaptformer.gate.paired_tests import Groups, contributions, fall, gain, mcnemar, mean_rise, wider
from adaptformer.gate.sign_flips import top1

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
IN_GROUPS = np.arange(300) // 6


def found(metric: Metric, answers: tuple[Labels, Labels, Labels], groups: Groups = None, margin: float = 0.0) -> Gain:
    return gain(metric, *answers, 5, groups, margin, 0.05)


def difference_of(metric: Metric, labels: Labels, ours: Labels, theirs: Labels) -> float:
    return score(metric, labels, ours, 5) - score(metric, labels, theirs, 5)


@pytest.mark.parametrize("metric", METRICS)
def test_the_gain_is_the_difference_of_the_scores(metric: Metric) -> None:
    assert found(metric, (LABELS, OURS, THEIRS)).value == pytest.approx(difference_of(metric, LABELS, OURS, THEIRS))


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
def test_p_is_that_of_swapping_the_models_answers(metric: Metric) -> None:
    # The test of before: swap both answers to each image with probability ½, and count gains as large as the observed.
    labels, ours, theirs = drawn(200, better=0.2, seed=2)
    observed, numbers, reached = difference_of(metric, labels, ours, theirs), np.random.default_rng(5), 0
    for _ in range(2000):
        swap = numbers.random(len(labels)) < 0.5
        sides = np.where(swap, theirs, ours), np.where(swap, ours, theirs)
        reached += difference_of(metric, labels, *sides) >= observed - 1e-12
    assert 0.1 < reached / 2000 < 0.9
    assert found(metric, (labels, ours, theirs)).p == pytest.approx(reached / 2000, abs=0.05)


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_is_close_to_the_paired_bootstraps(metric: Metric) -> None:
    numbers, values = np.random.default_rng(7), []
    for _ in range(2000):
        chosen = numbers.integers(len(LABELS), size=len(LABELS))
        values.append(difference_of(metric, LABELS[chosen], OURS[chosen], THEIRS[chosen]))
    low, high = np.quantile(values, [0.05, 0.95])
    result = found(metric, (LABELS, OURS, THEIRS))
    assert (result.low, result.high) == pytest.approx((low, high), abs=0.2 * (high - low))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("groups", [None, IN_GROUPS])
def test_p_and_interval_never_contradict_each_other(metric: Metric, groups: Groups) -> None:
    answers = drawn(300, better=0.1, seed=3)
    low = found(metric, answers, groups).low
    for margin in (low - 1e-6, low + 1e-6, -0.02, 0.0, 0.02):
        result = found(metric, answers, groups, margin)
        assert (result.p < 0.05) == (margin < result.low)
        assert result.low == low


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
def test_swapping_two_answers_changes_the_sign_of_what_an_image_adds(metric: Metric) -> None:
    gains, weights = contributions(metric, LABELS, OURS, THEIRS, 5)
    assert weights.sum() == pytest.approx(1)
    assert (gains[OURS == THEIRS] == 0).all()
    swapped, _ = contributions(metric, LABELS, THEIRS, OURS, 5)
    np.testing.assert_allclose(swapped, -gains, atol=1e-15)
    image = int(np.flatnonzero((OURS == LABELS) & (THEIRS != LABELS))[0])
    ours, theirs = OURS.copy(), THEIRS.copy()
    ours[image], theirs[image] = THEIRS[image], OURS[image]
    after = difference_of(metric, LABELS, ours, theirs)
    assert after == pytest.approx(gains.sum() - 2 * gains[image], abs=2e-4)


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_the_images_changes_nothing(metric: Metric) -> None:
    order = np.random.default_rng(1).permutation(len(LABELS))
    mixed, kept = (LABELS[order], OURS[order], THEIRS[order]), (LABELS, OURS, THEIRS)
    one, other = found(metric, mixed), found(metric, kept)
    assert (one.low, one.high, one.p) == (other.low, other.high, other.p)


def test_top1_of_independent_images_has_the_exact_test_and_groups_only_widen_it() -> None:
    ours, theirs = OURS == LABELS, THEIRS == LABELS
    alone = difference(int((ours & ~theirs).sum()), int((theirs & ~ours).sum()), 300, 0.0, 0.05)
    assert found("top1", (LABELS, OURS, THEIRS)) == alone
    grouped = top1(ours, theirs, IN_GROUPS, 0.0, 0.05)
    assert found("top1", (LABELS, OURS, THEIRS), IN_GROUPS) == wider(alone, grouped)


def test_macro_f1_also_tells_wrong_answers_apart() -> None:
    # Both are wrong on the same images; we always answer class 1, they alternate.
    labels = np.repeat([0, 1, 2], 12)
    ours, theirs = labels.copy(), labels.copy()
    ours[:6], theirs[:6] = 1, [1, 2] * 3
    assert found("macro_f1", (labels, ours, theirs)).value != 0
    assert found("balanced_accuracy", (labels, ours, theirs)).value == 0


@pytest.mark.parametrize("metric", METRICS)
def test_without_a_change_the_interval_still_has_a_width(metric: Metric) -> None:
    result = found(metric, (LABELS, OURS, OURS.copy()))
    assert result.value == 0
    assert result.low < -1e-3
    assert result.high > 1e-3


def tail(least: int, trials: int) -> float:
    return sum(math.comb(trials, k) for k in range(least, trials + 1)) / 2**trials


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (0, 5), (1, 0), (5, 0), (12, 3), (3, 12), (10, 10), (520, 479)])
def test_mcnemar_is_the_tail_of_the_binomial(gained: int, lost: int) -> None:
    assert mcnemar(gained, lost) == pytest.approx(tail(gained, gained + lost), rel=1e-9)
    assert mcnemar(5, 0) == 0.03125


def test_a_fall_within_few_groups_is_less_sure() -> None:
    theirs, ours = np.ones(60, bool), np.arange(60) >= 8
    assert fall(ours, theirs, None) == mcnemar(8, 0)
    assert fall(ours, theirs, np.arange(60) // 8) > 0.2
    assert fall(theirs, ours, np.arange(60) // 8) == 1.0


def test_a_mean_rise_is_students_test_for_many_images() -> None:
    values = np.random.default_rng(2).normal(0.1, 1, 400)
    result = mean_rise(values, None, 0.0, 0.05)
    error = values.std(ddof=1) / 20
    assert result.value == pytest.approx(values.mean())
    assert result.p == pytest.approx(norm.sf(values.mean() / error), abs=0.01)
    assert result.low == pytest.approx(values.mean() - 1.645 * error, abs=0.01)
