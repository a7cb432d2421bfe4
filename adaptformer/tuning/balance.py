"""Classes of unequal size: weights for the sampler or the loss, and the loss.

Shapes: N images of a split, B images of a batch, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

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


def image_weights(labels: Tensor, class_weights: Tensor | None) -> Tensor:
    """Return the share of each image [B] in the loss of its step: its class's weight over the number of images.

    `labels` [B] are those of the whole step, however many micro-batches it is made of. `class_weights` [C] have a mean
    of 1 over the images of the split (None: all images count the same). Dividing by the weights of the step instead of
    its images would give a rare class less than it is asked to have: its images make their own step's divisor large.
    """
    weights = labels.new_ones(len(labels), dtype=torch.float32) if class_weights is None else class_weights[labels]
    return weights / len(labels)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, label_smoothing: float) -> Tensor:
    """Return the sum of the images' cross-entropies, each times its weight [B].

    An image's weight is that of its own class. PyTorch's class weights would weigh each class within the smoothed
    target too, which draws the answer towards rare classes on all images.
    """
    losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    return (losses * weights).sum()
