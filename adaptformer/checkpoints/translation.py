"""The only place that knows foreign key names: out come timm's, or an error that lists keys."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from adaptformer.errors import UserError

_PREFIXES = ("module.", "vit.", "encoder.")
_NOT_ENCODER = ("decoder_", "decoder.", "mask_token", "head.", "head_dist.", "classifier.", "fc_norm.")
"""Parts of full MAE files and of fine-tuned classifiers that are no part of the encoder."""

_RENAMES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        # Hugging Face's ViT and ViT-MAE, their wrapper's "vit." and "encoder." taken off.
        (r"^embeddings\.cls_token$", "cls_token"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^layernorm\.", "norm."),
        (r"^layer\.(\d+)\.", r"blocks.\1."),
        (r"^(blocks\.\d+\.)layernorm_before\.", r"\1norm1."),
        (r"^(blocks\.\d+\.)layernorm_after\.", r"\1norm2."),
        (r"^(blocks\.\d+\.)attention\.attention\.([qkv])(uery|ey|alue)\.", r"\1attn.\2_proj."),
        (r"^(blocks\.\d+\.)attention\.output\.dense\.", r"\1attn.proj."),
        (r"^(blocks\.\d+\.)intermediate\.dense\.", r"\1mlp.fc1."),
        (r"^(blocks\.\d+\.)output\.dense\.", r"\1mlp.fc2."),
        # AdaptFormer's copy of MAE: the feed-forward layers stand in the block itself.
        (r"^(blocks\.\d+\.)(fc[12]\.)", r"\1mlp.\2"),
    )
)
_THIRD = re.compile(r"^(blocks\.\d+\.attn\.)([qkv])_proj\.(weight|bias)$")
"""A part of a projection that timm keeps in one piece: query, key, value, stacked along the first axis."""


def translate(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return fp32 encoder tensors with exactly the names and shapes of `expected`, a VisionTransformer's state.

    Understands timm's and MAE's names, AdaptFormer's own copy (q_proj, k_proj, v_proj; fc1 and fc2 outside mlp),
    Hugging Face's ViT-MAE and DINOv2's files with registers. Decoder and head are dropped. Raises UserError that lists
    the tensors that are missing, unknown, filled twice or of another shape.
    """
    translated = _joined(_registers(_renamed(tensors)))
    _compare("lacks", sorted(expected.keys() - translated.keys()))
    _compare("has unknown", sorted(translated.keys() - expected.keys()))
    wrong = [
        f"{name} {tuple(translated[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if translated[name].shape != tensor.shape
    ]
    _compare("has another shape for", wrong)
    bad = [name for name, tensor in translated.items() if not tensor.isfinite().all()]
    _compare("has numbers that are not finite in", bad)
    return {name: translated[name].to(torch.float32).contiguous() for name in expected}


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's tensors under timm's names, projections still in thirds where the file has them so."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)  # noqa: PLW2901
        if name.startswith(_NOT_ENCODER):
            continue
        for pattern, replacement in _RENAMES:
            name = pattern.sub(replacement, name)  # noqa: PLW2901
        _fill(renamed, name, tensor)
    return renamed


def _registers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return DINOv2's tensors as timm has them: the class token's position embedding is part of the token itself."""
    if not {"register_tokens", "cls_token", "pos_embed"} <= tensors.keys():
        return tensors
    changed = dict(tensors)
    _fill(changed, "reg_token", changed.pop("register_tokens"))
    position = changed["pos_embed"]
    if position.ndim == 3:  # `translate` reports another shape
        changed["cls_token"] = changed["cls_token"] + position[:, :1]
        changed["pos_embed"] = position[:, 1:]
    return changed


def _joined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with query, key and value stacked to one projection."""
    joined: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if found := _THIRD.match(name):
            thirds.setdefault(f"{found[1]}qkv.{found[3]}", {})[found[2]] = tensor
        else:
            joined[name] = tensor
    for name, have in thirds.items():
        _compare("lacks", [name.replace("qkv", f"{part}_proj") for part in "qkv" if part not in have])
        _compare("has unequal thirds of", [name] if len({third.shape for third in have.values()}) > 1 else [])
        _fill(joined, name, torch.cat([have[part] for part in "qkv"]))
    return joined


def _fill(table: dict[str, Tensor], name: str, tensor: Tensor) -> None:
    if name in table:
        raise UserError(f"the checkpoint fills {name} twice", "use the publisher's original file")
    table[name] = tensor


def _compare(what: str, names: list[str]) -> None:
    if names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise UserError(
            f"the checkpoint {what} {shown}",
            "check that backbone.model names the architecture that the checkpoint was made for",
        )
