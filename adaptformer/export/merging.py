"""Simplification of a trained classifier for inference: the same function with fewer operations.

The simplification is exact up to rounding (checked in float64) for every kind of adapter:

    slots                    fused into one adapter of their summed width: Wd stacked, Wu side by side
    scale s (or by channel)  folded into Wu and bu
    a slot's LayerNorm "in"  affine folded into Wd and bd; the normalisation itself remains, once for all slots
    bu                       folded into the bias of fc2, if the adapter does not read the output of fc2
    LayerScale               folded into the matrix before it
    last norm, BatchNorm     affine and running statistics folded into the head's linear layer
    class token              the last block computes queries and feed-forward only for that row
    deep prompts             replaced by their keys and values, which are constants
    dropout, DropPath        removed

The rest remains. An AdaptFormer adapter has a ReLU and reads the residual stream before LayerNorm, so unlike LoRA it
cannot be folded into fc1 and fc2. A LayerNorm "out" stays after its slot, and slots with it cannot be fused; their
scale, which comes before that norm, is still folded. VPT-Shallow's blocks do not change. Matrices are combined in
float64 and rounded once.

Shapes: D width, r bottleneck, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from adaptformer.base.errors import UserError
from adaptformer.export import folding
from adaptformer.export.merged_block import MergedAdapter, MergedAttention, MergedBlock, Reads
from adaptformer.model import block_forward as blocks
from adaptformer.model.adapter import AdaptedBlock, Adapter
from adaptformer.model.backbone import Attention, Block
from adaptformer.model.classifier import Classifier, Head
from adaptformer.model.prompts import PromptedBlock

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}
_READS: dict[tuple[str, str], Reads] = {
    ("parallel", "residual"): "residual",
    ("parallel", "norm2"): "norm2",
    ("sequential", "residual"): "feed_forward",
    ("after", "residual"): "output",
}
_KNOWN = {
    Classifier: {"pooling", "prefix_tokens", "tuned", "vit", "head", "head_dist"},
    AdaptedBlock: {"placement", "reads", "block", "adapters", "drop_path"},
    PromptedBlock: {"block", "prompts", "count"},
    Adapter: {"scale", "activation", "norm_in", "down", "dropout", "up", "norm_out"},
    Head: {"fc_norm", "batch_norm", "linear"},
}
"""The settings and parts that merging supports: a module with others might compute something else."""


@torch.no_grad()
def merge(model: Classifier) -> Classifier:
    """Return a new model with the same logits: frozen, on the CPU, in evaluation mode; `model` does not change.

    Weights that merging does not change share their memory with `model`, if it is on the CPU. Merging a merged model
    changes nothing. Its features differ from the original's, because the affine of the last norm is in the head. Raises
    UserError for weights that are not finite and for parts that merging does not support.
    """
    _refuse_not_finite(model)
    for module in model.modules():
        _refuse_unknown(module)
    # A deep copy of the modules, not of the weights: a large model is in memory only once.
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    merged = copy.deepcopy(model, shared).cpu()
    vit = merged.vit
    last = len(vit.blocks) - 1
    for index, block in enumerate(vit.blocks):
        rows = (1 if merged.head_dist is None else 2) if merged.pooling == "token" and index == last else None
        vit.blocks[index] = _merged_block(block, rows)
    _fold_into_head(merged)
    for module in list(merged.modules()):
        for name, part in module.named_children():
            if isinstance(part, nn.Dropout):
                # timm's attention reads the rate of its dropout module.
                setattr(module, name, nn.Dropout(0.0) if name == "attn_drop" else nn.Identity())
    _refuse_not_finite(merged)
    return merged.requires_grad_(False).eval()


def _merged_block(tuned: nn.Module, rows: int | None) -> MergedBlock | PromptedBlock:
    """Return one block, wrapped or plain, merged; with `rows`, it computes only the first rows."""
    if isinstance(tuned, MergedBlock) or (isinstance(tuned, PromptedBlock) and not tuned.drops_prompts):
        return tuned
    block: Any = tuned.block if isinstance(tuned, (AdaptedBlock, PromptedBlock)) else tuned
    if type(block) is not Block or type(block.attn) is not Attention:
        raise folding.not_understood(f"a block of the kind {type(block).__name__}")
    attention, mlp = block.attn, block.mlp
    attention.proj = folding.layer_scaled(attention.proj, block.ls1)
    mlp.fc2 = folding.layer_scaled(mlp.fc2, block.ls2)
    adapters: list[MergedAdapter] = []
    reads: Reads = "residual"
    if isinstance(tuned, AdaptedBlock) and len(tuned.adapters):
        reads = _READS[_placement(tuned)]
        adapters = _fused([_folded(slot) for slot in tuned.adapters if isinstance(slot, Adapter)])
        if reads in ("residual", "norm2"):
            _move_biases(adapters, mlp)
    prompts = _prompts(block, tuned.prompts) if isinstance(tuned, PromptedBlock) else None
    attn = attention if rows is None and prompts is None else _attention(attention, rows, prompts)
    return MergedBlock(block.norm1, attn, block.norm2, mlp, adapters, reads)


def _folded(slot: Adapter) -> MergedAdapter:
    """Return one slot with its scale in Wu and bu, and the affine of its inner LayerNorm in Wd and bd."""
    scale = torch.as_tensor(slot.scale, dtype=torch.float64).reshape(-1, 1)  # [1, 1] or, by channel, [D, 1]
    gain, shift, norm_in = folding.affine(slot.norm_in, slot.down.in_features)
    down, up = slot.down.weight.double(), slot.up.weight.double()
    return MergedAdapter(
        norm_in,
        folding.linear(down * gain, slot.down.bias.double() + down @ shift, slot.down.weight),
        _ACTIVATIONS[slot.activation](),
        folding.linear(up * scale, slot.up.bias.double() * scale[:, 0], slot.up.weight),
        slot.norm_out,
    )


def _fused(slots: list[MergedAdapter]) -> list[MergedAdapter]:
    """Return slots that read the same tokens fused into one adapter, or unchanged if their kinds differ."""
    kinds = {(repr(slot.norm_in), repr(slot.act), repr(slot.norm_out)) for slot in slots}
    first = slots[0]
    if len(slots) == 1 or len(kinds) > 1 or not isinstance(first.norm_out, nn.Identity):
        return slots
    down = folding.linear(
        torch.cat([slot.down.weight for slot in slots]),
        torch.cat([slot.down.bias for slot in slots]),
        first.down.weight,
    )
    bias = torch.stack([slot.up.bias.double() for slot in slots]).sum(0)
    up = folding.linear(torch.cat([slot.up.weight for slot in slots], dim=1), bias, first.up.weight)
    return [MergedAdapter(first.norm_in, down, first.act, up, first.norm_out)]


def _move_biases(adapters: Iterable[MergedAdapter], mlp: Any) -> None:
    """Move the adapters' output biases into the bias of fc2, except those that a LayerNorm follows."""
    for adapter in adapters:
        if isinstance(adapter.norm_out, nn.Identity):
            mlp.fc2 = folding.linear(mlp.fc2.weight, folding.bias(mlp.fc2) + adapter.up.bias.double(), mlp.fc2.weight)
            adapter.up = folding.linear(adapter.up.weight, None, adapter.up.weight)


def _fold_into_head(model: Classifier) -> None:
    """Fold BatchNorm's statistics and the affine of the norm before it into each head's linear layer [C, D]."""
    vit: Any = model.vit
    gain, shift, norm = folding.affine(vit.norm, vit.embed_dim)
    for head in model.heads:
        _fold_head(head, gain, shift)
    vit.norm = norm


def _fold_head(head: Any, gain: Tensor, shift: Tensor) -> None:
    """Fold one head; `gain` and `shift` [D] are the affine of the encoder's norm."""
    linear, norm = head.linear, head.batch_norm
    weight, bias = linear.weight.double(), folding.bias(linear)
    if isinstance(norm, nn.BatchNorm1d):
        if norm.affine or norm.running_mean is None or norm.running_var is None:
            raise folding.not_understood("a head whose BatchNorm has an affine or no statistics")
        weight = weight / (norm.running_var.double() + norm.eps).sqrt()
        bias = bias - weight @ norm.running_mean.double()
    # A model has either the encoder's norm (before pooling) or the head's (after mean pooling), not both.
    if not isinstance(head.fc_norm, nn.Identity):
        gain, shift, head.fc_norm = folding.affine(head.fc_norm, linear.in_features)
    head.linear = folding.linear(weight * gain, bias + weight @ shift, linear.weight)
    head.batch_norm = nn.Identity()


def _attention(attention: Any, rows: int | None, prompts: Tensor | None) -> MergedAttention:
    """Return attention with separate matrices for queries and for keys and values, which read different tokens."""
    width, weight, bias = attention.attn_dim, attention.qkv.weight, attention.qkv.bias
    query = folding.linear(weight[:width], None if bias is None else bias[:width], weight)
    key_value = folding.linear(weight[width:], None if bias is None else bias[width:], weight)
    return MergedAttention(query, key_value, attention, rows, prompts)


def _prompts(block: nn.Module, prompts: Any) -> Tensor:
    """Return the keys and values [2, H, n, d] of a block's prompts [1, n, D], computed in float64."""
    exact = copy.deepcopy(block).double()
    return torch.cat(blocks.prompt_keys_and_values(exact, prompts.double())).to(prompts.dtype)


def _refuse_not_finite(model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise UserError(
                f"{name} of the trained model holds a number that is not finite",
                "train again with a smaller training.base_lr; nothing was merged",
            )


def _refuse_unknown(module: nn.Module) -> None:
    """Raise UserError for settings and parts that change the forward pass in a way that merging does not support."""
    for kind, known in _KNOWN.items():
        if isinstance(module, kind):
            settings = {name for name in vars(module).keys() - vars(nn.Module()).keys() if name[0] != "_"}
            present = settings | {name for name, _ in [*module.named_children(), *module._parameters.items()]}
            if type(module) is not kind or present - known:
                raise folding.not_understood(f"{type(module).__name__} with {sorted(present - known) or 'more'}")
    if isinstance(module, Classifier) and module.pooling not in {"mean", "token"}:
        raise folding.not_understood(f"pooling {module.pooling}")
    if isinstance(module, AdaptedBlock) and _placement(module) not in _READS:
        raise folding.not_understood(f"adapters placed {' '.join(_placement(module))}")


def _placement(adapted: AdaptedBlock) -> tuple[str, str]:
    """Return the placement of adapters and their input; only parallel adapters have a choice of input."""
    return adapted.placement, adapted.reads if adapted.placement == "parallel" else "residual"
