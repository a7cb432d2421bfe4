"""Metrics computed from the logits of a classifier on labelled images.

Shapes: N images, C classes. Losses in nats, accuracies as fractions of 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from adaptformer.base.classification_scores import NAMES, Metric
from adaptformer.evaluation import calibration, intervals
from adaptformer.evaluation.intervals import Interval

_ROWS_AT_ONCE = 4096
"""Number of images in temporary arrays: all of 50,000 images with 1,000 classes would take 400 MB in float64."""


@dataclass(frozen=True)
class Evaluation:
    """Logits [N, C] with true labels [N], and the metrics that follow from them.

    `groups` [N] are the images' groups (groups.codes), None if images are independent of each other.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """Index of the largest logit [N]."""
        best: NDArray[np.int64] = self.logits.argmax(axis=1)
        return best

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of the predicted class [N]."""
        return self._probability_of(self.predicted)

    @cached_property
    def probability_of_label(self) -> NDArray[np.float64]:
        """Probability of the true class [N]."""
        return self._probability_of(self.labels)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the predicted class is the true one [N]."""
        hits: NDArray[np.bool_] = self.predicted == self.labels
        return hits

    def top(self, k: int) -> float:
        """Return the share of images whose true class is among the k largest logits (or all, if C < k)."""
        hits = 0
        for block, label in self._blocks(self.labels):
            own = np.take_along_axis(block, label, axis=1)
            before = (block > own) | ((block == own) & (np.arange(block.shape[1]) < label))
            hits += int((before.sum(axis=1) < k).sum())
        return hits / len(self.labels)

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        return float(-np.log(np.maximum(self.probability_of_label, np.finfo(np.float64).tiny)).mean())

    @property
    def ece(self) -> float:
        """Expected calibration error (calibration.py)."""
        return calibration.ece(self.confidence, self.correct)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts [C, C]: row the true class, column the predicted one."""
        classes = self.logits.shape[1]
        pairs = np.bincount(self.labels * classes + self.predicted, minlength=classes**2)
        return pairs.reshape(classes, classes)

    @property
    def per_class(self) -> list[Interval]:
        """Top-1 of each class [C] with its interval; NaN for a class without images."""
        return [self.share(self.labels == label) for label in range(self.logits.shape[1])]

    def share(self, mask: NDArray[np.bool_]) -> Interval:
        """Return top-1 of the images in the mask `mask` [N] with its interval; NaN if there are none."""
        groups = None if self.groups is None else self.groups[mask]
        return intervals.share(self.correct[mask], intervals.dense(groups))

    @property
    def independent(self) -> float:
        """Number of independent images that would give top-1 the same precision; without groups, all images."""
        classes = self.logits.shape[1]
        return intervals.independent("top1", self.labels, self.predicted, classes, self.groups)

    @cached_property
    def scores(self) -> dict[Metric, Interval]:
        """Each metric with its interval, as in the gate."""
        classes = self.logits.shape[1]
        return {
            metric: intervals.interval(metric, self.labels, self.predicted, classes, self.groups) for metric in NAMES
        }

    def _probability_of(self, columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the softmax value [N] of one column in each row."""
        blocks = [
            np.take_along_axis(softmax(block.astype(np.float64), axis=1), column, axis=1)[:, 0]
            for block, column in self._blocks(columns)
        ]
        return np.concatenate(blocks)

    def _blocks(self, columns: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Yield blocks of logits [n, C], each with the chosen column of every row [n, 1]."""
        for start in range(0, len(self.labels), _ROWS_AT_ONCE):
            block = self.logits[start : start + _ROWS_AT_ONCE]
            yield block, columns[start : start + _ROWS_AT_ONCE, None]


def summary(evaluation: Evaluation, classes: tuple[str, ...]) -> dict[str, object]:
    """Return the content of metrics.json: single numbers at top level, the intervals of three, and top1 per class."""
    counts = evaluation.confusion.sum(axis=1)
    scores = evaluation.scores
    return {
        **{metric: round(score.value, 6) for metric, score in scores.items()},
        "top5": round(evaluation.top(5), 6),
        "loss": round(evaluation.loss, 6),
        "ece": round(evaluation.ece, 6),
        "images": len(evaluation.labels),
        "independent_images": round(evaluation.independent, 1),
        "intervals": {metric: score.to_list() for metric, score in scores.items()},
        "per_class": {
            name: {
                "images": int(count),
                "top1": round(share.value, 6) if count else None,
                "interval": share.to_list() if count else None,
            }
            for name, count, share in zip(classes, counts, evaluation.per_class, strict=True)
        },
    }
