"""Visual prompt tuning (Jia et al., arXiv 2203.12119): learned tokens before those of the image.

Shapes: B images, N tokens, D width, n prompts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adaptformer.model import block_forward
from adaptformer.model.backbone import VisionTransformer
from adaptformer.model.parts import Kind


class PromptedBlock(nn.Module):
    """A frozen block that prepends prompts to its input (`enter`) and removes them from its output (`leave`).

    VPT-Deep does both in every block. VPT-Shallow prepends in the first block and removes after the last.
    """

    block: Any  # timm's Block, whose parts are called below
    prompts: nn.Parameter | None

    def __init__(self, plain: nn.Module, width: int, count: int, patch: int, *, enter: bool, leave: bool) -> None:
        super().__init__()
        self.block = plain
        self.count = count if leave else 0
        if enter:
            # The bound depends on patch size and width; the reference's bound also shrinks with the number of prompts.
            bound = math.sqrt(6 / (3 * patch * patch + width))
            self.prompts = nn.Parameter(torch.empty(1, count, width).uniform_(-bound, bound))
        else:
            self.prompts = None

    @property
    def drops_prompts(self) -> bool:
        """Whether this block drops the outputs of its own prompts, so that only their keys and values are needed."""
        return self.prompts is not None and self.count > 0

    def forward(self, tokens: Tensor, rows: int | None = None) -> Tensor:
        """Return tokens [B, N, D], or the first R of them, with prompts in front unless this block removes them."""
        if self.drops_prompts:
            x = block_forward.attended(self.block, tokens, rows, self.prompts)
            return x + block_forward.feed_forward(self.block, self.block.norm2(x))
        if self.prompts is not None:
            tokens = torch.cat([self.prompts.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], dim=1)
        through = block_forward.run(self.block, tokens, None if rows is None else self.count + rows)
        return through[:, self.count :]

    def added(self) -> Iterator[tuple[Kind, int | None, nn.Parameter]]:
        """Yield the prompts, if this block prepends them."""
        if self.prompts is not None:
            yield "prompts", None, self.prompts


def install(vit: VisionTransformer, count: int, depth: Literal["deep", "shallow"]) -> None:
    """Replace the blocks of `vit` by prompted blocks."""
    patch, last = vit.patch_embed.patch_size[0], len(vit.blocks) - 1
    for index, plain in enumerate(vit.blocks):
        deep = depth == "deep"
        vit.blocks[index] = PromptedBlock(
            plain, vit.embed_dim, count, patch, enter=deep or index == 0, leave=deep or index == last
        )
