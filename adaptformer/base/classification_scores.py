"""Scores of predicted classes: top-1, balanced accuracy and macro-F1, of one set of predictions or many resamples.

Shapes: N images, R resamples, C classes, K kinds of image (true and predicted class).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Metric = Literal["top1", "balanced_accuracy", "macro_f1"]
Counts = NDArray[np.int64]

NAMES: dict[Metric, str] = {"top1": "top-1", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro-F1"}
"""The metrics' names for readers."""


def score(metric: Metric, labels: Counts, predicted: Counts, classes: int) -> float:
    """Return a metric of predictions [N] over true labels [N]; classes that do not occur in `labels` do not count."""
    kinds, counts = np.unique(labels * classes + predicted, return_counts=True)
    return float(scores(metric, counts[None], kinds // classes, kinds % classes, classes)[0])


def scores(metric: Metric, counts: Counts, true: Counts, predicted: Counts, classes: int) -> NDArray[np.float64]:
    """Return a metric [R] of resamples given as numbers of images [R, K] of each kind: true and predicted class [K]."""
    right = true == predicted
    if metric == "top1":
        share: NDArray[np.float64] = counts[:, right].sum(axis=1) / counts.sum(axis=1)
        return share
    hits = _per_class(counts[:, right], true[right], classes)
    images = _per_class(counts, true, classes)
    occurs = images > 0
    # F1 = 2 · hits / (images of the class + answers of the class).
    below = images if metric == "balanced_accuracy" else (images + _per_class(counts, predicted, classes)) / 2
    values = np.where(occurs, hits / np.maximum(below, 0.5), 0.0)
    result: NDArray[np.float64] = values.sum(axis=1) / occurs.sum(axis=1)
    return result


def _per_class(counts: Counts, labels: Counts, classes: int) -> NDArray[np.float64]:
    """Sum the columns of `counts` [R, K] that belong to the same class [R, C]."""
    summed = np.zeros((len(counts), classes))
    if len(labels):
        order = np.argsort(labels, kind="stable")
        present, starts = np.unique(labels[order], return_index=True)
        summed[:, present] = np.add.reduceat(counts[:, order], starts, axis=1)
    return summed
