"""Optimisers: their parameter groups with weight decay, learning rate, and state as plain tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from adaptformer.config.params import TrainingParams


def build_optimiser(model: nn.Module, params: TrainingParams) -> torch.optim.Optimizer:
    """Return the optimiser named in the params, over the parameters of `model` that require gradients.

    Set its learning rate before every step.
    """
    groups = decay_groups(model, params.weight_decay)
    if params.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=0.0)
    return torch.optim.SGD(groups, lr=0.0, momentum=params.momentum)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return the parameters of `model` that require gradients in two groups: matrices decay, the others do not.

    Vectors (biases, norms, scales) do not decay, nor do parameters that a module lists in its `no_weight_decay()`, such
    as the tokens and position embeddings of timm's models.
    """
    exempt = {
        f"{prefix}.{name}".removeprefix(".")
        for prefix, module in model.named_modules()
        if hasattr(module, "no_weight_decay")
        for name in module.no_weight_decay()
    }
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (others if parameter.ndim <= 1 or name in exempt else decaying).append(parameter)
    return [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters for the next step."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def learning_rate(params: TrainingParams, progress: float, epochs: int, steps: int, batch_size: int) -> float:
    """Return the rate at `progress` epochs of a phase of `epochs`, each of `steps` steps of `batch_size` images.

    The peak is base_lr × batch_size / 256, or base_lr if `scale_lr` is off. The first step of a warm-up has a rate of 0
    in the published code, and a phase of one step would learn nothing: here, such a step takes the rate at its middle.
    """
    peak = params.base_lr * (batch_size / 256 if params.scale_lr else 1)
    warmup = warmup_epochs(params, epochs, steps)
    rate = warmup_then_cosine(peak, progress, warmup, epochs)
    return rate if rate > 0 or progress > 0 else warmup_then_cosine(peak, 0.5 / steps, warmup, epochs)


def warmup_epochs(params: TrainingParams, epochs: int, steps: int) -> float:
    """Return the length of the warm-up in epochs, for a phase of `epochs`, each of `steps` optimiser steps."""
    return params.warmup_fraction * epochs if params.warmup_steps is None else params.warmup_steps / steps


def warmup_then_cosine(peak: float, progress: float, warmup: float, epochs: float) -> float:
    """Return the rate at `progress` of `epochs`: linear from 0 to `peak` in `warmup`, then half a cosine down to 0.

    A run shorter than its warm-up ends within it.
    """
    if progress < warmup:
        return peak * progress / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (epochs - warmup)))


def pack_state(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of every parameter as `<index>.<name>`; the optimisers used here have only tensors as state."""
    return {
        f"{index}.{name}": value
        for index, entries in optimiser.state_dict()["state"].items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def unpack_state(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the packed state into a new optimiser over the same parameters; its settings do not change."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
