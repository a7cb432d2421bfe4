"""Fixtures: models exported to ONNX files, for the tests of the export and of predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mite
import numpy as np
import pytest
from PIL import Image

from adaptformer.export import graph
from adaptformer.model.adapter_file import AdapterCard
from adaptformer.model.classifier import Classifier

ADAPTER = "a" * 64
"""The sha256 of the adapter file that the exported models name."""
SETTINGS = {"bottlenecks": (4, 2), "scale": "learned", "layernorm": "in"}


@pytest.fixture(scope="session")
def model() -> Classifier:
    """A model as if trained, with every kind of part in it."""
    return mite.stirred(mite.model(**SETTINGS))


@pytest.fixture(scope="session")
def card() -> AdapterCard:
    return mite.adapter_card(**SETTINGS)


def write_both(folder: Path, model: Classifier, card: AdapterCard) -> tuple[Path, Path]:
    """Export the model, which takes seconds, and write it twice: in one file, and as if it were too large for that."""
    program = graph.exported(model, card, 20)
    paths = both(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "exported", lambda *_: program)
        for path, external_data_mb in zip(paths, (1, 0), strict=True):
            graph.write(path, model, card, 20, external_data_mb, ADAPTER)
    return paths


@pytest.fixture(scope="session")
def written(model: Classifier, card: AdapterCard, made_once: Callable[..., Path]) -> tuple[Path, Path]:
    return both(made_once("exported models", lambda root: write_both(root, model, card)))


def both(folder: Path) -> tuple[Path, Path]:
    return folder / "inside/model.onnx", folder / "outside/model.onnx"


@pytest.fixture(scope="session")
def onnx_file(written: tuple[Path, Path]) -> Path:
    """The model in one file. Tests only read it."""
    return written[0]


@pytest.fixture(scope="session")
def large_file(written: tuple[Path, Path]) -> Path:
    """The same model as if it were too large for one file. Tests only read it."""
    return written[1]


@pytest.fixture
def elsewhere(
    model: Classifier, card: AdapterCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """Both files, exported again from another folder and to a relative path."""
    monkeypatch.chdir(tmp_path)
    return write_both(Path("elsewhere"), model, card)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Files of other sizes than the model's."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, pixels in enumerate(mite.pixels_and_labels(4, side=13)[0]):
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def images() -> np.ndarray:
    return mite.pixels_and_labels(4)[0]
