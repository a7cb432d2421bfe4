"""The adapted classifier: frozen VisionTransformer, adapters in its blocks, a head.

Shapes: B images, N patches, D width, C classes, s image side.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from adaptformer import randomness
from adaptformer.errors import UserError
from adaptformer.model import backbone
from adaptformer.model.adapter import AdaptedBlock, Adapter

Pooling = Literal["mean", "token"]


class Head(nn.Module):
    """BatchNorm without affine, then a linear layer, as MAE's linear probe has it; mean pooling adds a LayerNorm."""

    def __init__(self, width: int, classes: int, pooling: Pooling) -> None:
        super().__init__()
        self.fc_norm = nn.LayerNorm(width, eps=1e-6) if pooling == "mean" else nn.Identity()
        self.batch_norm = nn.BatchNorm1d(width, affine=False, eps=1e-6)
        self.linear = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [B, C] for pooled features [B, D]."""
        logits: Tensor = self.linear(self.batch_norm(self.fc_norm(features)))
        return logits


class Classifier(nn.Module):
    """A VisionTransformer with adapters and a head; only adapters and head are trainable."""

    def __init__(self, vit: backbone.VisionTransformer, pooling: Pooling, classes: int) -> None:
        super().__init__()
        self.vit = vit
        self.pooling: Pooling = pooling
        self.prefix_tokens: int = vit.num_prefix_tokens
        if pooling == "mean":
            vit.norm = nn.Identity()  # fc_norm takes its place, after pooling
        vit.requires_grad_(False)
        self.head = Head(vit.embed_dim, classes, pooling)

    def features(self, images: Tensor) -> Tensor:
        """Return pooled features [B, D] of normalised images [B, 3, s, s]."""
        tokens: Tensor = self.vit.forward_features(images)
        return tokens[:, self.prefix_tokens :].mean(dim=1) if self.pooling == "mean" else tokens[:, 0]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, C] of normalised images [B, 3, s, s]."""
        logits: Tensor = self.head(self.features(images))
        return logits


def build(
    model: str,
    encoder: dict[str, Tensor],
    *,
    image_size: int,
    classes: int,
    bottlenecks: tuple[int, ...],
    scale: float | Literal["learned"],
    dropout: float,
    layernorm: Literal["none", "in", "out"],
    placement: Literal["parallel", "sequential"],
    pooling: Pooling,
    seed: int,
    drop_path: float = 0.0,
) -> Classifier:
    """Return a classifier on the backbone `encoder` (translated tensors of `model`), its new parts drawn from `seed`.

    One adapter slot a block for each of `bottlenecks`. Built under one thread: the initialisation of large tensors
    differs with two.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        vit = backbone.build(model, image_size)
        backbone.load_encoder(vit, encoder)
        backbone.set_drop_path(vit, drop_path)
        randomness.seed_torch("initialise", seed)
        classifier = Classifier(vit, pooling, classes)
        for index, block in enumerate(vit.blocks):
            slots = [Adapter(vit.embed_dim, width, scale, dropout, layernorm) for width in bottlenecks]
            vit.blocks[index] = AdaptedBlock(block, slots, placement)
    finally:
        torch.set_num_threads(threads)
    return classifier


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that tuning may change, by name, whatever is frozen at the moment: adapters and head."""
    return {name: parameter for name, parameter in model.named_parameters() if _is_tuned(name)}


def tuned_state(model: nn.Module) -> dict[str, Tensor]:
    """Return what an adapter file holds: the trainable parameters and the head's BatchNorm statistics, by name."""
    return {name: tensor for name, tensor in model.state_dict().items() if _is_tuned(name)}


def restore(model: nn.Module, tensors: dict[str, Tensor], origin: str) -> None:
    """Copy tensors into the trained parts of `model`. Raises UserError unless they fill exactly those."""
    state = tuned_state(model)
    if {name: tensor.shape for name, tensor in state.items()} != {name: t.shape for name, t in tensors.items()}:
        raise UserError(f"{origin} does not fit the model that it describes", "train again")
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(tensors[name])


def _is_tuned(name: str) -> bool:
    return name.startswith("head.") or ".adapters." in name
