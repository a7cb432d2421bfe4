"""The inputs of a training run: model, images, params, device, and the places of its state and caches.

Shapes: B images of a batch, s model side.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptformer.config.params import TrainingParams
from adaptformer.data import augmentation
from adaptformer.data.eval_images import Images
from adaptformer.data.labelled import LabelledImages
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.train_images import StoredImages
from adaptformer.model import device as devices
from adaptformer.model import inference
from adaptformer.model.classifier import Classifier
from adaptformer.model.device import Precision
from adaptformer.model.parts import parts
from adaptformer.training import feature_cache, fixed_crops, head_statistics
from adaptformer.training.activation_cache import ActivationCache, Source
from adaptformer.training.data_parallel import World
from adaptformer.training.feature_cache import FeatureCache


@dataclass(frozen=True)
class TrainingData:
    """The images of a run; `photos` are the images of `train`, in the same order, as training crops them."""

    train: LabelledImages
    photos: StoredImages
    validation: LabelledImages
    contract: ImageContract

    def crops(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Return crops [B, s, s, 3] uint8 of the training images with the indices `images` [B], by `boxes` [B, 5]."""
        pixels = self.photos.take(images.numpy())
        return augmentation.crop(pixels, boxes, self.contract.size, self.contract.interpolation)


@dataclass(frozen=True)
class Compute:
    """The device and the precision of a run, and the processes that train together."""

    device: torch.device
    precision: Precision
    world: World = field(default_factory=World)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which forward passes run in the run's precision."""
        return devices.autocast(self.device, self.precision)


@dataclass(frozen=True)
class Checkpoint:
    """The file of a run's state, which is saved after each epoch and, unless `every_steps` is 0, also within epochs.

    `fingerprint` holds everything on which the result of the run depends. With `any_code` a state of other code is
    resumed too.
    """

    path: Path
    fingerprint: dict[str, Any]
    every_steps: int = 0
    any_code: bool = False


@dataclass(frozen=True)
class Caching:
    """The gigabytes of memory for cached outputs of frozen blocks, and the folder that keeps a linear probe's features.

    The folder takes at most as much disk space; if it is None, no features are kept for later runs.
    """

    gigabytes: float
    features: Path | None = None


@dataclass(frozen=True)
class Run:
    """The inputs of one training run."""

    model: Classifier
    data: TrainingData
    params: TrainingParams
    compute: Compute
    checkpoint: Checkpoint
    caching: Caching

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return crops [B, s, s, 3] on the device as the model's input [B, 3, s, s]."""
        return augmentation.normalise(augmentation.planes(pixels), *self._mean_and_std)

    @cached_property
    def activation_cache(self) -> ActivationCache:
        """The cache of the frozen blocks' outputs, which is empty until `advance_to` is called."""
        sources = self._sources() if self.params.fixed_crops else {}
        return ActivationCache(
            self.model, sources, self.compute.precision, self.caching.gigabytes, self._stored_features()
        )

    @cached_property
    def _mean_and_std(self) -> tuple[Tensor, Tensor]:
        """The contract's mean and std on the device, each [3]."""
        contract, device = self.data.contract, self.compute.device
        return torch.tensor(contract.mean, device=device), torch.tensor(contract.std, device=device)

    def _sources(self) -> dict[str, Source]:
        """Return the images whose outputs can be cached: the fixed crops, the validation and the statistics images."""
        data, per_image = self.data, fixed_crops.count(self.params)
        boxes = fixed_crops.fixed(self.params, data.photos.shapes).flatten(0, 1)

        def training_views(numbers: Tensor) -> Tensor:
            return self.normalised(data.crops(numbers // per_image, boxes[numbers]).to(self.compute.device))

        sources = {
            "train": Source(len(boxes), training_views),
            "validation": self._evaluated(data.validation.images, np.arange(len(data.validation.labels))),
        }
        if self.params.head_statistics == "recomputed":
            rows = head_statistics.rows(len(data.train.labels), self.params)
            sources["statistics"] = self._evaluated(data.train.images, rows)
        return sources

    def _evaluated(self, images: Images, rows: NDArray[np.int64]) -> Source:
        """Return the images `rows` as evaluation sees them."""

        def squares(numbers: Tensor) -> Tensor:
            indices = rows[numbers.numpy()]
            (batch,) = inference.prepared(
                images, indices, self.data.contract, batch_size=len(indices), device=self.compute.device
            )
            return batch

        return Source(len(rows), squares)

    def _stored_features(self) -> FeatureCache | None:
        """Return the file of the features, if they can be kept: only a linear probe's do not change in training."""
        folder, tuned = self.caching.features, self.model.tuned
        if folder is None or any(part.kind != "head" for name, part in parts(self.model).items() if name in tuned):
            return None
        return feature_cache.of_run(folder, self.checkpoint.fingerprint, self.compute.device, self.caching.gigabytes)
