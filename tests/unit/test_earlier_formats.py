"""Files that earlier versions wrote still load: earlier_formats/ has one folder for each past format.

`without_checksums`: of 2026-11-29, before files had checksums in them or beside them.
"""

from __future__ import annotations

from pathlib import Path

import mite  # registers its architecture with timm
import numpy as np
import pytest
import torch

from adaptformer.data import manifest
from adaptformer.evaluation import data_profile
from adaptformer.model import adapter_file, inference
from adaptformer.prediction.predictor import Predictor
from adaptformer.registry import version_evidence

FORMATS = sorted((Path(__file__).parent / "earlier_formats").iterdir())


@pytest.mark.parametrize("folder", FORMATS, ids=lambda folder: folder.name)
def test_adapter_backbone_and_onnx_file_of_an_earlier_version_are_one_model(folder: Path) -> None:
    model, card = adapter_file.load(folder / "adapter.safetensors", folder / "backbone.safetensors")
    assert card.backbone.model == mite.MODEL
    predictor = Predictor(folder / "model.onnx", device="cpu")
    assert (predictor.classes, predictor.contract) == (card.classes, card.image)
    images = np.random.default_rng(0).integers(0, 256, (5, card.image.size, card.image.size, 3), dtype=np.uint8)
    trained = inference.logits(model, images, card.image, batch_size=5, device=torch.device("cpu"))
    np.testing.assert_allclose(predictor.logits(images), trained.numpy(), rtol=1e-4, atol=1e-4)
    assert len({tuple(row) for row in predictor.logits(images).tolist()}) == 5


@pytest.mark.parametrize("folder", FORMATS, ids=lambda folder: folder.name)
def test_the_evidence_of_an_earlier_version_can_be_judged(folder: Path) -> None:
    table = manifest.read_stored(folder / "manifest.csv", manifest.REGISTER)
    predictions = version_evidence.read_predictions(folder / "predictions.csv")
    assert predictions is not None
    assert sorted(predictions["path"]) == sorted(manifest.rows(table, "test")["path"])
    assert len(data_profile.read(folder / "profile.safetensors").sizes) == len(table)
