"""AdaptFormer's adapter and the block that it runs beside (arXiv 2205.13535, reference code under MIT).

Shapes: B images, N tokens, D width, r bottleneck.

    x' = x + DropPath(MHSA(LN1(x)))
    y  = x' + DropPath(FFN(LN2(x'))) + s (Wu drop(ReLU(Wd x' + bd)) + bu)

The adapter reads x' raw, before LN2, and its branch lies outside DropPath.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Adapter(nn.Module):
    """A bottleneck of width r on tokens [B, N, D], starting at zero: the adapted model starts equal to the backbone."""

    def __init__(
        self,
        width: int,
        bottleneck: int,
        scale: float | Literal["learned"],
        dropout: float,
        layernorm: Literal["none", "in", "out"],
    ) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width) if layernorm == "in" else nn.Identity()
        self.down = nn.Linear(width, bottleneck)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck, width)
        self.scale: nn.Parameter | float = nn.Parameter(torch.ones(1)) if scale == "learned" else scale
        self.norm_out = nn.LayerNorm(width) if layernorm == "out" else nn.Identity()
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """Return the branch's value [B, N, D] at tokens [B, N, D], without the residual."""
        hidden = self.dropout(F.relu(self.down(self.norm_in(x))))
        branch: Tensor = self.norm_out(self.up(hidden) * self.scale)
        return branch


class AdaptedBlock(nn.Module):
    """A frozen block of timm's VisionTransformer with adapters: slots that read the same tokens and are summed."""

    block: Any  # timm's Block, whose parts are called below

    def __init__(
        self, block: nn.Module, adapters: Iterable[Adapter], placement: Literal["parallel", "sequential"]
    ) -> None:
        super().__init__()
        self.block = block
        self.adapters = nn.ModuleList(adapters)
        self.placement = placement

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens [B, N, D] after attention, feed-forward and adapters."""
        block = self.block
        x: Tensor = tokens + block.drop_path1(block.ls1(block.attn(block.norm1(tokens))))
        feed_forward = block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        source = x if self.placement == "parallel" else feed_forward
        for adapter in self.adapters:
            feed_forward = feed_forward + adapter(source)
        adapted: Tensor = x + feed_forward
        return adapted
