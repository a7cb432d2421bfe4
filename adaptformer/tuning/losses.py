"""The loss of a training step, whose images may weigh differently.

Shapes: B images, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def image_weights(labels: Tensor, class_weights: Tensor | None) -> Tensor:
    """Return the share of each image [B] in the loss of its step, all of one step together 1.

    `labels` [B] are those of the whole step, however many micro-batches it is made of. `class_weights` [C] are None
    where all images count the same.
    """
    weights = labels.new_ones(len(labels), dtype=torch.float32) if class_weights is None else class_weights[labels]
    return weights / weights.sum()


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, label_smoothing: float) -> Tensor:
    """Return the sum of the images' cross-entropies, each times its weight [B].

    An image's weight is that of its own class. PyTorch's class weights would weigh each class within the smoothed
    target too, which draws the answer towards rare classes on all images.
    """
    losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    return (losses * weights).sum()
