"""What a classifier's logits are worth on labelled images.

Shapes: N images, C classes. Losses in nats, accuracies as fractions of 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Evaluation:
    """Logits [N, C] with true labels [N], and what follows from them."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the logits [N, C]."""
        shifted = self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True)
        exponents = np.exp(shifted)
        result: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
        return result

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Index of the largest logit [N]."""
        best: NDArray[np.int64] = self.logits.argmax(axis=1)
        return best

    def top(self, k: int) -> float:
        """Return the share of images whose class is among the k largest logits (all classes, where there are fewer)."""
        best = np.argsort(-self.logits, axis=1, kind="stable")[:, :k]
        return float((best == self.labels[:, None]).any(axis=1).mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        true = self.probabilities[np.arange(len(self.labels)), self.labels]
        return float(-np.log(np.maximum(true, np.finfo(np.float64).tiny)).mean())

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts [C, C]: row the true class, column the predicted one."""
        classes = self.logits.shape[1]
        pairs = np.bincount(self.labels * classes + self.predicted, minlength=classes**2)
        return pairs.reshape(classes, classes)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of each class's images that were recognised [C]; NaN for a class without images."""
        counts = self.confusion
        with np.errstate(invalid="ignore"):
            result: NDArray[np.float64] = np.diag(counts) / counts.sum(axis=1)
        return result


def summary(evaluation: Evaluation, classes: tuple[str, ...]) -> dict[str, object]:
    """Return metrics.json: top1, top5, loss at its top level, then per class the number of images and top1."""
    counts = evaluation.confusion.sum(axis=1)
    return {
        "top1": round(evaluation.top(1), 6),
        "top5": round(evaluation.top(5), 6),
        "loss": round(evaluation.loss, 6),
        "images": len(evaluation.labels),
        "per_class": {
            name: {"images": int(count), "top1": None if count == 0 else round(float(recall), 6)}
            for name, count, recall in zip(classes, counts, evaluation.recall, strict=True)
        },
    }
