"""Models for benchmarks: random weights, and the settings of params.yaml with some changes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaptformer.config.params import AdapterParams, Params, load
from adaptformer.model import backbone, backbone_file, classifier, tensor_file
from adaptformer.model.backbone_card import BackboneCard

ADAPTER_64 = {
    "method": "adaptformer", "bottlenecks": [64], "scale": 0.1, "activation": "relu", "input": "residual",
    "placement": "parallel", "layernorm": "none", "init": "lora", "dropout": 0.1, "pooling": "token",
}  # fmt: skip
"""The paper's AdaptFormer-64."""


@cache
def params() -> Params:
    """Return params.yaml."""
    return load()


@cache
def encoder(model: str, size: int) -> dict[str, Tensor]:
    """Return random weights of an architecture of timm."""
    torch.manual_seed(0)
    return dict(backbone.build(model, size).state_dict())


def write_backbone(path: Path, model: str, encoder: dict[str, Tensor]) -> BackboneCard:
    """Write a backbone of random weights as `fetch` writes one, and return its card."""
    card = BackboneCard(
        model=model, origin="random", licence="MIT", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25),
        note="random weights", parameters=sum(tensor.numel() for tensor in encoder.values()),
        sha256=tensor_file.content_hash(encoder), source_sha256="0" * 64,
    )  # fmt: skip
    backbone_file.write(path, encoder, card)
    return card


def classified(model: str, size: int = 224, classes: int = 100, **settings: Any) -> classifier.Classifier:
    """Return a classifier in training mode; `settings` of the section `adapter` replace those of AdaptFormer-64."""
    section = AdapterParams.model_validate({**params().adapter.model_dump(), **ADAPTER_64, **settings})
    return classifier.build(model, encoder(model, size), section, image_size=size, classes=classes, seed=0).train()
