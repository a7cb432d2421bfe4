"""What the plain, frozen backbone makes of images: the measure in which two data sets are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adaptformer.data.contract import ImageContract
from adaptformer.model import backbone, inference, tensor_file
from adaptformer.model.backbone_card import BackboneCard

_BATCH = 64


class _Pooled(nn.Module):
    """The mean of a VisionTransformer's patch tokens, after its last norm."""

    def __init__(self, vit: backbone.VisionTransformer) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, images: Tensor) -> Tensor:
        """Return features [B, D] of normalised images [B, 3, s, s]."""
        tokens: Tensor = self.vit.forward_features(images)
        return tokens[:, self.vit.num_prefix_tokens :].mean(dim=1)


def backbone_features(
    path: Path, contract: ImageContract, device: torch.device
) -> tuple[Callable[[NDArray[np.uint8]], NDArray[np.float32]], str]:
    """Return a function from images [B, s, s, 3] to features [B, D], and the backbone's sha256.

    `path` is a run's backbone.safetensors. Raises UserError for a file that is damaged.
    """
    encoder, metadata = tensor_file.read(path)
    card = BackboneCard.from_dict(metadata)
    vit = backbone.build(card.model, contract.size)
    backbone.load_encoder(vit, encoder)
    model = _Pooled(vit).eval().to(device)

    def embed(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        features = inference.logits(model, images, contract, batch_size=_BATCH, device=device)
        return features.cpu().numpy()

    return embed, card.sha256
