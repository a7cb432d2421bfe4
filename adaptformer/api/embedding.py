"""Features of images from a trained model, by torch: `Model.embed`.

Shapes: N images, s image side, D width of the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from adaptformer.api import call_logging
from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.config.run_folder import RunFolder
from adaptformer.data.decoding import Pixels
from adaptformer.model import adapter_file, inference
from adaptformer.prediction.predictor import Predictor

_BATCH = 32
_REMEDY = "load the run by its folder, with adapter.safetensors and backbone.safetensors in it"


def features(model: Path | None, images: Sequence[Pixels]) -> NDArray[np.float32]:
    """Return the pooled features [N, D] of prepared images [s, s, 3], from the run that the file `model` is of.

    Raises UserError if the run's adapter and backbone are not beside the file, or are not those it was exported from.
    """
    if model is None:
        raise UserError("a registered model has no adapter and backbone here, which features need", _REMEDY)
    folder = RunFolder(model.parent)
    for path in (folder.adapter, folder.backbone):
        if not path.is_file():
            raise UserError(f"{path} is missing, from which features are computed", _REMEDY)
    if Predictor(model, "cpu").adapter != files.sha256_file(folder.adapter):
        raise UserError(f"{model} was not exported from {folder.adapter}", _REMEDY)
    with call_logging.to_log(), torch.no_grad():
        trained, card = adapter_file.load(folder.adapter, folder.backbone)
        features_of_batches = [np.zeros((0, trained.vit.embed_dim), np.float32)]
        for start in range(0, len(images), _BATCH):
            stacked = np.stack(images[start : start + _BATCH])
            (batch,) = inference.prepared(
                stacked, np.arange(len(stacked)), card.image, batch_size=_BATCH, device=torch.device("cpu")
            )
            features_of_batches.append(trained.pooled(batch)[0].numpy())
    return np.concatenate(features_of_batches)
