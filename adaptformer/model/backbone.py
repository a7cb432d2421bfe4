"""The frozen part: a timm VisionTransformer by name."""

from __future__ import annotations

import difflib
import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adaptformer.base.errors import UserError
from adaptformer.model.torchvision_ops import import_torchvision

import_torchvision()

import timm  # noqa: E402
from timm.layers import DropPath, resample_abs_pos_embed  # noqa: E402
from timm.models import build_model_with_cfg, register_model  # noqa: E402
from timm.models.deit import VisionTransformerDistilled  # noqa: E402
from timm.models.vision_transformer import Attention, Block, VisionTransformer  # noqa: E402

__all__ = ["Attention", "Block", "DropPath", "VisionTransformer"]  # timm's, for importers of this module

FETCH = "get it again with `adaptformer fetch`"
"""The remedy for a backbone file that cannot be used."""


@register_model  # type: ignore[untyped-decorator]
def vit_nano_patch4_32(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Return this project's own small ViT: 32-pixel images, 4-pixel patches, width 96, 6 blocks of 3 heads."""
    kwargs["pretrained_cfg"] = {"architecture": "vit_nano_patch4_32"}  # the weights are bundled; timm has none
    config = {"img_size": 32, "patch_size": 4, "embed_dim": 96, "depth": 6, "num_heads": 3}
    return build_model_with_cfg(VisionTransformer, "vit_nano_patch4_32", pretrained, **(config | kwargs))


def build(model: str, image_size: int | None = None) -> VisionTransformer:
    """Return the named architecture without a head, randomly initialised; download nothing.

    `image_size` is in pixels; None means the architecture's own size. Distilled DeiT models, which have a second token,
    are accepted. Raises UserError, with the reason, for a name that timm does not know, for another family, and for a
    size that is not a multiple of the patch size.
    """
    size = {} if image_size is None else {"img_size": image_size}
    try:
        vit = timm.create_model(model, pretrained=False, num_classes=0, global_pool="token", **size)
    except Exception as error:  # each family refuses an image size or a pooling in its own way
        raise _refusal(model, image_size, error) from error
    if reason := _other_kind(vit):
        raise _not_a_vit(model, reason)
    patch = vit.patch_embed.patch_size[0]
    if image_size is not None and image_size % patch:
        raise UserError(
            f"image.size = {image_size} is not a multiple of the patch size {patch} of {model}",
            f"set image.size to {_nearest_multiple(image_size, patch)}",
        )
    return vit


_FAMILY = (VisionTransformer, VisionTransformerDistilled)
"""The accepted classes. Subclasses are refused: they change the forward pass, on which adapters and export rely."""


def _other_kind(vit: Any) -> str | None:
    """Return the reason why an architecture is unfit for adapters, or None for a plain VisionTransformer."""
    if type(vit) not in _FAMILY:
        return f"of the family {type(vit).__name__}"
    if other := {type(block).__name__ for block in vit.blocks if type(block) is not Block}:
        return f"built of {', '.join(sorted(other))}"
    if vit.cls_token is None:
        pooling = {"avg": " (it averages its patches)", "map": " (it pools by attention)"}.get(vit.global_pool, "")
        return f"without a class token{pooling}"
    return "without position embeddings" if vit.pos_embed is None else None


def _refusal(model: str, image_size: int | None, error: Exception) -> UserError:
    """Return the error for a model that timm could not build: a wrong name, weights tag, family or image size."""
    architecture, _, tag = model.partition(".")
    if tag and timm.is_model(architecture) and published(model) is None:
        known = sorted(timm.list_pretrained(f"{architecture}.*"))
        hint = f"choose one of: {', '.join(known)}" if known else f"write {architecture} alone"
        return UserError(f"backbone.model = {model}: timm knows {architecture}, but no weights {tag} of it", hint)
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(model, timm.list_models(module="vision_transformer"), n=1)
        hint = f"did you mean {close[0]}?" if close else "timm.list_models('vit_*') lists the names"
        return UserError(f"backbone.model = {model} is no architecture that timm knows", hint)
    try:
        with torch.device("meta"):  # the published architecture without values, only to inspect it
            original = timm.create_model(model, pretrained=False)
    except Exception:  # timm raises many kinds of error here
        return _not_a_vit(model, f"one that timm cannot build ({_one_line(error)})")
    if reason := _other_kind(original):
        return _not_a_vit(model, reason)
    if image_size is None:
        return _not_a_vit(model, f"one that timm cannot build for this ({_one_line(error)})")
    step = original.patch_embed.feat_ratio()
    return UserError(
        f"image.size = {image_size} does not suit {model} ({_one_line(error)})",
        f"set image.size to a multiple of {step}, such as {_nearest_multiple(image_size, step)}",
    )


def _nearest_multiple(size: int, step: int) -> int:
    return max(1, round(size / step)) * step


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _not_a_vit(model: str, what: str) -> UserError:
    return UserError(
        f"backbone.model = {model} is not a plain VisionTransformer of timm, but {what}",
        "choose one, such as vit_base_patch16_224.mae; other families have no blocks that an adapter fits",
    )


def load_encoder(vit: VisionTransformer, tensors: dict[str, Tensor]) -> None:
    """Fill `vit` with translated encoder tensors, interpolating position embeddings [1, 1 + N, D] to its image size.

    Raises UserError if the tensors are of another architecture.
    """
    tensors = dict(tensors)
    try:
        if tensors["pos_embed"].shape != vit.pos_embed.shape:
            tensors["pos_embed"] = resample_abs_pos_embed(
                tensors["pos_embed"],
                list(vit.patch_embed.grid_size),
                num_prefix_tokens=0 if vit.no_embed_class else vit.num_prefix_tokens,
            )
        with torch.no_grad():
            vit.load_state_dict(tensors, strict=True)
    except (KeyError, IndexError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"the backbone's tensors are not those of its model ({reason})", FETCH) from error


def resized_positions(vit: VisionTransformer, tensors: dict[str, Tensor]) -> str | None:
    """Return a sentence if `load_encoder` interpolates the position embeddings to another grid, None if it need not."""
    if tensors["pos_embed"].shape == vit.pos_embed.shape:
        return None
    side = math.isqrt(tensors["pos_embed"].shape[1] - (0 if vit.no_embed_class else vit.num_prefix_tokens))
    rows, columns = vit.patch_embed.grid_size
    return (
        f"the position embeddings of {side} x {side} patches are resized to {rows} x {columns}, as image.size ="
        f" {vit.patch_embed.img_size[0]} needs"
    )


def published(model: str) -> Any | None:
    """Return timm's entry (mean, std, licence, address, …) of published weights such as `vit_base_patch16_224.mae`."""
    try:
        return timm.models.get_pretrained_cfg(model, allow_unregistered=False)
    except RuntimeError:
        return None


def set_drop_path(vit: VisionTransformer, rate: float) -> None:
    """Give the blocks stochastic depth, rising linearly from 0 in the first to `rate` in the last."""
    last = max(len(vit.blocks) - 1, 1)
    for index, block in enumerate(vit.blocks):
        probability = rate * index / last
        block.drop_path1, block.drop_path2 = (DropPath(probability) if probability else nn.Identity() for _ in range(2))


def block(width: int, heads: int) -> nn.Module:
    """Return one plain transformer block with MAE's settings (query, key and value biases, LayerNorm eps 1e-6)."""
    made: nn.Module = Block(width, heads, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6))
    return made
