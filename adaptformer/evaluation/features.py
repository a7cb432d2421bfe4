"""What the plain, frozen backbone makes of images: the measure in which two data sets are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from adaptformer.data.contract import ImageContract
from adaptformer.model import backbone, inference, tensor_file
from adaptformer.model.backbone_card import BackboneCard

_BATCH = 64


def backbone_features(
    path: Path, contract: ImageContract, device: torch.device
) -> tuple[Callable[[NDArray[np.uint8]], NDArray[np.float32]], str]:
    """Return a function from images [B, s, s, 3] to features [B, D], and the backbone's sha256.

    Features are the mean of the patch tokens after the last norm. `path` is a run's backbone.safetensors. Raises
    UserError for a file that is damaged.
    """
    encoder, metadata = tensor_file.read(path)
    card = BackboneCard.from_dict(metadata)
    vit = backbone.build(card.model, contract.size)
    backbone.load_encoder(vit, encoder)
    vit.eval().to(device)

    @torch.no_grad()
    def embed(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        batches = inference.prepared(images, np.arange(len(images)), contract, batch_size=_BATCH, device=device)
        features = [vit.forward_features(batch)[:, vit.num_prefix_tokens :].mean(dim=1) for batch in batches]
        return torch.cat(features).cpu().numpy()

    return embed, card.sha256
