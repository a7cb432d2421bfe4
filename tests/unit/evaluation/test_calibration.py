from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from adaptformer.evaluation import calibration, intervals

NUMBERS = np.random.default_rng(0)
CONFIDENCE = NUMBERS.uniform(0.2, 1, 500).round(2)  # on the edges of bins, too, and with ties
CORRECT = NUMBERS.random(500) < CONFIDENCE**2


def restated(confidence: list[float], correct: list[bool], bins: int) -> float:
    """Guo et al.'s equation 3, image by image."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [i for i, value in enumerate(confidence) if (m - 1) / bins < value <= m / bins]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            mean = sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_the_calibration_error_is_guo_et_als(bins: int) -> None:
    expected = restated(CONFIDENCE.tolist(), CORRECT.tolist(), bins)
    assert calibration.ece(CONFIDENCE, CORRECT, bins) == pytest.approx(expected)
    assert expected > 0.05


def test_the_calibration_error_has_15_bins_by_default() -> None:
    assert len(calibration.reliability(CONFIDENCE, CORRECT)) == 15
    assert calibration.ece(CONFIDENCE, CORRECT) == calibration.ece(CONFIDENCE, CORRECT, 15)
    assert calibration.ece(CONFIDENCE, CORRECT) != calibration.ece(CONFIDENCE, CORRECT, 14)


def test_errors_of_bins_do_not_cancel() -> None:
    assert calibration.ece(np.array([0.9, 0.6]), np.array([False, True])) == pytest.approx((0.9 + 0.4) / 2)
    assert calibration.ece(np.array([1.0, 1.0]), np.array([True, True])) == 0.0


def test_without_images_there_is_no_error() -> None:
    assert math.isnan(calibration.ece(np.empty(0), np.empty(0, bool)))


def test_bins_are_scikit_learns() -> None:
    # Away from the edges, which scikit-learn counts to the upper bin.
    inside = CONFIDENCE - 0.003
    bins = [part for part in calibration.reliability(inside, CORRECT, 10) if part.images]
    accuracy, confidence = calibration_curve(CORRECT, inside, n_bins=10)
    np.testing.assert_allclose([part.accuracy.value for part in bins], accuracy)
    np.testing.assert_allclose([part.confidence for part in bins], confidence)
    assert sum(part.images for part in bins) == 500


def test_an_edge_belongs_to_the_bin_below() -> None:
    bins = calibration.reliability(np.array([0.0, 0.2, 0.21, 1.0]), np.array([True, False, True, True]), 5)
    assert [(part.low, part.high, part.images) for part in bins] == [
        (0.0, 0.2, 2), (0.2, 0.4, 1), (0.4, 0.6, 0), (0.6, 0.8, 0), (0.8, 1.0, 1),
    ]  # fmt: skip
    assert bins[0].accuracy == intervals.wilson(1, 2)
    assert math.isnan(bins[2].confidence)
    assert math.isnan(bins[2].accuracy.value)


def test_coverage_is_the_accuracy_of_all_at_least_as_confident() -> None:
    curve = calibration.coverage(CONFIDENCE, CORRECT)
    assert curve.threshold.tolist() == sorted(set(CONFIDENCE.tolist()), reverse=True)
    for threshold, share, accuracy in zip(curve.threshold, curve.share, curve.accuracy, strict=True):
        answered = threshold <= CONFIDENCE
        assert share == pytest.approx(answered.mean())
        assert accuracy == pytest.approx(CORRECT[answered].mean())
    assert curve.share[-1] == 1.0


def test_coverage_does_not_depend_on_the_order_of_equals() -> None:
    order = NUMBERS.permutation(500)
    first, second = calibration.coverage(CONFIDENCE, CORRECT), calibration.coverage(CONFIDENCE[order], CORRECT[order])
    np.testing.assert_array_equal(first.accuracy, second.accuracy)


def test_a_share_is_reached_at_the_first_point_that_has_it() -> None:
    curve = calibration.coverage(np.array([0.9, 0.8, 0.8, 0.6]), np.array([True, True, False, False]))
    assert curve.share.tolist() == [0.25, 0.75, 1.0]
    assert curve.accuracy.tolist() == [1.0, 2 / 3, 0.5]
    assert [curve.at(share) for share in (0.0, 0.25, 0.26, 0.75, 1.0)] == [0, 0, 1, 1, 2]
    tenths = calibration.coverage(np.linspace(1, 0.1, 10), np.ones(10, bool))
    assert [tenths.at(share) for share in (0.3, 0.7, 0.9)] == [2, 6, 8], "rounding must not skip a point"
