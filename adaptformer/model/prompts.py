"""Visual prompt tuning (Jia et al., arXiv 2203.12119): learned tokens in front of the image's.

Shapes: B images, N tokens, D width, n prompts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from adaptformer.model.backbone import VisionTransformer
from adaptformer.model.parts import Kind


class PromptedBlock(nn.Module):
    """A frozen block in front of which prompts are put (`enter`), and after which they are cut off (`leave`).

    VPT-Deep does both in every block; VPT-Shallow enters before the first and leaves after the last.
    """

    prompts: nn.Parameter | None

    def __init__(self, block: nn.Module, width: int, count: int, patch: int, *, enter: bool, leave: bool) -> None:
        super().__init__()
        self.block = block
        self.count = count if leave else 0
        if enter:
            # From patch and width, not from the number of prompts, by which the reference's own bound shrinks.
            bound = math.sqrt(6 / (3 * patch * patch + width))
            self.prompts = nn.Parameter(torch.empty(1, count, width).uniform_(-bound, bound))
        else:
            self.prompts = None

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens [B, N, D], with prompts in front where they do not leave here."""
        if self.prompts is not None:
            tokens = torch.cat([self.prompts.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], dim=1)
        result: Tensor = self.block(tokens)
        return result[:, self.count :]

    def added(self) -> Iterator[tuple[Kind, int | None, nn.Parameter]]:
        """Yield the prompts, where they enter here."""
        if self.prompts is not None:
            yield "prompts", None, self.prompts


def install(vit: VisionTransformer, count: int, depth: Literal["deep", "shallow"]) -> None:
    """Wrap the blocks of `vit`."""
    patch, last = vit.patch_embed.patch_size[0], len(vit.blocks) - 1
    for index, block in enumerate(vit.blocks):
        deep = depth == "deep"
        vit.blocks[index] = PromptedBlock(
            block, vit.embed_dim, count, patch, enter=deep or index == 0, leave=deep or index == last
        )
