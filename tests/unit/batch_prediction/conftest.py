"""An exported model and small pictures, some of which are none."""

from __future__ import annotations

import shutil
from pathlib import Path

import mite
import numpy as np
import pytest
from many_photos import IMAGES
from PIL import Image

from adaptformer.export import graph, merging


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    graph.write(path, merging.merge(mite.stirred(mite.model())), mite.adapter_card(), 20, 1500, "a" * 64)
    return path


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(exported, tmp_path / "exported.onnx"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with IMAGES pictures in two folders, one of them damaged, and a text file."""
    folder = tmp_path / "photos"
    generator = np.random.default_rng(0)
    for number in range(IMAGES):
        path = folder / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(path)
    damaged = folder / "a/10.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    (folder / "b/.hidden").write_text("no")
    return folder
