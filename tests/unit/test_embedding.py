"""Features of a data set: each image once, whatever asks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import mite
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from adaptformer import embedding
from adaptformer.data.cache import ImageCache
from adaptformer.data.layout import SPLITS
from adaptformer.data.manifest import scan
from adaptformer.model import tensor_file
from adaptformer.params import ImageParams

Tree = Callable[..., Path]
IMAGE = ImageParams(size=mite.SIDE, resize="crop", crop_fraction=1.0, interpolation="bilinear", oversampling=2)


@pytest.fixture
def data(tree: Tree) -> Path:
    return tree({f"{split}/amber/{i}.png": 10 * n + i for n, split in enumerate(SPLITS) for i in range(4)})


def features(data: Path, tmp_path: Path, image: ImageParams = IMAGE, seed: int = 0) -> NDArray[np.float32]:
    backbone = tmp_path / f"{seed}.safetensors"
    card = dataclasses.replace(mite.backbone_card(), sha256=str(seed) * 64)
    tensor_file.write(backbone, mite.encoder(seed), dataclasses.asdict(card))
    table = scan(data, 0.2, 0)[0]
    cache = ImageCache(tmp_path / "cache", None)
    return embedding.of_data(table, data, image, backbone, cache, tmp_path / "embeddings", torch.device("cpu"))


def test_they_are_what_the_backbone_makes_of_each_image_in_the_order_of_the_manifest(
    data: Path, tmp_path: Path
) -> None:
    from PIL import Image

    found = features(data, tmp_path)
    embed, _ = embedding.backbone_features(tmp_path / "0.safetensors", mite.CONTRACT, torch.device("cpu"))
    table = scan(data, 0.2, 0)[0]
    for row, path in enumerate(table["path"]):
        pixels = np.asarray(Image.open(data / path).resize((8, 8), Image.Resampling.BILINEAR, (1, 0, 7, 6)))
        np.testing.assert_allclose(found[row], embed(pixels[np.newaxis])[0], rtol=1e-4, atol=1e-5)


def test_only_new_contents_are_computed(data: Path, tmp_path: Path, embedded: list[int], tree: Tree) -> None:
    first = features(data, tmp_path)
    assert sum(embedded) == 12
    embedded.clear()
    np.testing.assert_array_equal(features(data, tmp_path), first)
    assert embedded == []
    tree({"train/amber/new.png": 99, "train/blue/copy.png": 1, "test/amber/renamed.png": 98})
    more = features(data, tmp_path)
    assert sum(embedded) == 2
    assert more.shape == (15, mite.WIDTH)
    before = dict(zip(scan(data, 0.2, 0)[0]["path"], more, strict=True))
    np.testing.assert_array_equal(before["train/blue/copy.png"], before["train/amber/1.png"])


def test_another_backbone_or_image_contract_has_features_of_its_own(
    data: Path, tmp_path: Path, embedded: list[int]
) -> None:
    first = features(data, tmp_path)
    squashed = features(data, tmp_path, IMAGE.model_copy(update={"resize": "squash"}))
    assert sum(embedded) == 24
    assert not np.allclose(first, squashed)
    assert not np.allclose(first, features(data, tmp_path, seed=1))
    assert sum(embedded) == 36
    np.testing.assert_array_equal(features(data, tmp_path), first)
    assert sum(embedded) == 36


def test_a_damaged_file_is_made_again(
    data: Path, tmp_path: Path, embedded: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    first = features(data, tmp_path)
    (stored,) = (tmp_path / "embeddings").iterdir()
    stored.write_bytes(stored.read_bytes()[:-100])
    np.testing.assert_array_equal(features(data, tmp_path), first)
    assert sum(embedded) == 24
    assert "is damaged" in caplog.text


def test_an_interruption_keeps_what_was_computed(
    data: Path, tmp_path: Path, embedded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_BATCH", 2)
    steps = embedding.progress.steps

    def stopped(items, *arguments):  # type: ignore[no-untyped-def]
        for number, item in enumerate(steps(items, *arguments)):
            if number == 1 and str(arguments[0]).startswith("embedding"):
                raise KeyboardInterrupt
            yield item

    with monkeypatch.context() as context:
        context.setattr(embedding.progress, "steps", stopped)
        with pytest.raises(KeyboardInterrupt):
            features(data, tmp_path)
    assert sum(embedded) == 2
    features(data, tmp_path)
    assert sum(embedded) == 12
