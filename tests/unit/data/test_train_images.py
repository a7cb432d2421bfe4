from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from adaptformer.data import augmentation, manifest, train_images
from adaptformer.data import cache as caching
from adaptformer.data.cache import ImageCache
from adaptformer.data.decoding import decode
from adaptformer.data.labelled import Crops, DataSet
from adaptformer.data.pixel_file import CheckedPhotos
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.train_images import Photos, StoredImages, StreamedPhotos

CONTRACT = ImageContract(224, "crop", 0.875, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))  # S = 256
RANDOM = {"scale": (0.08, 1.0), "ratio": (0.75, 4 / 3)}


def stored(height: int, width: int, share: float = 0.08, contract: ImageContract = CONTRACT) -> tuple[int, int]:
    ((h, w),) = train_images.stored_shapes(np.array([height]), np.array([width]), contract, share).tolist()
    return h, w


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (512, 512), (256, 256), (90, 40), (1, 1), (300, 900)])
def test_photos_that_are_small_enough_keep_their_pixels(shape: tuple[int, int]) -> None:
    assert stored(*shape) == shape
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    np.testing.assert_array_equal(train_images.to_photo(image, shape, CONTRACT), image)


@pytest.mark.parametrize(
    ("shape", "share", "expected"),
    [
        ((3000, 4000), 0.08, (512, 683)),  # 224 / √0.08 = 792, but at most twice 256
        ((4000, 3000), 0.25, (597, 448)),  # 224 / √0.25
        ((3000, 3000), 0.5, (317, 317)),  # 224 / √0.5 = 316.8
        ((3000, 4000), 1.0, (256, 341)),  # at least 256
    ],
)
def test_large_photos_shrink_to_what_the_smallest_crop_needs(
    shape: tuple[int, int], share: float, expected: tuple[int, int]
) -> None:
    assert stored(*shape, share) == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 100_000), (1, 3)), ((100_000, 2), (6, 2)), ((1000, 9000), (512, 1536)), ((100, 301), (100, 300))],
)
def test_the_ends_of_a_strip_are_cut_off(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    assert stored(*shape) == expected


@pytest.mark.parametrize("lying", [True, False])
def test_a_strip_keeps_its_centre(lying: bool) -> None:
    strip = np.repeat(np.arange(10, dtype=np.uint8)[np.newaxis, :, np.newaxis], 2, axis=0).repeat(3, axis=2)
    kept = train_images.to_photo(strip if lying else strip.swapaxes(0, 1), (2, 6) if lying else (6, 2), CONTRACT)
    assert (kept if lying else kept.swapaxes(0, 1))[..., 0].tolist() == [[2, 3, 4, 5, 6, 7]] * 2


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_shrinking_is_antialiased_by_the_filter_of_the_contract(interpolation: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (600, 700, 3), np.uint8)
    shrunk = train_images.to_photo(image, (300, 350), dataclasses.replace(CONTRACT, interpolation=interpolation))
    expected = Image.fromarray(image).resize((350, 300), Image.Resampling[interpolation.upper()])
    np.testing.assert_array_equal(shrunk, np.array(expected))


@pytest.mark.parametrize("shape", [(600, 800), (601, 799), (803, 605), (601, 2003), (2002, 603)])
def test_a_large_jpeg_is_stored_the_same_within_rounding_at_reduced_scale(shape: tuple[int, int]) -> None:
    y, x = np.mgrid[: shape[0], : shape[1]]
    pixels = np.stack([127 + 120 * np.sin(x / 37 + y / 91), 255 * x / shape[1], 255 * y / shape[0]], axis=2)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=95)
    full = dataclasses.replace(CONTRACT, size=56)  # S = 64, so that the shorter side is 128
    kept = stored(*shape, contract=full)
    found = train_images.photo(file.getvalue(), kept, dataclasses.replace(full, jpeg_min_scale=2))
    reference = train_images.to_photo(decode(file.getvalue()), kept, full)
    assert found.shape == (*kept, 3)
    assert (found != reference).any()
    strip = max(shape) > 3 * min(shape)  # cut at whole pixels of the reduced image: half a stored pixel beside
    assert np.abs(found.astype(int) - reference).max() <= (10 if strip else 4)
    np.testing.assert_array_equal(train_images.photo(file.getvalue(), kept, full), reference)


def test_photos_of_any_shape_come_back_by_index() -> None:
    shapes = np.array([[2, 3], [4, 1], [1, 5]])
    images = [np.random.default_rng(h).integers(0, 256, (h, w, 3), np.uint8) for h, w in shapes]
    together = Photos(np.concatenate([image.ravel() for image in images]), shapes)
    assert len(together) == 3
    for index in (2, 0, 1):
        np.testing.assert_array_equal(together[index], images[index])
        assert np.shares_memory(together[index], together.pixels)


def test_images_of_one_size_are_photos() -> None:
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    together = Photos.of_one_size(images)
    np.testing.assert_array_equal(together[1], images[1])
    assert np.shares_memory(together.pixels, images)


def written(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def mixed(tree: Callable[..., Path]) -> tuple[Path, pd.DataFrame]:
    """A data set whose training images are 6 x 8, 18 x 10, 4 x 40 and 4 x 4 pixels, and its manifest."""
    draw = np.random.default_rng(0).integers
    shapes = [(6, 8), (18, 10), (4, 40), (4, 4)]
    content = {f"train/cat/{i}.png": written(draw(0, 256, (*s, 3), np.uint8)) for i, s in enumerate(shapes)}
    data = tree({**content, "validation/cat/v.png": 1, "test/cat/t.png": 2})
    return data, manifest.scan(data, manifest.ValidationShare(0.2, 0))[0]


def cached(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "cache", None)


def arrays(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache").glob("*.npy"))


def load(
    mixed: tuple[Path, pd.DataFrame], contract: ImageContract, cache: ImageCache, **crops: tuple[float, float]
) -> StoredImages:
    data, table = mixed
    return DataSet(table, ["cat"], data, contract, cache).photos(Crops(**{**RANDOM, **crops}))


def test_training_reads_photos_with_their_aspect_and_evaluation_squares(
    mixed: tuple[Path, pd.DataFrame], contract: ImageContract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load(mixed, contract, cached(tmp_path))
    assert found.shapes.tolist() == [[6, 8], [14, 8], [4, 12], [4, 4]]  # S = 4, and at most 8
    data, table = mixed
    monkeypatch.setattr(caching.image_facts, "content", lambda *_: pytest.fail("decoded again"))
    again = load(mixed, contract, cached(tmp_path))
    for index, path in enumerate(manifest.rows(table, "train")["path"]):
        pixels = np.array(Image.open(data / path))
        height, width = found.shapes[index]
        np.testing.assert_array_equal(found[index], train_images.to_photo(pixels, (height, width), contract))
        np.testing.assert_array_equal(again[index], found[index])
    monkeypatch.undo()
    squares = DataSet(table, ["cat"], data, contract, cached(tmp_path)).split("train")
    assert squares.images.shape == (4, 4, 4, 3)


@pytest.mark.parametrize(
    ("change", "crops"),
    [
        ({"resize": "pad"}, {}),
        ({"resize": "squash"}, {}),
        ({}, {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}),  # nothing to choose from: the centre
    ],
)
def test_without_random_crops_training_reads_the_squares_of_evaluation(
    mixed: tuple[Path, pd.DataFrame],
    contract: ImageContract,
    tmp_path: Path,
    change: dict[str, str],
    crops: dict[str, tuple[float, float]],
) -> None:
    contract = dataclasses.replace(contract, **change)
    data, table = mixed
    found = load(mixed, contract, cached(tmp_path), **crops)
    squares = DataSet(table, ["cat"], data, contract, cached(tmp_path)).split("train").images
    assert len(arrays(tmp_path)) == 1
    for index, square in enumerate(squares):
        np.testing.assert_array_equal(found[index], square)


@pytest.mark.parametrize("crops", [{"scale": (0.5, 1.0)}, {"ratio": (0.75, 1.0)}])
def test_one_random_measure_is_enough_for_photos(
    mixed: tuple[Path, pd.DataFrame], contract: ImageContract, tmp_path: Path, crops: dict[str, tuple[float, float]]
) -> None:
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    assert load(mixed, contract, cached(tmp_path), **{**whole, **crops}).shapes.tolist()[2] == [4, 12]


def test_squares_of_the_stored_size_are_stored_once(
    tree: Callable[..., Path], contract: ImageContract, tmp_path: Path
) -> None:
    square = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    data = tree({"train/cat/0.png": written(square), "validation/cat/v.png": 1, "test/cat/t.png": 2})
    table = manifest.scan(data, manifest.ValidationShare(0.2, 0))[0]
    found = load((data, table), contract, cached(tmp_path))
    DataSet(table, ["cat"], data, contract, cached(tmp_path)).split("train")
    assert len(arrays(tmp_path)) == 1
    np.testing.assert_array_equal(found[0], square)


def test_another_smallest_share_is_another_file_where_it_changes_what_is_stored(
    mixed: tuple[Path, pd.DataFrame], contract: ImageContract, tmp_path: Path
) -> None:
    for share in (0.08, 0.1, 0.5):  # 0.08 and 0.1 both store twice S
        load(mixed, contract, cached(tmp_path), scale=(share, 1.0))
    assert len(arrays(tmp_path)) == 2


def test_another_interpolation_is_another_file(
    mixed: tuple[Path, pd.DataFrame], contract: ImageContract, tmp_path: Path
) -> None:
    for interpolation in ("bilinear", "bicubic"):
        load(mixed, dataclasses.replace(contract, interpolation=interpolation), cached(tmp_path))
    assert len(arrays(tmp_path)) == 2


def test_a_damaged_file_is_rewritten(mixed: tuple[Path, pd.DataFrame], contract: ImageContract, tmp_path: Path) -> None:
    first = [np.array(image) for image in load(mixed, contract, cached(tmp_path)).take(range(4))]
    (file,) = arrays(tmp_path)
    file.write_bytes(file.read_bytes()[:-1])
    for image, again in zip(first, load(mixed, contract, cached(tmp_path)).take(range(4)), strict=True):
        np.testing.assert_array_equal(again, image)


@pytest.mark.parametrize("crops", [{}, {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}])
def test_batches_of_a_set_that_is_too_large_for_the_cache_are_the_same(
    mixed: tuple[Path, pd.DataFrame], contract: ImageContract, tmp_path: Path, crops: dict[str, tuple[float, float]]
) -> None:
    mapped = load(mixed, contract, cached(tmp_path), **crops)
    streamed = load(mixed, contract, ImageCache(tmp_path / "no room", 0), **crops)
    if not crops:
        assert isinstance(mapped, CheckedPhotos)
        assert isinstance(streamed, StreamedPhotos)
    order = [2, 0, 3, 1, 2]
    batches = []
    for kept in (mapped, streamed):
        assert len(kept) == 4
        boxes = augmentation.random_boxes(kept.shapes[order], (0.3, 1.0), (0.75, 4 / 3), True, 7)
        batches.append(augmentation.crop(kept.take(order), boxes, contract.size, contract.interpolation))
        np.testing.assert_array_equal(kept[1], mapped[1])
    assert batches[0].numpy().tobytes() == batches[1].numpy().tobytes()
    assert not list((tmp_path / "no room").glob("*.npy"))


@pytest.mark.parametrize(("random", "files"), [(True, 2), (False, 1)])
def test_training_decodes_squares_of_the_judged_images_only(
    mixed: tuple[Path, pd.DataFrame], contract: ImageContract, tmp_path: Path, random: bool, files: int
) -> None:
    data, table = mixed
    crops = RANDOM if random else {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    judged = np.array([1, 3])
    train, kept = DataSet(table, ["cat"], data, contract, cached(tmp_path)).training(Crops(**crops), judged)
    assert train.labels.tolist() == [0] * 4
    assert len(train.sha256) == len(kept) == 4
    assert len(arrays(tmp_path)) == files  # where crops are taken from squares, there is nothing to be stored beside
    every = DataSet(table, ["cat"], data, contract, cached(tmp_path)).split("train").images
    np.testing.assert_array_equal(train.images[judged], every[judged])
    if random:
        with pytest.raises(IndexError):
            train.images[0]
        assert kept.shapes.tolist() == load(mixed, contract, cached(tmp_path)).shapes.tolist()


def test_a_small_crop_is_as_sharp_as_the_photo(tree: Callable[..., Path], tmp_path: Path) -> None:
    # Fields of 2 pixels: evaluation's square, in which 500 pixels are 256, has nearly one grey.
    board = np.kron(np.indices((250, 334)).sum(axis=0) % 2, np.ones((2, 2)))[..., np.newaxis].repeat(3, axis=2) * 255
    data = tree({"train/cat/0.png": written(board.astype(np.uint8)), "validation/cat/v.png": 1, "test/cat/t.png": 2})
    table = manifest.scan(data, manifest.ValidationShare(0.2, 0))[0]
    photo = load((data, table), CONTRACT, cached(tmp_path))[0]
    square = DataSet(table, ["cat"], data, CONTRACT, cached(tmp_path)).split("train").images[0]
    side = round((0.08 * photo.shape[0] * photo.shape[1]) ** 0.5)
    cropped = augmentation.crop([photo], torch.tensor([[100, 150, side, side, 0]]), 224, "bicubic").float()
    assert photo.shape == (500, 668, 3)
    assert cropped.std() > 2.5 * square.std()
