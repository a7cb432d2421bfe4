"""Optimisers and the learning rate: the published recipe, and AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from adaptformer.params import TuningParams


def build(parameters: Iterable[nn.Parameter], params: TuningParams) -> torch.optim.Optimizer:
    """Return the optimiser that the params name; its learning rate is set before every step."""
    if params.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=0.0, weight_decay=params.weight_decay)
    return torch.optim.SGD(parameters, lr=0.0, momentum=params.momentum, weight_decay=params.weight_decay)


def learning_rate(params: TuningParams, progress: float, epochs: int, steps: int) -> float:
    """Return the rate at `progress` epochs of a phase of `epochs`: linear warm-up, then half a cosine down to 0.

    The peak is base_lr × batch_size / 256, or base_lr where `scale_lr` is off. An epoch has `steps` optimiser steps: a
    warm-up given in steps is a part of it. A phase shorter than its warm-up ends within it.
    """
    peak = params.base_lr * (params.batch_size / 256 if params.scale_lr else 1)
    warmup = params.warmup_epochs if params.warmup_steps is None else params.warmup_steps / steps
    if progress < warmup:
        return peak * progress / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (epochs - warmup)))
