"""Logits of prepared images, a batch at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adaptformer.data import augmentation
from adaptformer.data.contract import ImageContract
from adaptformer.model.device import Precision, computing


@torch.no_grad()
def logits(
    model: nn.Module,
    images: NDArray[np.uint8],
    contract: ImageContract,
    *,
    batch_size: int,
    device: torch.device,
    precision: Precision = "fp32",
) -> Tensor:
    """Return fp32 logits [N, C] on `device` of stored images [N, S, S, 3], as evaluation sees them: centre, normalised.

    The model is put into evaluation mode and back into the mode in which it was.
    """
    mean, std = torch.tensor(contract.mean, device=device), torch.tensor(contract.std, device=device)
    training = model.training
    model.eval()
    batches = []
    for start in range(0, len(images), batch_size):
        stored = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)  # a copy: maps are read-only
        batch = augmentation.normalise(augmentation.centre_crop(stored, contract.size), mean, std)
        with computing(device, precision):
            batches.append(model(batch).float())
    model.train(training)
    return torch.cat(batches)
