"""The training images over which the head's BatchNorm statistics are computed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from adaptformer.base import randomness
from adaptformer.config.params import TrainingParams

FEWEST, MOST = 256, 2000
"""Bounds of the number of images: fewer give noisy statistics, and more change nothing."""


def count(images: int, params: TrainingParams) -> int:
    """Return how many of `images` training images the statistics need: 0 if they are not recomputed."""
    if params.head_statistics != "recomputed":
        return 0
    share = math.ceil(params.statistics_fraction * images)
    return min(images, max(FEWEST, min(share, MOST)))


def rows(images: int, params: TrainingParams) -> NDArray[np.int64]:
    """Return the sorted indices of the training images for the statistics.

    They depend on the number of images, the fraction and the seed alone.
    """
    return np.sort(randomness.permutation(images, "head statistics", params.seed)[: count(images, params)])
