"""A model and a task small enough to train within a test.

`vit_mite_patch4_8` sees images of 8 pixels as 4 patches: width 12, two blocks of three heads. The task is to tell
classes by their colour.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptformer.backbones import fetching
from adaptformer.config.params import AdapterParams, BackboneParams
from adaptformer.data.labelled import LabelledImages
from adaptformer.data.preprocessing import ImageContract
from adaptformer.model import backbone, classifier, tensor_file
from adaptformer.model.adapter_file import AdapterCard
from adaptformer.model.backbone import VisionTransformer, timm  # type: ignore[attr-defined] # for torchvision's sake
from adaptformer.model.backbone_card import BackboneCard

MODEL = "vit_mite_patch4_8"
SIDE, WIDTH, DEPTH = 8, 12, 2
LICENCES = ("mit", "apache-2.0")
CLASSES = ("amber", "blue", "coral")
CONTRACT = ImageContract(SIDE, "crop", 1.0, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
SETTINGS: dict[str, Any] = {
    "method": "adaptformer", "bottlenecks": [4], "scale": 0.1, "activation": "relu", "input": "residual",
    "placement": "parallel", "layernorm": "none", "init": "lora", "dropout": 0.0, "drop_path": 0.0, "prompts": 3,
    "prompt_depth": "deep", "pooling": "mean",
}  # fmt: skip
COLOURS = np.array([[230, 160, 30], [30, 60, 220], [240, 110, 90]])


@timm.models.register_model  # type: ignore[untyped-decorator]
def vit_mite_patch4_8(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    kwargs["pretrained_cfg"] = {"architecture": MODEL}
    config = {"img_size": SIDE, "patch_size": 4, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": 3}
    return timm.models.build_model_with_cfg(VisionTransformer, MODEL, pretrained, **(config | kwargs))


@cache
def _shapes() -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in backbone.build(MODEL).state_dict().items()}


def encoder(seed: int = 0) -> dict[str, Tensor]:
    """Random weights, large enough for every part to matter; the norms' lie around 1."""
    numbers = torch.Generator().manual_seed(seed)
    centre = {name: 1.0 if "norm" in name and name.endswith("weight") else 0.0 for name in _shapes()}
    return {name: centre[name] + 0.3 * torch.randn(shape, generator=numbers) for name, shape in _shapes().items()}


def settings(**changes: Any) -> AdapterParams:
    """The params section `adapter` of the task."""
    return AdapterParams.model_validate({**SETTINGS, **changes})


def model(**changes: Any) -> classifier.Classifier:
    """The untrained classifier of the task; `changes` are settings of the adapter or other keywords of `build`."""
    ours = {key: changes.pop(key) for key in list(changes) if key in SETTINGS}
    keywords: dict[str, Any] = {"image_size": SIDE, "classes": len(CLASSES), "seed": 0, **changes}
    keywords["drop_path"] = ours.get("drop_path", 0.0)  # in the backbone and on the adapter's branch
    return classifier.build(MODEL, encoder(), settings(**ours), **keywords)


def stirred(classified: classifier.Classifier, seed: int = 1) -> classifier.Classifier:
    """The same model as if it had been trained: adapters, head and BatchNorm statistics away from their start."""
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in classifier.trainable_state_dict(classified).items():
            if tensor.is_floating_point():
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=numbers))
            if name.endswith("running_var"):
                tensor.abs_()
    return classified.eval()


def pixels_and_labels(per_class: int, seed: int = 0, side: int = SIDE) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images [N, side, side, 3] in their class's colour, with noise, and labels [N]; the classes take turns."""
    labels = np.arange(per_class * len(CLASSES)) % len(CLASSES)
    noise = np.random.default_rng(seed).integers(-25, 26, (len(labels), side, side, 3))
    return np.clip(COLOURS[labels][:, None, None] + noise, 0, 255).astype(np.uint8), labels.astype(np.int64)


def coloured(per_class: int, seed: int = 0, side: int = SIDE) -> LabelledImages:
    """Those images with paths and hashes."""
    pixels, labels = pixels_and_labels(per_class, seed, side)
    return LabelledImages(
        pixels,
        labels,
        [f"train/{CLASSES[c]}/{i}.png" for i, c in enumerate(labels)],
        [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels],
    )


def backbone_card(**changes: Any) -> BackboneCard:
    tensors = encoder()
    values = {
        "model": MODEL, "origin": "mite.safetensors", "licence": "MIT", "mean": CONTRACT.mean, "std": CONTRACT.std,
        "note": "random", "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "sha256": tensor_file.content_hash(tensors), "source_sha256": "0" * 64,
    }  # fmt: skip
    return BackboneCard(**{**values, **changes})


def adapter_card(**settings: Any) -> AdapterCard:
    trained = sum(parameter.numel() for parameter in classifier.trainable(model(**settings)).values())
    return AdapterCard({**SETTINGS, **settings}, CLASSES, CONTRACT, backbone_card(), "fp32", 2, trained)


def write_backbone(path: Path) -> Path:
    tensor_file.write(path, encoder(), dataclasses.asdict(backbone_card()))
    return path


def wanted(
    model: str, checkpoint: str, sha256: str | None = None, allowed: Sequence[str] = LICENCES, **changes: Any
) -> BackboneParams:
    """The params section `backbone`."""
    values = {"weights": "ema", "licence": None, "mean": None, "std": None, **changes}
    content = {"model": model, "checkpoint": checkpoint, "sha256": sha256, "allowed_licences": list(allowed), **values}
    return BackboneParams.model_validate(content)


def fetched(*arguments: Any, **changes: Any) -> tuple[dict[str, Tensor], BackboneCard]:
    """Tensors and card of the checkpoint that `wanted` of the same arguments names."""
    return fetching.fetch(wanted(*arguments, **changes))


def tuned_hash(classified: classifier.Classifier) -> str:
    return tensor_file.content_hash(classifier.trainable_state_dict(classified))
