from __future__ import annotations

from pathlib import Path

import mite
import numpy as np
import pytest
from PIL import Image

from adaptformer.export import graph
from adaptformer.model.adapter_file import AdapterCard
from adaptformer.model.classifier import Classifier

SETTINGS = {"bottlenecks": (4, 2), "scale": "learned", "layernorm": "in"}


@pytest.fixture(scope="session")
def model() -> Classifier:
    """A model as if trained, with every kind of part in it."""
    return mite.stirred(mite.model(**SETTINGS))


@pytest.fixture(scope="session")
def card() -> AdapterCard:
    return mite.adapter_card(**SETTINGS)


@pytest.fixture(scope="session")
def onnx_file(model: Classifier, card: AdapterCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in one file. Tests only read it."""
    path = tmp_path_factory.mktemp("inside") / "model.onnx"
    graph.write(path, model, card, 20, 1)
    return path


@pytest.fixture(scope="session")
def large_file(model: Classifier, card: AdapterCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as if it were too large for one file. Tests only read it."""
    path = tmp_path_factory.mktemp("outside") / "model.onnx"
    graph.write(path, model, card, 20, 0)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Files of other sizes than the model's."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, pixels in enumerate(mite.coloured(4, side=13).images):
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def images() -> np.ndarray:
    return mite.coloured(4).images
