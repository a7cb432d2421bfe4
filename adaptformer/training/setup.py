"""The start of a training run: the untrained model, its data, and the estimates before the first step."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from adaptformer.config.params import Params, TrainingParams
from adaptformer.config.run_folder import RunFolder
from adaptformer.data import manifest
from adaptformer.data.cache import ImageCache
from adaptformer.data.labelled import Crops, DataSet
from adaptformer.data.preprocessing import ImageContract
from adaptformer.model import backbone as architecture
from adaptformer.model import backbone_file, classifier, device
from adaptformer.model.backbone_card import BackboneCard
from adaptformer.model.classifier import Classifier
from adaptformer.model.device import Precision
from adaptformer.training import head_statistics, planning
from adaptformer.training.data_parallel import World
from adaptformer.training.run import Caching, Checkpoint, Compute, Run, TrainingData

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

    def plan(self, params: TrainingParams, processes: int) -> planning.Plan:
        """Predict the cost of training by `processes` processes."""
        return planning.plan(self._workload(params, processes))

    def minutes(self, params: TrainingParams) -> float:
        """Time a few steps and return the minutes of the whole training; do not train the model afterwards."""
        return planning.minutes(self._workload(params))

    def _workload(self, params: TrainingParams, processes: int = 1) -> planning.Workload:
        counts = self.images("train"), self.images("validation")
        return planning.Workload(self.model, params, *counts, self.device, self.precision, processes)

    def warnings(self) -> list[str]:
        """Return warnings if the model's input size does not suit the training images."""
        sides = manifest.rows(self.manifest, "train")[["height", "width"]].min(axis=1)
        return planning.warnings(self.contract.size, sides.tolist())

    def announce(self, plan: planning.Plan) -> None:
        """Log what will train, what it needs, and the warnings."""
        several = f", {plan.processes} processes" if plan.processes > 1 else ""
        log.info("training on %d images, %s on %s%s", plan.images, self.precision, self.device, several)
        for line in plan.lines():
            log.info(line)
        for warning in self.warnings():
            log.warning("warning: %s", warning)


def prepare(params: Params, folder: RunFolder) -> Training:
    """Build the untrained model from the backbone and the manifest in the run folder."""
    encoder, backbone = backbone_file.read(folder.backbone)
    contract = ImageContract(**params.image.model_dump(), mean=backbone.mean, std=backbone.std)
    table = manifest.read_manifest(folder.manifest)
    classes = tuple(manifest.class_names(table))
    where = device.choose(params.runtime.device, params.runtime.threads)
    model = classifier.build(
        backbone.model, encoder, params.adapter, image_size=contract.size, classes=len(classes),
        seed=params.training.seed, drop_path=params.training.drop_path,
    )  # fmt: skip
    if resized := architecture.resized_positions(model.vit, encoder):
        log.info("%s", resized)
    precision = device.precision(params.training.precision, where, model.vit.embed_dim, len(model.vit.blocks))
    device.plain_attention(model.vit, where, precision)
    device.store_frozen(model, precision)
    if params.runtime.compile:
        model.compile_blocks()
    return Training(model, backbone, contract, table, classes, where, precision)


def load(start: Training, params: Params, folder: RunFolder, fingerprint: dict[str, Any], world: World) -> Run:
    """Return the run, with the images of its splits; `fingerprint` holds everything on which its result depends."""
    training, runtime = params.training, params.runtime
    cache = ImageCache(folder.image_cache, runtime.image_cache_gb)
    data_set = DataSet(start.manifest, start.classes, folder.data, start.contract, cache)
    train, photos = data_set.training(
        Crops(training.crop_scale, training.crop_ratio), head_statistics.rows(start.images("train"), training)
    )
    return Run(
        model=start.model,
        data=TrainingData(train, photos, data_set.split("validation"), start.contract),
        params=training,
        compute=Compute(start.device, start.precision, world),
        checkpoint=Checkpoint(
            folder.resume_state,
            fingerprint,
            every_steps=runtime.save_every_steps,
            any_code=runtime.resume == "any_code",
        ),
        caching=Caching(runtime.feature_cache_gb, folder.probe_features),
    )
