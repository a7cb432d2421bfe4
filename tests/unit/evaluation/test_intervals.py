from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn import metrics as judge

from adaptformer.evaluation import intervals
from adaptformer.evaluation.intervals import Interval, Metric, mcnemar, paired, score, wilson

METRICS: tuple[Metric, ...] = get_args(Metric)
Labels = NDArray[np.int64]


def drawn(images: int = 300, classes: int = 5, seed: int = 0) -> tuple[Labels, Labels, Labels]:
    """Labels of unequal classes, and two models' answers, the first better and both wrong on much the same images."""
    numbers = np.random.default_rng(seed)
    labels = np.minimum(numbers.geometric(0.4, images) - 1, classes - 1)
    theirs = np.where(numbers.random(images) < 0.3, numbers.integers(0, classes, images), labels)
    ours = np.where(numbers.random(images) < 0.2, labels, theirs)
    return labels, ours, theirs


LABELS, OURS, THEIRS = drawn()


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


@pytest.mark.parametrize(
    ("gained", "lost"),
    [(0, 0), (0, 5), (1, 0), (5, 0), (12, 3), (3, 12), (10, 10), (520, 479), (540, 460), (5100, 4900)],
)
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)


def test_scores_are_scikit_learns() -> None:
    present = np.unique(LABELS)
    expected = {
        "top1": judge.accuracy_score(LABELS, OURS),
        "balanced_accuracy": judge.balanced_accuracy_score(LABELS, OURS),
        "macro_f1": judge.f1_score(LABELS, OURS, labels=present, average="macro"),
    }
    assert {metric: score(metric, LABELS, OURS, 5) for metric in METRICS} == pytest.approx(expected)
    assert len(set(expected.values())) == 3


def test_a_class_without_images_counts_only_as_a_wrong_answer() -> None:
    labels, answers = np.array([0, 0, 1, 1]), np.array([0, 4, 1, 1])
    assert score("balanced_accuracy", labels, answers, 5) == pytest.approx((0.5 + 1) / 2)
    assert score("macro_f1", labels, answers, 5) == pytest.approx((2 / 3 + 1) / 2)


def plain(metric: Metric, *sides: Labels) -> tuple[float, float]:
    """The percentile bootstrap, image by image, as a textbook has it."""
    numbers, values = np.random.default_rng(7), []
    for _ in range(2000):
        chosen = numbers.integers(len(LABELS), size=len(LABELS))
        scores = [score(metric, LABELS[chosen], side[chosen], 5) for side in sides]
        values.append(scores[0] - scores[1] if len(sides) == 2 else scores[0])
    return tuple(np.quantile(values, [0.025, 0.975]))  # type: ignore[return-value]


@pytest.mark.parametrize("metric", METRICS)
def test_the_paired_interval_is_the_plain_bootstraps(metric: Metric) -> None:
    found = paired(metric, LABELS, OURS, THEIRS, 5)
    assert found.value == pytest.approx(score(metric, LABELS, OURS, 5) - score(metric, LABELS, THEIRS, 5))
    width = found.high - found.low
    assert (found.low, found.high) == pytest.approx(plain(metric, OURS, THEIRS), abs=0.1 * width)


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_of_one_side_is_the_plain_bootstraps(metric: Metric) -> None:
    found = intervals.interval(metric, LABELS, OURS, 5)
    assert found.value == score(metric, LABELS, OURS, 5)
    assert (found.low, found.high) == pytest.approx(plain(metric, OURS), abs=0.1 * (found.high - found.low))


def test_what_is_hard_for_both_cancels() -> None:
    ours, theirs = (intervals.interval("top1", LABELS, side, 5) for side in (OURS, THEIRS))
    unpaired = math.hypot(ours.high - ours.low, theirs.high - theirs.low)
    found = paired("top1", LABELS, OURS, THEIRS, 5)
    assert found.high - found.low < 0.6 * unpaired
    alike = paired("macro_f1", LABELS, OURS, OURS.copy(), 5)
    assert (alike.value, alike.low, alike.high) == (0, 0, 0)


def test_the_other_way_round_the_sign_changes() -> None:
    there, back = paired("top1", LABELS, OURS, THEIRS, 5), paired("top1", LABELS, THEIRS, OURS, 5)
    assert there.value == -back.value
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.01)


def test_equal_predictions_give_equal_intervals_in_whatever_order() -> None:
    order = np.random.default_rng(1).permutation(len(LABELS))
    found = paired("macro_f1", LABELS, OURS, THEIRS, 5)
    assert paired("macro_f1", LABELS[order], OURS[order], THEIRS[order], 5) == found
    assert paired("macro_f1", LABELS, OURS, THEIRS, 5, seed=1) != found


def test_resampling_in_pieces_changes_nothing_but_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = paired("top1", LABELS, OURS, THEIRS, 5)
    draws: list[int] = []
    scores = intervals._scores

    def counting(metric: Metric, weights: Any, *rest: Any) -> Any:
        draws.append(len(weights))
        assert (weights.sum(axis=1) == len(LABELS)).all()
        return scores(metric, weights, *rest)

    monkeypatch.setattr(intervals, "_AT_ONCE", 7000)
    monkeypatch.setattr(intervals, "_scores", counting)
    pieces = paired("top1", LABELS, OURS, THEIRS, 5)
    assert sum(draws) == 2 * (intervals.RESAMPLES + 1)
    assert len(draws) > 10
    assert (pieces.low, pieces.high) == pytest.approx((whole.low, whole.high), abs=0.01)


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
