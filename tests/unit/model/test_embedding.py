"""Features of a data set: each image once, whatever asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mite
import numpy as np
import pytest
import small_project
import torch
from numpy.typing import NDArray
from small_project import adaptformer, run_stages

from adaptformer.cli import exit_code
from adaptformer.config.params import ImageParams
from adaptformer.config.run_folder import RunFolder
from adaptformer.data.cache import ImageCache, load_images
from adaptformer.data.layout import SPLITS
from adaptformer.data.manifest import ValidationShare, scan
from adaptformer.model import backbone_file, embedding, inference, tensor_file
from adaptformer.model.embedding import Embedding
from adaptformer.monitoring import expected_accuracy

Tree = Callable[..., Path]
IMAGE = ImageParams(
    size=mite.SIDE, resize="crop", crop_fraction=1.0, interpolation="bilinear", jpeg_min_scale=2, sixteen_bit_max=65535
)


@pytest.fixture
def data(tree: Tree) -> Path:
    return tree({f"{split}/amber/{i}.png": 10 * n + i for n, split in enumerate(SPLITS) for i in range(4)})


def of_backbone(tmp_path: Path, image: ImageParams = IMAGE, seed: int = 0) -> Embedding:
    backbone = tmp_path / f"{seed}.safetensors"
    card = mite.backbone_card(sha256=tensor_file.content_hash(mite.encoder(seed)))
    backbone_file.write(backbone, mite.encoder(seed), card)
    return Embedding(backbone, image, torch.device("cpu"), tmp_path / "embeddings")


def features(data: Path, tmp_path: Path, image: ImageParams = IMAGE, seed: int = 0) -> NDArray[np.float32]:
    found = of_backbone(tmp_path, image, seed)
    return found.of_data(scan(data, ValidationShare(0.2, 0))[0], data, ImageCache(tmp_path / "cache", None))


def test_features_are_the_backbones_for_each_image_in_the_order_of_the_manifest(data: Path, tmp_path: Path) -> None:
    from PIL import Image

    found = features(data, tmp_path)
    embed = embedding.backbone_features(tmp_path / "0.safetensors", mite.CONTRACT, torch.device("cpu"))
    table = scan(data, ValidationShare(0.2, 0))[0]
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
    before = dict(zip(scan(data, ValidationShare(0.2, 0))[0]["path"], more, strict=True))
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


@pytest.mark.parametrize("changed", ["torch.get_num_threads", "torch.backends.cpu.get_cpu_capability"])
def test_what_rounds_differently_has_features_of_its_own(
    data: Path, tmp_path: Path, embedded: list[int], monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    features(data, tmp_path)
    with monkeypatch.context() as context:
        context.setattr(changed, lambda: 99)
        features(data, tmp_path)
    assert sum(embedded) == 24


def test_an_image_has_the_same_features_whatever_comes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, sizes = inference.prepared, []

    def noting(*arguments: Any, **named: Any) -> Iterator[torch.Tensor]:
        for batch in prepared(*arguments, **named):
            sizes.append(len(batch))
            yield batch

    monkeypatch.setattr(inference, "prepared", noting)
    images = mite.coloured(25).images
    embed = embedding.backbone_features(mite.write_backbone(tmp_path / "b"), mite.CONTRACT, torch.device("cpu"))
    whole = embed(images)
    assert len(images) > 2 * embedding.BATCH
    order = np.random.default_rng(0).permutation(len(images))
    np.testing.assert_array_equal(embed(images[order]), whole[order])
    np.testing.assert_array_equal(np.concatenate([embed(images[[row]]) for row in (0, 40)]), whole[[0, 40]])
    assert set(sizes) == {embedding.BATCH}, "matrices of another size may be added up in another order"


def test_images_in_hand_and_those_of_a_data_set_have_their_features_in_common(
    data: Path, tmp_path: Path, embedded: list[int]
) -> None:
    table, cache = scan(data, ValidationShare(0.2, 0))[0], ImageCache(tmp_path / "cache", None)
    some = table.iloc[[7, 2, 5]]
    found = of_backbone(tmp_path)
    first = found.of_images(some["sha256"].tolist(), load_images(some, data, found.contract, cache), "some")
    assert sum(embedded) == 3
    whole = features(data, tmp_path)
    assert sum(embedded) == 12
    np.testing.assert_array_equal(whole[[7, 2, 5]], first)
    found.of_images(table["sha256"].tolist(), load_images(table, data, found.contract, cache), "all")
    assert sum(embedded) == 12


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
    monkeypatch.setattr(embedding, "BATCH", 2)
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


@pytest.mark.usefixtures("blank_pictures", "exported_once")
def test_each_image_is_embedded_once_whatever_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded: list[int]
) -> None:
    monkeypatch.setattr(expected_accuracy, "DRAWS", 20)
    monkeypatch.chdir(small_project.write(tmp_path, runtime__threads=2))
    run_stages("validate", "fetch", "train", "evaluate")
    assert sum(embedded) == 30
    profile = RunFolder().profile
    fresh = profile.read_bytes()
    assert adaptformer("data", "label-errors") == 0
    run_stages("validate", "export")
    torch.set_num_threads(1)  # in a process of its own it would not be 2
    with RunFolder().lock("a run that goes on meanwhile"):
        assert adaptformer("monitor", "data/test", "--label", "2") in {0, exit_code.REFUSED}
    assert sum(embedded) == 30
    # In another order than the profile's, and the profile is the same file.
    for stored in (tmp_path / "artifacts/cache/embeddings").iterdir():
        stored.unlink()
    assert adaptformer("data", "label-errors") == 0
    assert sum(embedded) == 60
    profile.unlink()
    run_stages("evaluate")
    assert sum(embedded) == 60
    assert profile.read_bytes() == fresh
