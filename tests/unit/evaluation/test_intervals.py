from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, binomtest, gamma, norm

from adaptformer.base.classification_scores import Metric, score
from adaptformer.evaluation import intervals
from adaptformer.evaluation.intervals import Interval, plain_wilson, wilson

METRICS: tuple[Metric, ...] = get_args(Metric)
Labels = NDArray[np.int64]


def drawn(images: int = 300, classes: int = 5, seed: int = 0) -> tuple[Labels, Labels]:
    """Labels of unequal classes, and a model's answers."""
    numbers = np.random.default_rng(seed)
    labels = np.minimum(numbers.geometric(0.4, images) - 1, classes - 1)
    return labels, np.where(numbers.random(images) < 0.3, numbers.integers(0, classes, images), labels)


LABELS, OURS = drawn()


@pytest.mark.parametrize("images", [1, 2, 10, 97, 10_000])
def test_wilson_is_scipys_but_for_few_hits_or_misses(images: int) -> None:
    for hits in sorted({0, 1, images // 3, images - 4, images - 1, images} & set(range(images + 1))):
        expected = binomtest(hits, images).proportion_ci(0.95, "wilson")
        plain, found = plain_wilson(hits, images), wilson(hits, images)
        assert (plain.value, plain.low, plain.high) == pytest.approx((hits / images, *expected), abs=1e-12)
        few, many = 0 < hits <= 3 and 2 * hits < images, 0 < images - hits <= 3 and 2 * hits > images
        # Brown, Cai & DasGupta (2001), 4.1.1: half the quantile of χ² with twice as many degrees of freedom as hits.
        low = min(plain.low, gamma.ppf(0.05, hits) / images) if few else plain.low
        high = max(plain.high, 1 - gamma.ppf(0.05, images - hits) / images) if many else plain.high
        assert (found.value, found.low, found.high) == pytest.approx((hits / images, low, high), abs=1e-12)


@pytest.mark.parametrize("images", [50, 216, 359, 2000])
def test_93_of_100_intervals_hold_the_truth_at_any_accuracy(images: int) -> None:
    # Wilson's own hold it in 91 % of 50 images at 99 %, and the percentile bootstrap in 83 % of 359 at 99.5 %.
    found = [wilson(hits, images) for hits in range(images + 1)]
    lows, highs = np.array([each.low for each in found]), np.array([each.high for each in found])
    for accuracy in np.linspace(0.5, 0.999, 200):
        held = (lows <= accuracy) & (accuracy <= highs)
        assert binom.pmf(np.flatnonzero(held), images, accuracy).sum() > 0.93


def test_wilson_as_published_and_without_images() -> None:
    # Newcombe, Stat. Med. 17 (1998) 857, table I, method 3.
    assert wilson(81, 263).to_list() == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert wilson(0, 20).to_list() == pytest.approx([0.0, 0.1611], abs=5e-5)
    nothing = wilson(0, 0)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0, 1)


def score_limits(value: float, images: float) -> tuple[float, float]:
    """Wilson's limits of a share of any number of images, by solving |p − value| = z √(p (1 − p) / images)."""
    z = norm.isf(0.025)
    roots = np.roots([1 + z**2 / images, -(2 * value + z**2 / images), value**2])
    return float(min(roots)), float(max(roots))


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_is_close_to_the_plain_bootstraps(metric: Metric) -> None:
    found = intervals.interval(metric, LABELS, OURS, 5)
    assert found.value == pytest.approx(score(metric, LABELS, OURS, 5))
    numbers, values = np.random.default_rng(7), []
    for _ in range(2000):
        chosen = numbers.integers(len(LABELS), size=len(LABELS))
        values.append(score(metric, LABELS[chosen], OURS[chosen], 5))
    low, high = np.quantile(values, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.25 * (high - low))


def test_classes_of_one_size_have_the_interval_of_top1() -> None:
    labels = np.repeat(np.arange(4), 50)
    answers = np.where(np.arange(200) % 7 == 0, (labels + 1) % 4, labels)
    top1, balanced = (intervals.interval(metric, labels, answers, 4) for metric in ("top1", "balanced_accuracy"))
    assert (balanced.value, balanced.low, balanced.high) == pytest.approx((top1.value, top1.low, top1.high))
    assert (top1.low, top1.high) == pytest.approx(score_limits(top1.value, 200))


def test_rare_classes_leave_fewer_independent_images() -> None:
    labels = np.repeat([0, 1], [190, 10])
    alike = intervals.interval("balanced_accuracy", labels, labels, 2)
    assert intervals.independent("balanced_accuracy", labels, labels, 2, None) == pytest.approx(4 / (1 / 190 + 1 / 10))
    assert (alike.value, alike.high) == (1, 1)
    assert alike.low < 0.92, "a width even where nothing is wrong"
    assert intervals.interval("macro_f1", labels, labels, 2).low < 0.92


@pytest.mark.parametrize(("sizes", "accuracy"), [((180, 180), 0.99), ((36,) * 10, 0.859), ((340, 19), 0.7)])
def test_93_of_100_intervals_of_balanced_accuracy_contain_the_truth(sizes: tuple[int, ...], accuracy: float) -> None:
    labels, numbers = np.repeat(np.arange(len(sizes)), sizes), np.random.default_rng(0)
    inside = []
    for _ in range(1000):
        answers = np.where(numbers.random(len(labels)) < accuracy, labels, (labels + 1) % len(sizes))
        found = intervals.interval("balanced_accuracy", labels, answers, len(sizes))
        inside.append(found.low <= accuracy <= found.high)
    assert np.mean(inside) >= 0.93


def test_macro_f1_reaches_to_where_its_bias_would_put_it() -> None:
    numbers = np.random.default_rng(0)
    labels = numbers.integers(0, 100, 359)
    answers = np.where(numbers.random(359) < 0.7, labels, numbers.integers(0, 100, 359))
    found = intervals.interval("macro_f1", labels, answers, 100)
    images = intervals.independent("macro_f1", labels, answers, 100, None)
    low, high = score_limits(found.value, images)
    assert found.low == pytest.approx(low)
    assert high + 0.003 < found.high < high + 0.03
    few = intervals.interval("macro_f1", LABELS, OURS, 5)
    plain = score_limits(few.value, intervals.independent("macro_f1", LABELS, OURS, 5, None))
    assert (few.low, few.high) == pytest.approx(plain, abs=0.005)


@pytest.mark.parametrize("metric", METRICS)
def test_images_that_agree_within_groups_count_for_fewer(metric: Metric) -> None:
    labels, groups = np.tile(np.arange(2), 180), np.arange(360) // 10
    wrong = groups % 9 == 0
    answers = np.where(wrong, 1 - labels, labels)
    alone = intervals.interval(metric, labels, answers, 2)
    together = intervals.interval(metric, labels, answers, 2, groups)
    spread = intervals.interval(metric, labels, answers, 2, np.arange(360) % 36)
    assert together.value == alone.value
    assert together.high - together.low > 2.5 * (alone.high - alone.low)
    assert spread.high - spread.low < together.high - together.low
    one = intervals.interval(metric, labels, answers, 2, np.zeros(360, int))
    assert one.high - one.low > 0.95, "one group says next to nothing"


def test_where_nothing_is_wrong_groups_count_as_images() -> None:
    labels = np.arange(360) % 2
    found = intervals.interval("top1", labels, labels, 2, np.arange(360) // 10)
    students = 2.0301 / norm.isf(0.025)
    assert found.low == pytest.approx(score_limits(1.0, 36 / students**2)[0], abs=1e-4)


def test_equal_predictions_give_equal_intervals_in_whatever_order() -> None:
    order = np.random.default_rng(1).permutation(len(LABELS))
    found, mixed = (intervals.interval("macro_f1", LABELS[o], OURS[o], 5) for o in (np.arange(len(LABELS)), order))
    assert (mixed.low, mixed.high) == pytest.approx((found.low, found.high), abs=1e-12)


def test_the_mean_of_one_training_has_wilsons_interval_and_several_tell_more() -> None:
    right = np.random.default_rng(2).random((3, 200)) < 0.8
    once = intervals.mean(right[0].astype(float), None)
    one = wilson(int(right[0].sum()), 200)
    assert (once.value, once.low, once.high) == pytest.approx((one.value, one.low, one.high))
    several = intervals.mean(right.mean(axis=0), None)
    assert several.high - several.low < 0.7 * (once.high - once.low)
    assert intervals.mean(np.ones(50), None) == wilson(50, 50)


def test_groups_of_some_images_are_numbered_anew() -> None:
    found = intervals.dense(np.array([7, 3, 7, 9]))
    assert found is not None
    assert found.tolist() == [1, 0, 1, 2]
    assert intervals.dense(np.array([7, 3, 9])) is None
    assert intervals.dense(None) is None


def test_an_interval_is_rounded_for_json() -> None:
    assert Interval(0.5, 0.12345678, 0.87654321).to_list() == [0.123457, 0.876543]
