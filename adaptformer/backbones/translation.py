"""Translation of foreign tensor names to timm's, or an error that lists the names that do not fit.

Apart from jax_names.py, no other module knows foreign names.
"""

from __future__ import annotations

import difflib
import functools
import logging
import math
import re
from typing import NamedTuple

import torch
from torch import Tensor

from adaptformer.backbones import jax_names
from adaptformer.backbones.foreign_file import printable
from adaptformer.base.errors import UserError

log = logging.getLogger("adaptformer")

_NOT_ENCODER = re.compile(
    r"(?:decoder|mask_token|embeddings\.mask_token|head|fc_norm|classifier|fc|pooler|pre_logits|projector"
    r"|projection_head|predictor|prototypes|dino_head|ibot_head)(?:$|[._])"
)
"""Parts of full MAE files, other training methods and fine-tuned classifiers that do not belong to the encoder."""

_RENAMES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        # Hugging Face's ViT, ViT-MAE and DINOv2.
        (r"^embeddings\.cls_token$", "cls_token"),
        (r"^embeddings\.register_tokens$", "register_tokens"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^layernorm\.", "norm."),
        (r"^(?:encoder\.)?layer\.(\d+)\.", r"blocks.\1."),
        (r"^(blocks\.\d+\.)layernorm_before\.", r"\1norm1."),
        (r"^(blocks\.\d+\.)layernorm_after\.", r"\1norm2."),
        (r"^(blocks\.\d+\.)attention\.attention\.([qkv])(?:uery|ey|alue)\.", r"\1attn.\2_proj."),
        (r"^(blocks\.\d+\.)attention\.output\.dense\.", r"\1attn.proj."),
        (r"^(blocks\.\d+\.)intermediate\.dense\.", r"\1mlp.fc1."),
        (r"^(blocks\.\d+\.)output\.dense\.", r"\1mlp.fc2."),
        (r"^(blocks\.\d+\.)layer_scale([12])\.lambda1$", r"\1ls\2.gamma"),
        # DINOv2's own: blocks in chunks, whose second number is the block's index; ViT-g's gated feed-forward layers.
        (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),
        (r"^(blocks\.\d+\.)mlp\.(?:w12|weights_in)\.", r"\1mlp.fc1."),
        (r"^(blocks\.\d+\.)mlp\.(?:w3|weights_out)\.", r"\1mlp.fc2."),
        # AdaptFormer's copy of MAE: the feed-forward layers are direct members of the block.
        (r"^(blocks\.\d+\.)(fc[12]\.)", r"\1mlp.\2"),
    )
)
_THIRD = re.compile(r"^(blocks\.\d+\.attn\.)([qkv])_proj\.(weight|bias)$")
"""Query, key or value, which timm stacks along the first axis into one projection."""

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class Arranged(NamedTuple):
    """Encoder tensors under timm's names, with the numbers of the file, and notes on changed or omitted tensors."""

    tensors: dict[str, Tensor]
    notes: list[str]


def translate(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return fp32 encoder tensors with exactly the names of `expected`, a VisionTransformer's state, and log changes.

    Their shapes are those of `expected` too, except that position embeddings [1, N, D] may be for a grid of another
    size: `backbone.load_encoder` interpolates them, once, to the training size. Raises UserError as `arrange` does, and
    for numbers that are not floating-point or not finite in fp32.
    """
    arranged = arrange(tensors, expected)
    for note in arranged.notes:
        log.info("%s", note)
    kinds = {
        name: tensor.dtype
        for name, tensor in arranged.tensors.items()
        if tensor.dtype not in _FLOATS and expected[name].is_floating_point()
    }
    _compare("has no floating-point numbers in", [f"{name} ({dtype})" for name, dtype in kinds.items()], _NUMBERS)
    translated = {name: tensor.to(torch.float32).contiguous() for name, tensor in arranged.tensors.items()}
    bad = [name for name, tensor in translated.items() if not tensor.isfinite().all()]
    _compare("has numbers that are not finite (in fp32) in", bad, _NUMBERS)
    return translated


def arrange(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> Arranged:
    """Return the encoder's tensors in the order of `expected`; only names and shapes are checked, not numbers.

    Supports the names of timm, MAE, DINOv2 with and without registers, AdaptFormer's own copy (q_proj, k_proj,
    v_proj; fc1 and fc2 outside mlp), Hugging Face's ViT, ViT-MAE and DINOv2, and JAX. Decoder and head are dropped.
    Raises UserError, which lists the tensors that are missing, unknown, filled twice or of another shape.
    """
    given = jax_names.to_timm(tensors) if jax_names.is_jax(tensors) else tensors
    arranged = _joined(_registers(_renamed(given)))
    notes = _final_norm(given, arranged, expected)
    _require_registers(arranged, expected)
    missing = [name for name in expected if name not in arranged]
    _compare("lacks", sorted(missing), _MODEL, _nearest(missing, tensors, arranged, expected))
    _compare("has unknown", sorted(arranged.keys() - expected.keys()))
    notes += _positions(arranged["pos_embed"], expected) if "pos_embed" in expected else []
    wrong = [
        f"{name} {tuple(arranged[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if arranged[name].shape != tensor.shape and name != "pos_embed"
    ]
    _compare("has another shape for", wrong)
    left_out = [name for name in given if _NOT_ENCODER.match(name)]
    if left_out:
        notes.append(f"left out, as no part of the encoder: {_some(left_out)}")
    return Arranged({name: arranged[name] for name in expected}, notes)


def coverage(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> int:
    """Return how many names of `expected` the tensors fill, by their names alone."""
    if jax_names.is_jax(tensors):
        return len(expected)
    return len(expected.keys() & {_new_name(name) for name in tensors})


@functools.lru_cache(maxsize=200_000)
def _new_name(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return name


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's tensors under timm's names; separate query, key and value projections stay separate."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not _NOT_ENCODER.match(name):
            _fill(renamed, _new_name(name), tensor)
    return renamed


def _final_norm(given: dict[str, Tensor], arranged: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """Fill the final norm with `fc_norm` if the file has only that, as in MAE's fine-tuned files; return a note."""
    pairs = {name: name.replace("norm.", "fc_norm.") for name in ("norm.weight", "norm.bias")}
    if not pairs.keys() <= expected.keys() or pairs.keys() & arranged.keys() or not set(pairs.values()) <= given.keys():
        return []
    arranged.update({name: given[other] for name, other in pairs.items()})
    return ["the final norm is the file's fc_norm, which was trained on the mean of the patches"]


def _require_registers(arranged: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise UserError with both numbers if checkpoint and architecture have different numbers of register tokens."""
    count = {
        where: next((table[name].shape[1] for name in _REGISTERS if name in table and table[name].ndim > 1), 0)
        for where, table in (("has", arranged), ("wants", expected))
    }
    if count["has"] != count["wants"]:
        raise UserError(
            f"the checkpoint has {count['has'] or 'no'} register tokens, backbone.model has {count['wants'] or 'none'}",
            "set backbone.model to an architecture with as many (reg4 in timm's names means four)",
        )


_REGISTERS = ("reg_token", "register_tokens")


def _positions(positions: Tensor, expected: dict[str, Tensor]) -> list[str]:
    """Return a note if position embeddings [1, N, D] are for another grid.

    Raises UserError if they do not fit a square grid with the architecture's other tokens.
    """
    reference = expected["pos_embed"]
    if positions.shape == reference.shape:
        return []
    if positions.ndim != reference.ndim or positions.shape[-1] != reference.shape[-1] or positions.shape[0] != 1:
        _compare("has another shape for", [f"pos_embed {tuple(positions.shape)} instead of {tuple(reference.shape)}"])
    tokens = sum(expected[name].shape[1] for name in ("cls_token", "dist_token", "reg_token") if name in expected)
    before = tokens if _side(reference.shape[1] - tokens) else 0
    own, theirs = _side(reference.shape[1] - before), _side(positions.shape[1] - before)
    if own and theirs:
        return [
            f"position embeddings for {theirs} x {theirs} patches, but the architecture has {own} x {own}: they are"
            " interpolated to image.size"
        ]
    other = next((count for count in range(6) if _side(positions.shape[1] - count)), None)
    what = (
        f"{positions.shape[1]} positions"
        if other is None
        else f"{_side(positions.shape[1] - other)}² patches and {other}"
    )
    raise UserError(
        f"the checkpoint has position embeddings for {what}, but backbone.model for {own}² patches and {before}"
        " tokens beside them (class token, registers)",
        "set backbone.model to an architecture with the same tokens",
    )


def _side(patches: int) -> int:
    """Return the side of a square of so many patches, 0 if their number is not a square."""
    side = math.isqrt(max(patches, 0))
    return side if side * side == patches else 0


def _nearest(
    missing: list[str], tensors: dict[str, Tensor], arranged: dict[str, Tensor], expected: dict[str, Tensor]
) -> str:
    """Return a clause for the error: the unused name in the file that is closest to the first missing name."""
    unused = [name for name in arranged if name not in expected] or [name for name in tensors if name not in expected]
    if not missing or not unused:
        return ""
    first = sorted(missing)[0]
    nearest = max(unused[:5000], key=lambda name: difflib.SequenceMatcher(None, first, name).quick_ratio())
    return f"; its name closest to the first of these is {printable(nearest)}"


def _registers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return DINOv2's tensors in timm's form: the class token's position embedding is added to the token itself."""
    if not {"register_tokens", "cls_token", "pos_embed"} <= tensors.keys():
        return tensors
    changed = dict(tensors)
    _fill(changed, "reg_token", changed.pop("register_tokens"))
    position = changed["pos_embed"]
    if position.ndim == 3 and position[:, :1].shape == changed["cls_token"].shape:  # another shape is reported later
        changed["cls_token"] = changed["cls_token"] + position[:, :1]
        changed["pos_embed"] = position[:, 1:]
    return changed


def _joined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with query, key and value stacked into one projection."""
    joined: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := _THIRD.match(name):
            thirds.setdefault(f"{match[1]}qkv.{match[3]}", {})[match[2]] = tensor
        else:
            joined[name] = tensor
    for name, have in thirds.items():
        _compare("lacks", [name.replace("qkv", f"{part}_proj") for part in "qkv" if part not in have])
        shapes = {third.shape for third in have.values()}
        _compare("has unequal thirds of", [name] if len(shapes) > 1 or torch.Size() in shapes else [])
        _fill(joined, name, torch.cat([have[part] for part in "qkv"]))
    return joined


def _fill(table: dict[str, Tensor], name: str, tensor: Tensor) -> None:
    if name in table:
        raise UserError(f"the checkpoint fills {printable(name)} twice", "use the publisher's original file")
    table[name] = tensor


_MODEL = "check that backbone.model names the architecture that the checkpoint was made for"
_NUMBERS = "take a checkpoint with sound fp32, fp16 or bf16 numbers, or fetch the file again"


def _compare(what: str, names: list[str], remedy: str = _MODEL, addition: str = "") -> None:
    if names:
        raise UserError(f"the checkpoint {what} {_some(names)}{addition}", remedy)


def _some(names: list[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
