"""Cached outputs of the frozen blocks below the first trainable one, computed once per phase and kept in memory.

With fixed crops (`training.fixed_crops`), every epoch has the same images, so the frozen blocks at the bottom need to
run only once, in evaluation mode. A linear probe trains on cached features; a layerwise schedule moves the cached
activations up by one block per phase. Shapes: M views or images, B of a batch, N tokens, D width, L blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adaptformer.model import inference
from adaptformer.model.classifier import Classifier
from adaptformer.model.device import Precision, autocast
from adaptformer.model.parts import parts
from adaptformer.training.feature_cache import FeatureCache

log = logging.getLogger("adaptformer")

BATCH = 64
"""Number of images that pass through the blocks at once."""


@dataclass(frozen=True)
class Source:
    """M images; `images` returns the normalised images [B, 3, s, s] with the given numbers [B]."""

    count: int
    images: Callable[[Tensor], Tensor]


@dataclass
class ActivationCache:
    """Cache of the inputs of the model's block `depth`, for all images of `sources`, in at most `gigabytes`.

    `activations` holds them by source: input tokens [M, N, D], or pooled features [M, heads, D] if `depth` is L.
    Nothing is cached while `depth` is 0. Blocks below `depth` must not change: call `advance_to` with the lowest
    trainable block before it trains. With `stored`, the activations are read from that file if it has them, and else
    written to it; `read` is whether they were.
    """

    model: Classifier
    sources: Mapping[str, Source]
    precision: Precision
    gigabytes: float
    stored: FeatureCache | None = None
    depth: int = 0
    activations: dict[str, Tensor] = field(default_factory=dict)
    read: bool = False

    def advance_to(self, depth: int) -> None:
        """Cache the inputs of the block `depth` (L: the head) for all sources, if they fit into memory.

        Tokens cached for a lower block are passed through the blocks up to `depth`; otherwise the inputs are computed
        from the images.
        """
        if depth == self.depth:
            return
        if depth < self.depth:
            self._clear()
        if depth == 0:
            return
        shapes = {name: torch.Size([source.count, *self._shape(depth)]) for name, source in self.sources.items()}
        size = sum(shape.numel() for shape in shapes.values()) * self._dtype.itemsize / 1e9
        if size > self.gigabytes:
            log.info(
                "activations take %.1f GB, more than runtime.feature_cache_gb: the frozen blocks run in every epoch",
                size,
            )
            self._clear()
            return
        if self.stored and (features := self.stored.read(shapes)):
            self.depth, self.activations, self.read = depth, features, True
            return
        log.info("computing the activations of %d frozen blocks once (%.2f GB)", depth, size)
        with inference.in_mode(self.model, training=False), torch.no_grad():
            for name in self.sources:
                self.activations[name] = self._advanced(name, depth)
        self.depth = depth
        if self.stored:
            self.stored.write(self.activations)

    def pooled(self, name: str, numbers: Tensor) -> tuple[Tensor, ...]:
        """Return pooled features [B, D], for each head, of images of a source; call it under `device.autocast`."""
        inputs = self.activations[name][numbers].to(self._device, torch.float32)
        if self.depth == len(self.model.vit.blocks):
            return inputs.unbind(1)
        return self.model.pool(inputs, self.depth)

    def batches(self, name: str, rows: slice, size: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield the pooled features of the images `rows` of a source, `size` images at a time."""
        for numbers in torch.arange(len(self.activations[name]))[rows].split(size):
            yield self.pooled(name, numbers)

    def _clear(self) -> None:
        self.depth, self.activations = 0, {}

    def _advanced(self, name: str, depth: int) -> Tensor:
        """Return the inputs of the block `depth` for the images of a source."""
        model, source = self.model, self.sources[name]
        top = depth == len(model.vit.blocks)
        before = self.activations.get(name) if self.depth else None
        # Tokens are overwritten in place: two copies might not fit.
        after = before
        if after is None or top:
            after = torch.empty((source.count, *self._shape(depth)), dtype=self._dtype)
        for numbers in torch.arange(source.count).split(BATCH):
            with autocast(self._device, self.precision):
                if before is None:
                    tokens = model.patch_tokens(source.images(numbers))
                else:
                    tokens = before[numbers].to(self._device, torch.float32)
                if top:
                    outputs = torch.stack(model.pool(tokens, self.depth), dim=1)
                else:
                    outputs = model.forward_blocks(tokens, self.depth, depth)
                after[numbers] = outputs.to("cpu", self._dtype)
        return after

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def _shape(self, depth: int) -> torch.Size:
        """Return the shape of the cached tensor of one image."""
        vit = self.model.vit
        if depth == len(vit.blocks):
            return torch.Size([len(self.model.heads), vit.embed_dim])
        return torch.Size([vit.patch_embed.num_patches + vit.num_prefix_tokens, vit.embed_dim])


def first_trained(model: Classifier) -> int:
    """Return the lowest block with trainable parameters: 0 also if the embedding trains, L if only the head trains."""
    trained = [part for name, part in parts(model).items() if model.get_parameter(name).requires_grad]
    if any(part.kind == "backbone" and part.block is None for part in trained):
        return 0
    return min((part.block for part in trained if part.block is not None), default=len(model.vit.blocks))
