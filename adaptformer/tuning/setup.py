"""The start of a training run: the untrained model, its data, and the estimates before the first step."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from adaptformer.config.params import Params, TuningParams
from adaptformer.config.run_folder import RunFolder
from adaptformer.data import labelled, manifest
from adaptformer.data.cache import ImageCache
from adaptformer.data.contract import ImageContract
from adaptformer.model import backbone as architecture
from adaptformer.model import backbone_file, classifier, device
from adaptformer.model.backbone_card import BackboneCard
from adaptformer.model.classifier import Classifier
from adaptformer.model.device import Precision
from adaptformer.tuning import epoch, planning
from adaptformer.tuning.data_parallel import World

log = logging.getLogger("adaptformer")


@dataclass(frozen=True)
class Training:
    """An untrained model with its image contract, manifest, classes, device and precision."""

    model: Classifier
    backbone: BackboneCard
    contract: ImageContract
    manifest: pd.DataFrame
    classes: tuple[str, ...]
    device: torch.device
    precision: Precision

    def images(self, split: str) -> int:
        """Return the number of images of a split."""
        return len(manifest.rows(self.manifest, split))

    def plan(self, params: TuningParams, processes: int) -> planning.Plan:
        """Predict the cost of training by `processes` processes."""
        return planning.plan(self.model, params, self.images("train"), self.device, self.precision, processes)

    def minutes(self, params: TuningParams) -> float:
        """Time a few steps and return the minutes of the whole training; do not train the model afterwards."""
        counts = self.images("train"), self.images("validation")
        return planning.minutes(self.model, params, counts, self.contract.size, self.device, self.precision)

    def warnings(self) -> list[str]:
        """Return warnings if the model's input size does not suit the training images."""
        sides = manifest.rows(self.manifest, "train")[["height", "width"]].min(axis=1)
        return planning.warnings(self.contract.size, sides.tolist())


def prepare(params: Params, folder: RunFolder) -> Training:
    """Build the untrained model from the backbone and the manifest in the run folder."""
    encoder, backbone = backbone_file.read(folder.backbone)
    contract = ImageContract(**params.image.model_dump(), mean=backbone.mean, std=backbone.std)
    table = manifest.read_manifest(folder.manifest)
    classes = tuple(manifest.class_names(table))
    chosen = device.choose(params.runtime.device, params.runtime.threads)
    model = classifier.build(
        backbone.model, encoder, params.adapter, image_size=contract.size, classes=len(classes),
        seed=params.tuning.seed, drop_path=params.tuning.drop_path,
    )  # fmt: skip
    if resized := architecture.resized_positions(model.vit, encoder):
        log.info("%s", resized)
    precision = device.precision(params.tuning.precision, chosen, model.vit.embed_dim, len(model.vit.blocks))
    device.plain_attention(model.vit, chosen, precision)
    device.store_frozen(model, precision)
    if params.runtime.compile:
        model.compile_blocks()
    return Training(model, backbone, contract, table, classes, chosen, precision)


def load(start: Training, params: Params, folder: RunFolder, fingerprint: dict[str, Any], world: World) -> epoch.Run:
    """Return the run, with the images of its splits; `fingerprint` holds everything on which its result depends."""
    tuning, runtime, classes = params.tuning, params.runtime, start.classes
    cache = ImageCache(folder.image_cache, runtime.cache_gb)
    train, photos = labelled.load_training(
        start.manifest, classes, folder.data, start.contract, cache, crop_scale=tuning.crop_scale,
        crop_ratio=tuning.crop_ratio, judged=epoch.statistics_rows(start.images("train"), tuning),
    )  # fmt: skip
    validation = labelled.load(start.manifest, "validation", classes, folder.data, start.contract, cache)
    return epoch.Run(
        start.model, train, photos, validation, start.contract, tuning, start.device, start.precision,
        folder.resume_state, runtime.save_steps, runtime.activations_gb, fingerprint,
        folder.probe_features, runtime.resume == "any_code", world=world,
    )  # fmt: skip
