"""What the blocks below the first that trains give, computed once for all epochs of a phase and kept in memory.

With fixed views (`tuning.views`) the same images come back in every epoch, so frozen blocks at the bottom, which then
run in evaluation mode, need not run again: a linear probe trains on stored features, and a layerwise sweep moves the
stored activations up by one block a phase. Shapes: M views or images, B of a batch, N tokens, D width, L blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adaptformer.model.classifier import Classifier
from adaptformer.model.device import Precision, computing
from adaptformer.model.parts import parts
from adaptformer.tuning.stored_features import StoredFeatures

log = logging.getLogger("adaptformer")

BATCH = 64
"""So many images go through the blocks at once."""


@dataclass(frozen=True)
class Source:
    """M images: `images` gives the normalised ones [B, 3, s, s] of some of their numbers [B]."""

    count: int
    images: Callable[[Tensor], Tensor]


@dataclass
class Prefix:
    """The tokens [M, N, D] that the block `depth` reads, by source; pooled features [M, heads, D] after all L blocks.

    Nothing is held while `depth` is 0. Blocks below `depth` must not change while it is not 0: `move` to the lowest
    block that trains before it does.
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
        """Hold what the block `depth` (L: the head) reads of all sources, if it fits into memory of that size.

        What is held already is moved up from where it is; below that everything is computed from the images, unless it
        is `stored`, where it is kept otherwise.
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
        """Return pooled features [B, D] for each head of some images of a source; call it in the computing context."""
        held = self.held[name][chosen].to(device, torch.float32)
        if self.depth == len(model.vit.blocks):
            return held.unbind(1)
        return model.pooled_after(held, self.depth)

    def batches(
        self, model: Classifier, name: str, rows: slice, size: int, device: torch.device
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yield the pooled features of those images of a source, `size` at a time."""
        for chosen in torch.arange(len(self.held[name]))[rows].split(size):
            yield self.pooled(model, name, chosen, device)

    def _moved(
        self, model: Classifier, depth: int, name: str, source: Source, precision: Precision, kept: torch.dtype
    ) -> Tensor:
        device = next(model.parameters()).device
        top = depth == len(model.vit.blocks)
        before = self.held.get(name) if self.depth else None
        # Tokens are moved where they are: two copies might not fit.
        moved = (
            before if before is not None and not top else torch.empty((source.count, *_shape(model, depth)), dtype=kept)
        )
        for chosen in torch.arange(source.count).split(BATCH):
            with computing(device, precision):
                if before is None:
                    tokens = model.embedded(source.images(chosen))
                else:
                    tokens = before[chosen].to(device, torch.float32)
                if top:
                    moved[chosen] = torch.stack(model.pooled_after(tokens, self.depth), dim=1).to("cpu", kept)
                else:
                    moved[chosen] = model.through(tokens, self.depth, depth).to("cpu", kept)
        return moved


def first_trained(model: Classifier) -> int:
    """Return the lowest block in which something trains now: 0 where something before the blocks does, L for a head."""
    found = parts(model)
    trained = [part for name, part in found.items() if model.get_parameter(name).requires_grad]
    if any(part.kind == "backbone" and part.block is None for part in trained):
        return 0
    return min((part.block for part in trained if part.block is not None), default=len(model.vit.blocks))


def _shape(model: Classifier, depth: int) -> torch.Size:
    """Return the shape of what is held of one image."""
    vit = model.vit
    if depth == len(vit.blocks):
        return torch.Size([len(model.heads), vit.embed_dim])
    return torch.Size([vit.patch_embed.num_patches + vit.num_prefix_tokens, vit.embed_dim])
