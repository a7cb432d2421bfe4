from __future__ import annotations

import numpy as np

from adaptformer.evaluation import report_images
from adaptformer.evaluation.metrics import Evaluation

SHARES = np.array(
    [
        [0.60, 0.39, 0.01],  # wrong, and far from it
        [0.70, 0.25, 0.05],  # wrong, and confident
        [0.60, 0.39, 0.01],  # as the first
        [0.40, 0.30, 0.30],  # right
        [0.10, 0.90, 0.00],  # right
        [0.35, 0.30, 0.35],  # right, barely
    ]
)
EVALUATION = Evaluation(np.log(SHARES + 1e-9).astype(np.float32), np.array([2, 1, 2, 0, 1, 0]))


def test_mistakes_are_ranked_by_the_predicted_class() -> None:
    assert report_images.most_confident(EVALUATION, 9) == [1, 0, 2]
    assert report_images.most_confident(EVALUATION, 2) == [1, 0]


def test_mistakes_are_ranked_by_the_true_class() -> None:
    assert report_images.worst(EVALUATION, 9) == [0, 2, 1]
    assert report_images.worst(EVALUATION, 1) == [0]


def test_hits_are_ranked_from_the_least_confident() -> None:
    assert report_images.least_confident(EVALUATION, 9) == [5, 3, 4]
    assert report_images.least_confident(EVALUATION, 1) == [5]
