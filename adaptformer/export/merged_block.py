"""The blocks of a merged model: plain modules for inference, without training mode, dropout and scale.

Shapes: B images, N tokens, D width, H heads, d width of a head, n prompts, r summed bottlenecks, R rows (tokens) to
compute.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Reads = Literal["residual", "norm2", "feed_forward", "output"]


class MergedAdapter(nn.Module):
    """Adapters [B, N, D] -> [B, N, r] -> [B, N, D] with the scale folded into the second matrix."""

    def __init__(self, norm_in: nn.Module, down: nn.Linear, act: nn.Module, up: nn.Linear, norm_out: nn.Module) -> None:
        super().__init__()
        self.norm_in = norm_in
        self.down = down
        self.act = act
        self.up = up
        self.norm_out = norm_out

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the branch [B, N, D] for tokens [B, N, D], without the residual."""
        branch: Tensor = self.norm_out(self.up(self.act(self.down(self.norm_in(x)))))
        return branch


class MergedAttention(nn.Module):
    """Attention of the first R tokens to all N tokens, or of all tokens if `rows` is None.

    Each row equals that of timm's Attention, whose parts it uses. `prompts` are constant keys and values [2, H, n, d]
    of tokens that all images share.
    """

    prompts: Tensor | None

    def __init__(
        self, query: nn.Linear, key_value: nn.Linear, attention: Any, rows: int | None, prompts: Tensor | None
    ) -> None:
        super().__init__()
        self.query = query
        self.key_value = key_value
        self.register_buffer("prompts", prompts)
        self.q_norm, self.k_norm = attention.q_norm, attention.k_norm
        self.norm, self.gate = attention.norm, attention.gate
        self.proj = attention.proj
        self.heads = attention.num_heads
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of attention [B, R, D], without the residual, for the first R of the tokens [B, N, D]."""
        first = x[:, : self.rows]
        query = self.query(first).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, R, d]
        key, value = self.key_value(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        if self.prompts is not None:
            key, value = (
                torch.cat([prompt.expand(x.shape[0], -1, -1, -1), part], 2)
                for prompt, part in zip(self.prompts, (key, value), strict=True)
            )
        mixed = F.scaled_dot_product_attention(self.q_norm(query), self.k_norm(key), value)
        mixed = self.norm(mixed.transpose(1, 2).flatten(2))
        if self.gate is not None:
            mixed = mixed * self.gate(first).sigmoid()
        added: Tensor = self.proj(mixed)
        return added


class MergedBlock(nn.Module):
    """A transformer block with its adapters, for inference; the last one of a class-token model returns only R rows."""

    def __init__(
        self,
        norm1: nn.Module,
        attn: nn.Module,
        norm2: nn.Module,
        mlp: nn.Module,
        adapters: list[MergedAdapter],
        reads: Reads,
    ) -> None:
        super().__init__()
        self.norm1 = norm1
        self.attn = attn
        self.norm2 = norm2
        self.mlp = mlp
        self.adapters = nn.ModuleList(adapters)
        self.reads: Reads = reads

    def forward(self, tokens: Tensor, _rows: int | None = None) -> Tensor:
        """Return the tokens after attention, feed-forward and adapters: [B, N, D], or [B, R, D] of the first rows.

        The number of rows is fixed when the block is created.
        """
        attended = self.attn(self.norm1(tokens))
        x: Tensor = tokens[:, : attended.shape[1]] + attended
        normed = self.norm2(x)
        feed_forward = self.mlp(normed)
        output: Tensor = x + feed_forward
        source = {"residual": x, "norm2": normed, "feed_forward": feed_forward, "output": output}[self.reads]
        for adapter in self.adapters:
            output = output + adapter(source)
        return output
