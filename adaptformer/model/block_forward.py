"""The forward pass of timm's Block in parts, as adapters, prompts and class-token heads need them.

The results equal timm's up to rounding. Unused outputs are not computed: a class-token head reads only the class token
of the last block, and deep prompts need only their keys and values. The weights stay in timm's modules under its names.

Shapes: B images, N tokens, D width, H heads, d width of a head, n prompts, R rows (the first tokens) to compute.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptformer.model.backbone import Block


def run(block: Any, tokens: Tensor, rows: int | None = None) -> Tensor:
    """Return the output of a block, plain or wrapped, for the first R tokens, [B, R, D], or for all."""
    if type(block) is not Block:
        wrapped: Tensor = block(tokens, rows)
        return wrapped
    x = attended(block, tokens, rows)
    output: Tensor = x + feed_forward(block, block.norm2(x))
    return output


def attended(block: Any, tokens: Tensor, rows: int | None = None, prompts: Tensor | None = None) -> Tensor:
    """Return x' = x + attention(LN1(x)) of the first R tokens, [B, R, D].

    `prompts` [1, n, D] are tokens to which the others attend; their own outputs are dropped.
    """
    more = None if prompts is None else prompt_keys_and_values(block, prompts)
    added = block.drop_path1(block.ls1(_attention(block.attn, block.norm1(tokens), rows, more)))
    return tokens[:, :rows] + added  # type: ignore[no-any-return]


def prompt_keys_and_values(block: Any, prompts: Tensor) -> tuple[Tensor, ...]:
    """Return keys and values [1, H, n, d] of prompts [1, n, D]; all images share them, so they are computed once."""
    return _projected(block.attn, block.norm1(prompts), 1, 3)


def feed_forward(block: Any, normed: Tensor) -> Tensor:
    """Return the output of the feed-forward branch, without the residual, for LN2(x') [B, R, D]."""
    added: Tensor = block.drop_path2(block.ls2(block.mlp(normed)))
    return added


def _attention(attn: Any, x: Tensor, rows: int | None, more: tuple[Tensor, ...] | None) -> Tensor:
    """Return the output of attention for the first R of the normed tokens x [B, N, D], without the residual.

    `more` are keys and values that come before those of x.
    """
    if rows is None:
        query, key, value = _projected(attn, x, 0, 3)
    else:
        (query,), (key, value) = _projected(attn, x[:, :rows], 0, 1), _projected(attn, x, 1, 3)
    if more is not None:
        key, value = (
            torch.cat([prompt.expand(x.shape[0], -1, -1, -1), part], 2)
            for prompt, part in zip(more, (key, value), strict=True)
        )
    query, key = attn.q_norm(query), attn.k_norm(key)
    dropout = attn.attn_drop.p if attn.training else 0.0
    if attn.fused_attn:
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    else:
        mixed = F.dropout((query * attn.scale @ key.transpose(-2, -1)).softmax(-1), dropout) @ value
    mixed = attn.norm(mixed.transpose(1, 2).flatten(2))
    if attn.gate is not None:
        mixed = mixed * attn.gate(x[:, :rows]).sigmoid()
    added: Tensor = attn.proj_drop(attn.proj(mixed))
    return added


def _projected(attn: Any, x: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
    """Return parts `first` to `last` - 1 of (query, key, value), each [B, H, N, d]."""
    cut = slice(first * attn.attn_dim, last * attn.attn_dim)
    bias = None if attn.qkv.bias is None else attn.qkv.bias[cut]
    parts = F.linear(x, attn.qkv.weight[cut], bias).unflatten(-1, (last - first, attn.num_heads, attn.head_dim))
    return tuple(part.transpose(1, 2) for part in parts.unbind(2))
