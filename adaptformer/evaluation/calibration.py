"""Calibration of a classifier: accuracy by confidence, and accuracy above each confidence threshold.

Confidence is the probability of the predicted class. Shapes: N images, P points of a curve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptformer.evaluation.intervals import Interval, wilson

BINS = 15
"""Number of bins, as in Guo et al. (2017)."""


@dataclass(frozen=True)
class Bin:
    """The images with a confidence in (low, high]: their number, mean confidence, and accuracy with its interval.

    Mean and accuracy are NaN if there are no images.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: Interval


@dataclass(frozen=True)
class Coverage:
    """Accuracy if only images with a confidence of at least `threshold` [P] are answered; thresholds decrease.

    `share` [P] is the share of images that are answered, `accuracy` [P] the share of correct answers among them. At the
    last point every image is answered.
    """

    threshold: NDArray[np.float64]
    share: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    def at(self, share: float) -> int:
        """Return the first point at which at least this share (0 to 1) of the images is answered."""
        return int(np.searchsorted(self.share, share))


def reliability(confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """Return bins of equal width over the images [N], lowest confidence first, empty bins included."""
    edges = np.arange(bins + 1) / bins
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    images = np.bincount(place, minlength=bins)
    hits = np.bincount(place[correct], minlength=bins)
    total = np.bincount(place, weights=confidence, minlength=bins)
    return [
        Bin(
            float(edges[i]),
            float(edges[i + 1]),
            int(images[i]),
            float(total[i] / images[i]) if images[i] else math.nan,
            wilson(int(hits[i]), int(images[i])),
        )
        for i in range(bins)
    ]


def ece(confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = BINS) -> float:
    """Return the expected calibration error: the distance between accuracy and confidence [N], averaged over images.

    The distance is computed in each of `bins` bins of equal width. Guo et al., On Calibration of Modern Neural
    Networks, ICML 2017, equation 3. NaN if there are no images.
    """
    if not len(confidence):
        return math.nan
    filled = [part for part in reliability(confidence, correct, bins) if part.images]
    distances = math.fsum(part.images * abs(part.accuracy.value - part.confidence) for part in filled)
    return distances / len(confidence)


def coverage(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> Coverage:
    """Return the accuracy of the k most confident of the images [N], for each k that a threshold can separate.

    Images of equal confidence are answered together or not at all, so P may be less than N. This is the risk-coverage
    curve (El-Yaniv & Wiener, J. Mach. Learn. Res. 11, 2010) with accuracy instead of risk.
    """
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    return Coverage(falling[ends], (ends + 1) / len(order), correct[order].cumsum()[ends] / (ends + 1))
