from __future__ import annotations

from pathlib import Path

import mite
import numpy as np
import pytest
from PIL import Image

from adaptformer.export import graph
from adaptformer.model.classifier import Classifier


@pytest.fixture(scope="session")
def model() -> Classifier:
    """A model as if trained, with every kind of part in it."""
    return mite.stirred(mite.model(bottlenecks=(4, 2), scale="learned", layernorm="in"))


@pytest.fixture(scope="session")
def onnx_file(model: Classifier) -> bytes:
    return graph.build(model, mite.adapter_card(bottlenecks=(4, 2), scale="learned", layernorm="in"), opset=20)


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
