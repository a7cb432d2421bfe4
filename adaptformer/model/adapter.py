"""AdaptFormer's adapter, and a transformer block with adapters (arXiv 2205.13535, reference code under MIT).

Shapes: B images, N tokens, D width, r bottleneck.

    x' = x + DropPath(MHSA(LN1(x)))
    y  = x' + DropPath(FFN(LN2(x'))) + s (Wu drop(ReLU(Wd x' + bd)) + bu)

By default the adapter reads x' before LN2, and DropPath does not apply to its branch. Adapter+ (arXiv 2406.06820) is
another choice of the same settings: an adapter after the feed-forward part, GELU, one scale per channel, its own
initialisation, DropPath on the branch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptformer.model import block_forward
from adaptformer.model.parts import Kind

Scale = float | Literal["learned", "channel"]
Placement = Literal["parallel", "sequential", "after"]


class Adapter(nn.Module):
    """A bottleneck of width r on tokens [B, N, D].

    With `init` "lora" the branch starts at zero, so the adapted model starts equal to the backbone. With "houlsby" both
    matrices are drawn with standard deviation 0.01, as in Adapter+.
    """

    def __init__(
        self,
        width: int,
        bottleneck: int,
        scale: Scale,
        dropout: float,
        layernorm: Literal["none", "in", "out"],
        activation: Literal["relu", "gelu"] = "relu",
        init: Literal["lora", "houlsby"] = "lora",
    ) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width) if layernorm == "in" else nn.Identity()
        self.down = nn.Linear(width, bottleneck)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck, width)
        learned = {"learned": 1, "channel": width}
        self.scale: nn.Parameter | float = nn.Parameter(torch.ones(learned[scale])) if isinstance(scale, str) else scale
        self.norm_out = nn.LayerNorm(width) if layernorm == "out" else nn.Identity()
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.bias)
        if init == "lora":
            nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
            nn.init.zeros_(self.up.weight)
        else:
            for matrix in (self.down.weight, self.up.weight):
                nn.init.trunc_normal_(matrix, std=0.01, a=-0.02, b=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the branch [B, N, D] for tokens [B, N, D], without the residual."""
        hidden = self.down(self.norm_in(x))
        hidden = self.dropout(F.relu(hidden) if self.activation == "relu" else F.gelu(hidden))
        # Scale the small matrix, not the tokens: that would be one more pass over them, forward and backward.
        scale = self.scale.unsqueeze(-1) if isinstance(self.scale, Tensor) else self.scale  # [1, 1], [D, 1] or a number
        bias = self.up.bias * self.scale
        branch: Tensor = self.norm_out(F.linear(hidden, self.up.weight * scale, bias))
        return branch


class AdaptedBlock(nn.Module):
    """A block of timm's VisionTransformer with adapter slots, which read the same tokens and are summed.

    `placement` selects the input of the adapters, and the place to which their sum is added: "parallel" reads x' and
    adds beside the feed-forward part; "sequential" reads the output of the feed-forward part and adds to it; "after"
    does the same with the output of the block. With `reads` "norm2", parallel adapters read LN2(x') instead of x'.
    """

    block: Any  # timm's Block, whose parts are called below

    def __init__(
        self,
        plain: nn.Module,
        adapters: Iterable[Adapter],
        placement: Placement,
        reads: Literal["residual", "norm2"] = "residual",
        drop_path: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.block = plain
        self.adapters = nn.ModuleList(adapters)
        self.placement = placement
        self.reads = reads
        self.drop_path = drop_path or nn.Identity()

    def forward(self, tokens: Tensor, rows: int | None = None) -> Tensor:
        """Return the tokens [B, N, D], or the first R of them, after attention, feed-forward and adapters."""
        x = block_forward.attended(self.block, tokens, rows)
        normed = self.block.norm2(x)
        feed_forward = block_forward.feed_forward(self.block, normed)
        if self.placement == "parallel":
            return x + self._sum(feed_forward, normed if self.reads == "norm2" else x)
        if self.placement == "sequential":
            return x + self._sum(feed_forward, feed_forward)
        return self._sum(x + feed_forward, x + feed_forward)

    def added(self) -> Iterator[tuple[Kind, int | None, nn.Parameter]]:
        """Yield the parameters of all slots."""
        for slot, adapter in enumerate(self.adapters):
            for parameter in adapter.parameters():
                yield "adapter", slot, parameter

    def _sum(self, base: Tensor, source: Tensor) -> Tensor:
        for adapter in self.adapters:
            base = base + self.drop_path(adapter(source))
        return base
