"""Statistics of the head's BatchNorm, recomputed for the current weights.

In training BatchNorm keeps running averages of its batches' mean and variance, which trail features that adapters
move. Shapes: N images, S stored side, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptformer.data.contract import ImageContract
from adaptformer.data.squares import Images
from adaptformer.model import inference
from adaptformer.model.classifier import Classifier
from adaptformer.model.device import Precision, computing


@torch.no_grad()
def recompute_statistics(
    model: Classifier,
    images: Images,
    rows: NDArray[np.int64],
    contract: ImageContract,
    *,
    batch_size: int,
    device: torch.device,
    precision: Precision,
) -> None:
    """Set the running mean and variance of every head's BatchNorm to those of its input over `images[rows]`.

    `images` are stored ones [N, S, S, 3], seen as evaluation sees them: centre crop, no dropout. The variance is the
    unbiased one, as BatchNorm's own average has it, so there must be two rows or more. The model comes back in the
    mode in which it was.
    """
    training = model.training
    model.eval()
    inputs: list[list[Tensor]] = [[] for _ in model.heads]
    for batch in inference.prepared(images, rows, contract, batch_size=batch_size, device=device):
        with computing(device, precision):
            pooled = model.pooled(batch)
        for kept, head, features in zip(inputs, model.heads, pooled, strict=True):
            kept.append(head.fc_norm(features.float()))
    model.train(training)
    for kept, head in zip(inputs, model.heads, strict=True):
        values = torch.cat(kept).double()
        statistics = dict(head.batch_norm.named_buffers())
        statistics["running_mean"].copy_(values.mean(0))
        statistics["running_var"].copy_(values.var(0))
