"""Cached outputs of the frozen blocks below the first trainable one, computed once per phase and kept in memory.

With fixed views (`tuning.views`), every epoch has the same images, so the frozen blocks at the bottom need to run only
once, in evaluation mode. A linear probe trains on cached features; a layerwise schedule moves the cached activations up
by one block per phase. Shapes: M views or images, B of a batch, N tokens, D width, L blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adaptformer.model.classifier import Classifier
from adaptformer.model.device import Precision, autocast
from adaptformer.model.parts import parts
from adaptformer.tuning.stored_features import StoredFeatures

log = logging.getLogger("adaptformer")

BATCH = 64
"""Number of images that pass through the blocks at once."""


@dataclass(frozen=True)
class Source:
    """M images; `images` returns the normalised images [B, 3, s, s] with the given numbers [B]."""

    count: int
    images: Callable[[Tensor], Tensor]


@dataclass
class Prefix:
    """Input tokens [M, N, D] of the block `depth`, by source; if `depth` is L, pooled features [M, heads, D].

    Nothing is held while `depth` is 0. Blocks below `depth` must not change: call `move` with the lowest trainable
    block before it trains.
    """

    depth: int = 0
    held: dict[str, Tensor] = field(default_factory=dict)

    def move(
        self,
        model: Classifier,
        depth: int,
        sources: Mapping[str, Source],
        precision: Precision,
        gigabytes: float,
        stored: StoredFeatures | None = None,
    ) -> None:
        """Cache the inputs of the block `depth` (L: the head) for all sources, if they fit into `gigabytes`.

        Tokens held for a lower block are passed through the blocks up to `depth`; otherwise the inputs are computed
        from the images. With `stored`, they are read from that file if it has them, and else written to it.
        """
        if depth == self.depth:
            return
        if depth < self.depth:
            self.depth, self.held = 0, {}
        if depth == 0:
            return
        kept = torch.bfloat16 if precision == "bf16" else torch.float32
        shape = _shape(model, depth)
        size = sum(source.count for source in sources.values()) * shape.numel() * kept.itemsize / 1e9
        if size > gigabytes:
            log.info(
                "activations take %.1f GB, more than runtime.activations_gb: the frozen blocks run in every epoch", size
            )
            self.depth, self.held = 0, {}
            return
        shapes = {name: torch.Size([source.count, *shape]) for name, source in sources.items()}
        if stored and (found := stored.read(shapes)):
            self.depth, self.held = depth, found
            return
        log.info("computing the activations of %d frozen blocks once (%.2f GB)", depth, size)
        training = model.training
        model.eval()
        with torch.no_grad():
            for name, source in sources.items():
                self.held[name] = self._moved(model, depth, name, source, precision, kept)
        model.train(training)
        self.depth = depth
        if stored:
            stored.write(self.held)

    def pooled(self, model: Classifier, name: str, chosen: Tensor, device: torch.device) -> tuple[Tensor, ...]:
        """Return pooled features [B, D], for each head, of the images `chosen`; call it under `device.autocast`."""
        held = self.held[name][chosen].to(device, torch.float32)
        if self.depth == len(model.vit.blocks):
            return held.unbind(1)
        return model.pool(held, self.depth)

    def batches(
        self, model: Classifier, name: str, rows: slice, size: int, device: torch.device
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yield the pooled features of the images `rows` of a source, `size` images at a time."""
        for chosen in torch.arange(len(self.held[name]))[rows].split(size):
            yield self.pooled(model, name, chosen, device)

    def _moved(
        self, model: Classifier, depth: int, name: str, source: Source, precision: Precision, kept: torch.dtype
    ) -> Tensor:
        device = next(model.parameters()).device
        top = depth == len(model.vit.blocks)
        before = self.held.get(name) if self.depth else None
        # Tokens are overwritten in place: two copies might not fit.
        moved = (
            before if before is not None and not top else torch.empty((source.count, *_shape(model, depth)), dtype=kept)
        )
        for chosen in torch.arange(source.count).split(BATCH):
            with autocast(device, precision):
                if before is None:
                    tokens = model.patch_tokens(source.images(chosen))
                else:
                    tokens = before[chosen].to(device, torch.float32)
                if top:
                    moved[chosen] = torch.stack(model.pool(tokens, self.depth), dim=1).to("cpu", kept)
                else:
                    moved[chosen] = model.forward_blocks(tokens, self.depth, depth).to("cpu", kept)
        return moved


def first_trained(model: Classifier) -> int:
    """Return the lowest block with trainable parameters: 0 also if the embedding trains, L if only the head trains."""
    found = parts(model)
    trained = [part for name, part in found.items() if model.get_parameter(name).requires_grad]
    if any(part.kind == "backbone" and part.block is None for part in trained):
        return 0
    return min((part.block for part in trained if part.block is not None), default=len(model.vit.blocks))


def _shape(model: Classifier, depth: int) -> torch.Size:
    """Return the shape of the cached tensor of one image."""
    vit = model.vit
    if depth == len(vit.blocks):
        return torch.Size([len(model.heads), vit.embed_dim])
    return torch.Size([vit.patch_embed.num_patches + vit.num_prefix_tokens, vit.embed_dim])
