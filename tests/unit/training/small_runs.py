"""Training runs of the mite for the tests of training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import mite
import torch

from adaptformer.config.params import TrainingParams
from adaptformer.data.train_images import Photos
from adaptformer.training.data_parallel import World
from adaptformer.training.run import Caching, Checkpoint, Compute, Run, TrainingData

# Every part draws random numbers: dropout and stochastic depth too.
RESTLESS = {"dropout": 0.3, "drop_path": 0.3}


def training_params(**changes: Any) -> TrainingParams:
    values: dict[str, Any] = {
        "seed": 0, "schedule": "joint", "rounds": 1, "block_order": "up", "epochs": 3, "rollback_above": 0.5,
        "head_statistics": "recomputed", "statistics_fraction": 1.0, "reset_statistics": False,
        "batch_size": 8, "gradient_accumulation": 1, "optimiser": "sgd", "base_lr": 8.0,
        "scale_lr": True, "momentum": 0.9, "weight_decay": 0.0, "warmup_fraction": 0.3, "warmup_steps": None,
        "drop_path": 0.0, "crop_scale": (0.7, 1.0), "crop_ratio": (0.75, 1.3333), "flip": True, "fixed_crops": 0,
        "label_smoothing": 0.0, "class_balance": "none", "class_balance_power": 1.0, "selection_metric": "top1",
        "precision": "fp32",
    }  # fmt: skip
    return TrainingParams(**{**values, **changes})


def run(folder: Path, *, per_class: int = 7, model: dict[str, Any] | None = None, **changes: Any) -> Run:
    """A run on 3 × `per_class` images; `changes` are those of the params or fields of the run's parts."""
    images = mite.coloured(per_class)
    parts: dict[str, Any] = {
        "train": images, "photos": None, "validation": mite.coloured(4, seed=1), "contract": mite.CONTRACT,
        "device": torch.device("cpu"), "precision": "fp32", "world": World(),
        "path": folder / "resume.safetensors", "fingerprint": None, "every_steps": 0, "any_code": False,
        "gigabytes": 1.0, "features": None,
    }  # fmt: skip
    parts |= {name: changes.pop(name) for name in list(changes) if name in parts}
    parts["photos"] = parts["photos"] or Photos.of_one_size(parts["train"].images)
    parts["fingerprint"] = parts["fingerprint"] or {"training": changes, "backbone": "abc"}

    def part(kind: Any) -> Any:
        return kind(**{field.name: parts[field.name] for field in dataclasses.fields(kind)})

    return Run(
        mite.model(**(RESTLESS if model is None else model)),
        part(TrainingData), training_params(**changes), part(Compute), part(Checkpoint), part(Caching),
    )  # fmt: skip


def trained(loss: float = 0.5) -> dict[str, float]:
    """What the steps of an epoch give, for tests that need no step."""
    return {"lr": 0.1, "train_loss": loss, "train_top1": 0.5}


def validated(loss: float, top1: float, balanced_accuracy: float = 0.5, macro_f1: float = 0.5) -> dict[str, float]:
    """What validation gives, for tests that decide themselves how good an epoch is."""
    return {
        "val_loss": loss, "val_top1": top1, "val_balanced_accuracy": balanced_accuracy, "val_macro_f1": macro_f1,
    }  # fmt: skip
