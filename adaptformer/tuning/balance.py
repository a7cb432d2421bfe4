"""Classes of unequal size: weights for the loss or the sampler, and scores that count every class the same.

Shapes: N images, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from adaptformer import randomness


def class_weights(labels: NDArray[np.int64], classes: int, power: float) -> NDArray[np.float64]:
    """Return a weight for each class [C], (1 / its images)^power, scaled to a mean of 1 over the images [N]."""
    counts = np.bincount(labels, minlength=classes)
    weights = np.where(counts > 0, np.maximum(counts, 1) ** -power, 0.0)
    scaled: NDArray[np.float64] = weights / weights[labels].mean()
    return scaled


def order(labels: NDArray[np.int64], weights: NDArray[np.float64] | None, *key: int) -> NDArray[np.int64]:
    """Return the images of one epoch in order [N]: each once, or drawn by their class's weight with repetition."""
    if weights is None:
        return randomness.permutation(len(labels), "order", *key)
    shares = weights[labels] / weights[labels].sum()
    return randomness.generator("order", *key).choice(len(labels), size=len(labels), p=shares)


def scores(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return balanced accuracy (mean recall) and macro-F1 over the classes that occur in `labels` [N]."""
    _, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
    )
    return float(recall), float(f1)
