"""The accuracy that confidence promises, against the truth of simulated models."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression

from adaptformer.monitoring import expected_accuracy

DRAWS = 100
"""Draws from the posterior where a test does not ask how exact they are."""


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_accuracy, "DRAWS", DRAWS)


def answers(count: int, seed: int, ease: float = 0.0, boast: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and whether each answer is right: as often as the confidence says, if `boast` is 1."""
    numbers = np.random.default_rng(seed)
    log_odds = numbers.normal(1.5 + ease, 1.5, count)
    right = numbers.random(count) < 1 / (1 + np.exp(-log_odds))
    return 1 / (1 + np.exp(-boast * log_odds)), right


def test_the_interval_holds_the_truth_for_easier_and_harder_images_and_boasting_models(few_draws: None) -> None:
    inside, errors = [], []
    for seed in range(6):
        boast = 1.0 if seed < 3 else 3.0
        confidence, right = answers(300, seed, boast=boast)
        new, truth = answers(120, 1000 + seed, ease=(-1.0, 0.0, 1.0)[seed % 3], boast=boast)
        found = expected_accuracy.estimate(confidence, right, new)
        inside.append(found.low <= truth.mean() <= found.high)
        errors.append(found.value - truth.mean())
        assert found.low < found.value < found.high
    assert sum(inside) >= 5
    assert abs(np.mean(errors)) < 0.04


def test_fewer_images_leave_more_open(few_draws: None) -> None:
    confidence, right = answers(400, 0)
    widths = [
        found.high - found.low
        for found in (
            expected_accuracy.estimate(confidence, right, answers(2000, 1)[0]),
            expected_accuracy.estimate(confidence, right, answers(50, 1)[0]),
            expected_accuracy.estimate(confidence[:40], right[:40], answers(50, 1)[0]),
        )
    ]
    assert widths == sorted(widths)
    assert widths[0] < 0.6 * widths[1]


def test_a_split_without_errors_promises_no_certainty(few_draws: None) -> None:
    new = np.full(100, 0.97)
    found = expected_accuracy.estimate(np.linspace(0.9, 0.99, 50), np.ones(50, bool), new)
    assert 0.9 < found.value < 1
    assert found.low < 0.97


@pytest.mark.parametrize(("right", "images"), [(20, 20), (49, 50), (18, 20)])
def test_with_equal_confidences_it_is_jeffreys_posterior(
    right: int, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expected_accuracy, "DRAWS", 250)
    answers = np.arange(images) < right
    found = expected_accuracy.estimate(np.full(images, 0.9), answers, np.full(2000, 0.9))
    posterior = beta(right + 0.5, images - right + 0.5)
    assert found.value == pytest.approx(posterior.mean(), abs=0.015)
    assert found.low == pytest.approx(posterior.ppf(0.025), abs=0.035)
    assert found.high == pytest.approx(posterior.ppf(0.975), abs=0.02)


@pytest.mark.parametrize(("images", "ease"), [(20, -0.2), (50, 6.0)])
def test_intervals_from_few_validation_images_contain_the_truth_often_enough(images: int, ease: float) -> None:
    # About 80 and 99 % right. If 90 % of intervals contain the truth, fewer than 84 of 100 do with a chance of 2 %.
    inside = []
    for seed in range(100):
        confidence, right = answers(images + 200, seed, ease, boast=1.4)
        found = expected_accuracy.estimate(confidence[:images], right[:images], confidence[images:])
        inside.append(found.low <= right[images:].mean() <= found.high)
    assert sum(inside) >= 84


def test_the_estimate_is_that_of_scikit_learns_regression() -> None:
    confidence, right = answers(5000, 0, boast=1.7)
    new = answers(3000, 1, boast=1.7)[0]
    log_odds = np.log(np.stack([confidence, 1 - confidence])).T @ [1, -1]
    new_odds = np.log(np.stack([new, 1 - new])).T @ [1, -1]
    fitted = LogisticRegression(C=1e3).fit(log_odds[:, np.newaxis], right)
    expected = fitted.predict_proba(new_odds[:, np.newaxis])[:, 1].mean()
    assert expected_accuracy.estimate(confidence, right, new).value == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("right_above", [True, False])
def test_answers_that_confidence_parts_completely_have_a_finite_regression(right_above: bool) -> None:
    confidence = np.linspace(0.05, 0.95, 40)
    right = (confidence > 0.5) == right_above
    found = [expected_accuracy.estimate(confidence, right, np.full(400, new)) for new in (0.1, 0.9)]
    assert found[right_above].value > 0.98
    assert found[not right_above].value < 0.02


def test_equal_input_gives_equal_intervals() -> None:
    confidence, right = answers(100, 0)
    new = answers(60, 1)[0]
    assert expected_accuracy.estimate(confidence, right, new) == expected_accuracy.estimate(confidence, right, new)


def test_confidences_of_0_and_1_are_taken(few_draws: None) -> None:
    found = expected_accuracy.estimate(np.array([1.0, 1.0, 0.0, 0.5]), np.array([True, True, False, True]), np.ones(3))
    assert 0 <= found.low <= found.value <= found.high <= 1
