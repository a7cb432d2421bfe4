from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as judge

from adaptformer.evaluation.metrics import Evaluation, summary


def random(images: int = 400, classes: int = 7, seed: int = 0) -> Evaluation:
    numbers = np.random.default_rng(seed)
    labels = numbers.integers(0, classes, images)
    logits = numbers.normal(size=(images, classes)).astype(np.float32) * 2
    logits[np.arange(images), labels] += 1.5
    return Evaluation(logits, labels)


RANDOM = random()


def test_top_k_is_scikit_learns() -> None:
    for k in (1, 2, 5):
        expected = judge.top_k_accuracy_score(RANDOM.labels, RANDOM.logits, k=k)
        assert RANDOM.top(k) == pytest.approx(expected), k
    assert RANDOM.top(1) == judge.accuracy_score(RANDOM.labels, RANDOM.predicted)
    assert RANDOM.top(1) < RANDOM.top(2) < RANDOM.top(5) < 1


def test_loss_is_scikit_learns() -> None:
    assert RANDOM.loss == pytest.approx(judge.log_loss(RANDOM.labels, RANDOM.probabilities))
    np.testing.assert_allclose(RANDOM.probabilities.sum(axis=1), 1)
    exponents = np.exp(RANDOM.logits.astype(np.float64))
    np.testing.assert_allclose(RANDOM.probabilities, exponents / exponents.sum(axis=1, keepdims=True))


def test_the_confusion_matrix_is_scikit_learns() -> None:
    np.testing.assert_array_equal(RANDOM.confusion, judge.confusion_matrix(RANDOM.labels, RANDOM.predicted))


def test_recall_is_scikit_learns() -> None:
    expected = judge.recall_score(RANDOM.labels, RANDOM.predicted, average=None)
    np.testing.assert_allclose(RANDOM.recall, expected)


def test_a_class_without_images_has_no_recall_and_a_row_of_zeros() -> None:
    evaluation = Evaluation(np.eye(4, dtype=np.float32)[[0, 1, 1]], np.array([0, 1, 0]))
    np.testing.assert_array_equal(evaluation.recall, [0.5, 1.0, np.nan, np.nan])
    assert evaluation.confusion.shape == (4, 4)
    assert evaluation.confusion.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0] * 4, [0] * 4]


def test_of_equal_logits_the_first_wins() -> None:
    tied = Evaluation(np.zeros((3, 3), np.float32), np.array([0, 1, 2]))
    assert tied.predicted.tolist() == [0, 0, 0]
    assert [tied.top(k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert tied.loss == pytest.approx(np.log(3))


def test_more_than_there_are_classes_are_all() -> None:
    assert random(50, 3).top(5) == 1.0


@pytest.mark.parametrize("size", [1e4, 3e38])
def test_large_logits_overflow_nowhere(size: float) -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        sure = Evaluation(np.array([[size, 0.0], [size, 0.0]], np.float32), np.array([0, 1]))
        assert np.isfinite(sure.loss)
        assert sure.loss > 300  # the second image is wrong beyond all doubt
        assert sure.probabilities.tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_the_summary_holds_fractions_and_survives_json() -> None:
    evaluation = Evaluation(np.eye(3, dtype=np.float32)[[0, 1, 1]] * 3, np.array([0, 1, 0]))
    content = summary(evaluation, ("a", "b", "c"))
    assert content == {
        "top1": 0.666667,
        "top5": 1.0,
        "loss": round(evaluation.loss, 6),
        "images": 3,
        "per_class": {
            "a": {"images": 2, "top1": 0.5}, "b": {"images": 1, "top1": 1.0}, "c": {"images": 0, "top1": None},
        },
    }  # fmt: skip
    assert json.loads(json.dumps(content, allow_nan=False)) == content
