from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as judge

from adaptformer.evaluation import calibration, intervals, metrics
from adaptformer.evaluation.intervals import wilson
from adaptformer.evaluation.metrics import Evaluation, summary


def random(images: int = 400, classes: int = 7, seed: int = 0) -> Evaluation:
    numbers = np.random.default_rng(seed)
    labels = numbers.integers(0, classes, images)
    logits = numbers.normal(size=(images, classes)).astype(np.float32) * 2
    logits[np.arange(images), labels] += 1.5
    return Evaluation(logits, labels)


RANDOM = random()


def probabilities() -> NDArray[np.float64]:
    exponents = np.exp(RANDOM.logits.astype(np.float64))
    result: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return result


def test_top_k_is_scikit_learns() -> None:
    for k in (1, 2, 5):
        expected = judge.top_k_accuracy_score(RANDOM.labels, RANDOM.logits, k=k)
        assert RANDOM.top(k) == pytest.approx(expected), k
    assert RANDOM.top(1) == judge.accuracy_score(RANDOM.labels, RANDOM.predicted)
    assert RANDOM.top(1) < RANDOM.top(2) < RANDOM.top(5) < 1


def test_loss_is_scikit_learns() -> None:
    assert RANDOM.loss == pytest.approx(judge.log_loss(RANDOM.labels, probabilities()))


def test_the_confusion_matrix_is_scikit_learns() -> None:
    np.testing.assert_array_equal(RANDOM.confusion, judge.confusion_matrix(RANDOM.labels, RANDOM.predicted))


def test_recall_is_scikit_learns() -> None:
    expected = judge.recall_score(RANDOM.labels, RANDOM.predicted, average=None)
    np.testing.assert_allclose([share.value for share in RANDOM.per_class], expected)


def test_balanced_accuracy_and_macro_f1_are_scikit_learns() -> None:
    rare = Evaluation(RANDOM.logits[:60], np.where(RANDOM.labels[:60] == 3, 0, RANDOM.labels[:60]))
    for evaluation in (RANDOM, rare):
        given = {metric: score.value for metric, score in evaluation.scores.items()}
        present = np.unique(evaluation.labels)
        assert given == pytest.approx(
            {
                "top1": judge.accuracy_score(evaluation.labels, evaluation.predicted),
                "balanced_accuracy": judge.recall_score(
                    evaluation.labels, evaluation.predicted, labels=present, average="macro"
                ),
                "macro_f1": judge.f1_score(evaluation.labels, evaluation.predicted, labels=present, average="macro"),
            }
        )
        assert len(set(given.values())) == 3
        assert all(score.low < score.value < score.high for score in evaluation.scores.values())
        assert evaluation.scores["top1"] == wilson(int(evaluation.correct.sum()), len(evaluation.labels))


def test_confidence_is_the_probability_of_the_prediction() -> None:
    rows = np.arange(len(RANDOM.labels))
    np.testing.assert_allclose(RANDOM.confidence, probabilities()[rows, RANDOM.predicted])
    np.testing.assert_allclose(RANDOM.probability_of_label, probabilities()[rows, RANDOM.labels])
    np.testing.assert_array_equal(RANDOM.correct, RANDOM.labels == RANDOM.predicted)
    assert RANDOM.ece == calibration.ece(RANDOM.confidence, RANDOM.correct) > 0


def test_each_class_has_wilsons_interval() -> None:
    hits, images = RANDOM.confusion.diagonal(), RANDOM.confusion.sum(axis=1)
    assert RANDOM.per_class == [intervals.wilson(int(h), int(n)) for h, n in zip(hits, images, strict=True)]


def test_a_class_without_images_has_no_recall_and_a_row_of_zeros() -> None:
    evaluation = Evaluation(np.eye(4, dtype=np.float32)[[0, 1, 1]], np.array([0, 1, 0]))
    np.testing.assert_array_equal([share.value for share in evaluation.per_class], [0.5, 1.0, np.nan, np.nan])
    assert evaluation.confusion.shape == (4, 4)
    assert evaluation.confusion.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0] * 4, [0] * 4]


def test_of_equal_logits_the_first_wins() -> None:
    tied = Evaluation(np.zeros((3, 3), np.float32), np.array([0, 1, 2]))
    assert tied.predicted.tolist() == [0, 0, 0]
    assert [tied.top(k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert tied.loss == pytest.approx(np.log(3))


def test_a_few_images_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = summary(random(), tuple("abcdefg"))
    monkeypatch.setattr(metrics, "_ROWS_AT_ONCE", 7)
    assert summary(random(), tuple("abcdefg")) == whole


def test_more_than_there_are_classes_are_all() -> None:
    assert random(50, 3).top(5) == 1.0


@pytest.mark.parametrize("size", [1e4, 3e38])
def test_large_logits_overflow_nowhere(size: float) -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        sure = Evaluation(np.array([[size, 0.0], [size, 0.0]], np.float32), np.array([0, 1]))
        assert np.isfinite(sure.loss)
        assert sure.loss > 300  # the second image is wrong beyond all doubt
        assert sure.confidence.tolist() == [1.0, 1.0]


def test_the_summary_holds_fractions_and_survives_json() -> None:
    evaluation = Evaluation(np.eye(3, dtype=np.float32)[[0, 1, 1]] * 3, np.array([0, 1, 0]))
    content = summary(evaluation, ("a", "b", "c"))
    assert content == {
        "top1": 0.666667,
        "top5": 1.0,
        "balanced_accuracy": 0.75,
        "macro_f1": 0.666667,
        "loss": round(evaluation.loss, 6),
        "independent_images": 3.0,
        "ece": round(abs(2 / 3 - float(evaluation.confidence[0])), 6),
        "images": 3,
        "intervals": {metric: score.to_list() for metric, score in evaluation.scores.items()},
        "per_class": {
            "a": {"images": 2, "top1": 0.5, "interval": intervals.wilson(1, 2).to_list()},
            "b": {"images": 1, "top1": 1.0, "interval": intervals.wilson(1, 1).to_list()},
            "c": {"images": 0, "top1": None, "interval": None},
        },
    }
    assert set(content["intervals"]) == {"top1", "balanced_accuracy", "macro_f1"}  # type: ignore[call-overload]
    assert json.loads(json.dumps(content, allow_nan=False)) == content
