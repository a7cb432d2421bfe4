"""The tensor names and layouts of JAX's Vision Transformers (.npz files of AugReg and big_vision)."""

from __future__ import annotations

import re

from torch import Tensor

_RENAMES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^cls$", "cls_token"),
        (r"^(?:Transformer/posembed_input/)?pos_embedding$", "pos_embed"),
        (r"^embedding/", "patch_embed.proj/"),
        (r"^Transformer/encoder_norm/", "norm/"),
        (r"^Transformer/encoderblock_(\d+)/", r"blocks.\1."),
        (r"^(blocks\.\d+\.)LayerNorm_0/", r"\1norm1/"),
        (r"^(blocks\.\d+\.)LayerNorm_[12]/", r"\1norm2/"),
        (r"^(blocks\.\d+\.)MultiHeadDotProductAttention_\d/([qkv])(?:uery|ey|alue)/", r"\1attn.\2_proj/"),
        (r"^(blocks\.\d+\.)MultiHeadDotProductAttention_\d/out/", r"\1attn.proj/"),
        (r"^(blocks\.\d+\.)MlpBlock_\d/Dense_0/", r"\1mlp.fc1/"),
        (r"^(blocks\.\d+\.)MlpBlock_\d/Dense_1/", r"\1mlp.fc2/"),
        (r"^(head|pre_logits)/", r"\1/"),
    )
)
_STACKED = re.compile(r"^Transformer/encoderblock/")
"""big_vision's form with all blocks in one tensor, along the first axis."""


def is_jax(tensors: dict[str, Tensor]) -> bool:
    """Return whether the names are JAX's."""
    return "embedding/kernel" in tensors


def to_timm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under timm's names, in timm's layout, with separate query, key and value (`q_proj` …)."""
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if _STACKED.match(name) and tensor.ndim and tensor.numel():
            for block, piece in enumerate(tensor):
                apart[_STACKED.sub(f"Transformer/encoderblock_{block}/", name)] = piece
        else:
            apart[name] = tensor
    renamed: dict[str, Tensor] = {}
    for name, tensor in apart.items():
        for pattern, replacement in _RENAMES:
            name = pattern.sub(replacement, name)  # noqa: PLW2901
        module, _, kind = name.rpartition("/")
        kind = {"kernel": "weight", "scale": "weight"}.get(kind, kind)
        renamed[f"{module}.{kind}" if module else kind] = _laid_out(module, kind, tensor)
    return renamed


def _laid_out(module: str, kind: str, tensor: Tensor) -> Tensor:
    """Return a tensor in timm's layout: outputs first, heads and their width merged into one axis."""
    if kind != "weight" or tensor.ndim < 2:
        return tensor.flatten() if kind == "bias" else tensor
    if module == "patch_embed.proj":  # height, width, in, out
        return tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor
    if module.endswith("attn.proj"):  # heads, width of one, out
        return tensor.flatten(0, -2).T
    return tensor.flatten(1).T  # in, out; or in, heads, width of one
