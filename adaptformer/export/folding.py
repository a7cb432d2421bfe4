"""Linear algebra for merging: affines and scales are folded into adjacent linear layers, in float64, rounded once.

Shapes: D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from adaptformer.base.errors import UserError


def affine(norm: nn.Module, width: int) -> tuple[Tensor, Tensor, nn.Module]:
    """Return gain and shift [D] in float64 of a LayerNorm or Identity, and the norm without them."""
    gain, shift = torch.ones(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    if isinstance(norm, nn.Identity):
        return gain, shift, norm
    if not isinstance(norm, nn.LayerNorm):
        raise not_understood(f"a norm of the kind {type(norm).__name__}")
    gain = gain if norm.weight is None else norm.weight.double()
    shift = shift if norm.bias is None else norm.bias.double()
    return gain, shift, nn.LayerNorm(width, eps=norm.eps, elementwise_affine=False)


def layer_scaled(layer: nn.Linear, scale: Any) -> nn.Linear:
    """Return a linear layer with the LayerScale (or Identity) that follows it folded in."""
    if isinstance(scale, nn.Identity):
        return layer
    gamma = scale.gamma.double()
    return linear(layer.weight * gamma[:, None], bias(layer) * gamma, layer.weight)


def bias(layer: nn.Linear) -> Tensor:
    """Return the bias [out] in float64, or zeros if there is none."""
    return layer.weight.new_zeros(layer.out_features).double() if layer.bias is None else layer.bias.double()


def linear(weight: Tensor, shift: Tensor | None, like: Tensor) -> nn.Linear:
    """Return a linear layer with weight [out, in] and bias [out], rounded to the dtype of `like`."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=shift is not None, device="meta")
    made.weight = nn.Parameter(weight.to(like.dtype), requires_grad=False)
    if shift is not None:
        made.bias = nn.Parameter(shift.to(like.dtype), requires_grad=False)
    return made


def not_understood(what: str) -> UserError:
    """Return the error for a part that cannot be folded."""
    return UserError(f"the model cannot be merged: {what}", "report it; nothing was exported")
