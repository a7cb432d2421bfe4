"""Weights and the weighted loss for classes of unequal size.

Shapes: N images of a split, B images of a batch, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from adaptformer.base import randomness


def class_weights(labels: NDArray[np.int64], classes: int, power: float) -> NDArray[np.float64]:
    """Return the weight of each class [C], (1 / its images)^power, scaled to a mean of 1 over the images [N]."""
    counts = np.bincount(labels, minlength=classes)
    weights = np.where(counts > 0, np.maximum(counts, 1) ** -power, 0.0)
    scaled: NDArray[np.float64] = weights / weights[labels].mean()
    return scaled


def order(labels: NDArray[np.int64], weights: NDArray[np.float64] | None, *key: int) -> NDArray[np.int64]:
    """Return the images of one epoch in order [N]: each once, or drawn by class weight with replacement."""
    if weights is None:
        return randomness.permutation(len(labels), "order", *key)
    shares = weights[labels] / weights[labels].sum()
    return randomness.generator("order", *key).choice(len(labels), size=len(labels), p=shares)


def image_weights(labels: Tensor, class_weights: Tensor | None) -> Tensor:
    """Return the share of each image [B] in the loss of its step: the weight of its class over the number of images.

    `labels` [B] are those of the whole step, not of a micro-batch. `class_weights` [C] have a mean of 1 over the images
    of the split (None: all images count the same). The divisor is the number of images, not the sum of their weights:
    with the sum, images of a rare class would enlarge the divisor of their own step, and the class would count less
    than it should.
    """
    weights = labels.new_ones(len(labels), dtype=torch.float32) if class_weights is None else class_weights[labels]
    return weights / len(labels)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, label_smoothing: float) -> Tensor:
    """Return the sum of the images' cross-entropies, each times its weight [B].

    The weight of an image is that of its own class. PyTorch's class weights also apply to each class within the
    smoothed target, which biases the predictions of all images towards rare classes.
    """
    losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    return (losses * weights).sum()
