"""Which test images to look at: the most confident and the worst mistakes, and the least confident correct predictions.

Each function returns at most `count` image indices; ties keep the order of the images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adaptformer.evaluation.metrics import Evaluation


def most_confident(evaluation: Evaluation, count: int) -> list[int]:
    """Return the mistakes with the highest confidence, highest first."""
    return _first(-evaluation.confidence, ~evaluation.correct, count)


def worst(evaluation: Evaluation, count: int) -> list[int]:
    """Return the mistakes whose true class was given the lowest probability, lowest first."""
    return _first(evaluation.probability_of_label, ~evaluation.correct, count)


def least_confident(evaluation: Evaluation, count: int) -> list[int]:
    """Return the correct predictions with the lowest confidence, lowest first."""
    return _first(evaluation.confidence, evaluation.correct, count)


def _first(value: NDArray[np.float64], among: NDArray[np.bool_], count: int) -> list[int]:
    return [int(index) for index in np.argsort(value, kind="stable") if among[index]][:count]
