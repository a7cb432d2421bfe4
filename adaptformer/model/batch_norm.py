"""Statistics of the head's BatchNorm, recomputed for the current weights.

In training, BatchNorm keeps running averages of the mean and variance of its batches. They lag behind while adapters
change the features. Shapes: B images of a batch, D width.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from adaptformer.model.classifier import Classifier


@torch.no_grad()
def recompute_statistics(model: Classifier, batches: Iterable[tuple[Tensor, ...]]) -> None:
    """Set the running mean and variance of every head's BatchNorm to those of its input.

    `batches` are pooled features [B, D] for each head, in evaluation mode. The variance is unbiased, as in BatchNorm's
    own average, so at least two images are needed in all.
    """
    inputs: list[list[Tensor]] = [[] for _ in model.heads]
    for pooled in batches:
        for kept, head, features in zip(inputs, model.heads, pooled, strict=True):
            kept.append(head.fc_norm(features.float()))
    for kept, head in zip(inputs, model.heads, strict=True):
        values = torch.cat(kept).double()
        statistics = dict(head.batch_norm.named_buffers())
        statistics["running_mean"].copy_(values.mean(0))
        statistics["running_var"].copy_(values.var(0))
