from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as judge

from adaptformer.base import classification_scores
from adaptformer.base.classification_scores import NAMES, Metric, score
from adaptformer.config.params import GateParams

METRICS: tuple[Metric, ...] = get_args(Metric)
Labels = NDArray[np.int64]


def drawn(images: int = 300, classes: int = 5, seed: int = 0) -> tuple[Labels, Labels]:
    """Labels of unequal classes, and a model's answers."""
    numbers = np.random.default_rng(seed)
    labels = np.minimum(numbers.geometric(0.4, images) - 1, classes - 1)
    return labels, np.where(numbers.random(images) < 0.3, numbers.integers(0, classes, images), labels)


LABELS, OURS = drawn()


def test_the_gate_may_choose_any_metric_and_each_has_a_name() -> None:
    assert set(get_args(GateParams.model_fields["metric"].annotation)) == set(METRICS) == set(NAMES)
    assert NAMES == {"top1": "top-1", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro-F1"}


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


@pytest.mark.parametrize("metric", METRICS)
def test_each_row_of_counts_has_its_own_score(metric: Metric) -> None:
    kinds = [(0, 0), (0, 1), (1, 1), (2, 0), (2, 2)]  # the last class does not occur in the second row
    counts = np.array([[5, 1, 4, 2, 3], [7, 2, 1, 0, 0]])
    true, predicted = np.array(kinds).T
    expected = [score(metric, np.repeat(true, row), np.repeat(predicted, row), 4) for row in counts]
    assert classification_scores.scores(metric, counts, true, predicted, 4) == pytest.approx(expected)


@pytest.mark.parametrize("metric", METRICS)
def test_without_a_right_answer_every_score_is_0(metric: Metric) -> None:
    assert score(metric, np.array([0, 1, 1]), np.array([1, 0, 2]), 3) == 0
