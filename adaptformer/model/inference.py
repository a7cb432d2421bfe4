"""Logits of stored images, computed batch by batch.

Shapes: B images of a batch, N images, S stored side, s model side, C classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adaptformer.base import progress
from adaptformer.data import augmentation
from adaptformer.data.eval_images import Images
from adaptformer.data.preprocessing import ImageContract
from adaptformer.model.device import Precision, autocast


def prepared(
    images: Images,
    rows: NDArray[np.int64],
    contract: ImageContract,
    *,
    batch_size: int,
    device: torch.device,
) -> Iterator[Tensor]:
    """Yield the stored images `images[rows]` as evaluation uses them: cropped, normalised, [B, 3, s, s] on `device`.

    Each batch is read only when it is needed: the images may be a memory-mapped file.
    """
    mean, std = torch.tensor(contract.mean, device=device), torch.tensor(contract.std, device=device)
    for start in range(0, len(rows), batch_size):
        stored = torch.from_numpy(images[rows[start : start + batch_size]]).to(device)
        yield augmentation.normalise(augmentation.centre_crop(stored, contract.size), mean, std)


@contextlib.contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Run the body with the model in training or in evaluation mode; its previous mode is restored after errors too."""
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)


@torch.no_grad()
def logits(
    model: nn.Module,
    images: Images,
    contract: ImageContract,
    *,
    batch_size: int,
    device: torch.device,
    precision: Precision = "fp32",
) -> Tensor:
    """Return fp32 logits [N, C] on `device` of stored images [N, S, S, 3].

    The model runs in evaluation mode; its previous mode is restored.
    """
    batches = []
    inputs = prepared(images, np.arange(len(images)), contract, batch_size=batch_size, device=device)
    with in_mode(model, training=False):
        for batch in progress.steps(inputs, "classifying", len(images), "images", len):
            with autocast(device, precision):
                batches.append(model(batch).float())
    return torch.cat(batches)
