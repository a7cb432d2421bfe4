from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from adaptformer.evaluation import intervals
from adaptformer.evaluation.intervals import Interval, wilson
from adaptformer.scores import Metric, score

METRICS: tuple[Metric, ...] = get_args(Metric)
Labels = NDArray[np.int64]


def drawn(images: int = 300, classes: int = 5, seed: int = 0) -> tuple[Labels, Labels]:
    """Labels of unequal classes, and a model's answers."""
    numbers = np.random.default_rng(seed)
    labels = np.minimum(numbers.geometric(0.4, images) - 1, classes - 1)
    return labels, np.where(numbers.random(images) < 0.3, numbers.integers(0, classes, images), labels)


LABELS, OURS = drawn()


@pytest.mark.parametrize("images", [1, 2, 10, 97, 10_000])
def test_wilson_is_scipys(images: int) -> None:
    for hits in sorted({0, 1, images // 3, images - 1, images}):
        expected = binomtest(hits, images).proportion_ci(0.95, "wilson")
        found = wilson(hits, images)
        assert (found.value, found.low, found.high) == pytest.approx((hits / images, *expected), abs=1e-12)


def test_wilson_as_published_and_without_images() -> None:
    # Newcombe, Stat. Med. 17 (1998) 857, table I, method 3.
    assert wilson(81, 263).to_list() == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert wilson(0, 20).to_list() == pytest.approx([0.0, 0.1611], abs=5e-5)
    nothing = wilson(0, 0)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0, 1)


def plain(metric: Metric) -> tuple[float, float]:
    """The percentile bootstrap, image by image, as a textbook has it."""
    numbers, values = np.random.default_rng(7), []
    for _ in range(2000):
        chosen = numbers.integers(len(LABELS), size=len(LABELS))
        values.append(score(metric, LABELS[chosen], OURS[chosen], 5))
    return tuple(np.quantile(values, [0.025, 0.975]))  # type: ignore[return-value]


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_is_the_plain_bootstraps(metric: Metric) -> None:
    found = intervals.interval(metric, LABELS, OURS, 5)
    assert found.value == score(metric, LABELS, OURS, 5)
    assert (found.low, found.high) == pytest.approx(plain(metric), abs=0.05 * (found.high - found.low))


def test_intervals_are_those_of_95_percent() -> None:
    # 1.96 standard errors to each side; a 90 % interval has 1.64, one of 93 % has 1.81.
    shares, means = [], []
    for images in range(200, 280, 10):
        labels = np.arange(images) % 2
        found = intervals.interval("top1", labels, np.zeros_like(labels), 2)
        shares.append((found.high - found.low) / math.sqrt(0.25 / images))
        values = np.random.default_rng(images).normal(size=images)
        mean = intervals.mean(values)
        means.append((mean.high - mean.low) / (values.std() / math.sqrt(images)))
    assert np.mean(shares) == pytest.approx(2 * 1.96, abs=0.1)
    assert np.mean(means) == pytest.approx(2 * 1.96, abs=0.1)


def test_equal_predictions_give_equal_intervals_in_whatever_order() -> None:
    order = np.random.default_rng(1).permutation(len(LABELS))
    found = intervals.interval("macro_f1", LABELS, OURS, 5)
    assert intervals.interval("macro_f1", LABELS[order], OURS[order], 5) == found


def test_resampling_in_pieces_changes_nothing_but_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, draws = np.array([30, 50, 20]), []

    def share(drawn: Labels) -> NDArray[np.float64]:
        draws.append(len(drawn))
        assert (drawn.sum(axis=1) == 100).all()
        result: NDArray[np.float64] = drawn[:, 0] / 100
        return result

    whole = intervals.bootstrap(share, counts)
    draws.clear()
    monkeypatch.setattr(intervals, "_AT_ONCE", 700)
    pieces = intervals.bootstrap(share, counts)
    assert sum(draws) == intervals.RESAMPLES + 1
    assert len(draws) > 5
    assert (pieces.value, pieces.low, pieces.high) == pytest.approx((0.3, whole.low, whole.high), abs=0.015)


def test_the_interval_of_a_mean_is_the_plain_bootstraps() -> None:
    values = np.random.default_rng(2).exponential(size=200)
    found = intervals.mean(values)
    numbers = np.random.default_rng(3)
    means = [numbers.choice(values, 200).mean() for _ in range(2000)]
    assert found.value == values.mean()
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.03)
    assert intervals.mean(values) == found


def test_an_interval_is_rounded_for_json() -> None:
    assert Interval(0.5, 0.12345678, 0.87654321).to_list() == [0.123457, 0.876543]
