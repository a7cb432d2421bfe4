"""Squares are kept at the image's own size where that is smaller, and read as if they were stored as squares."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adaptformer.data.cache import ImageCache, load_images
from adaptformer.data.decoding import decode
from adaptformer.data.eval_images import Squares, prepare, stored_shapes
from adaptformer.data.manifest import ValidationShare, rows, scan
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import to_square
from adaptformer.data.train_images import Photos

SHAPES = [(6, 8), (18, 10), (4, 40), (16, 16), (15, 17), (1, 90), (16, 15)]


@pytest.fixture
def sixteen(contract: ImageContract) -> ImageContract:
    return dataclasses.replace(contract, size=16, interpolation="bicubic")


@pytest.fixture
def data(tree: Callable[..., Path]) -> Path:
    draw = np.random.default_rng(0).integers
    content = {}
    for number, shape in enumerate(SHAPES):
        file = io.BytesIO()
        Image.fromarray(draw(0, 256, (*shape, 3), np.uint8)).save(file, "PNG")
        content[f"train/cat/{number}.png"] = file.getvalue()
    return tree({**content, "validation/cat/v.png": 1, "test/cat/t.png": 2})


@pytest.fixture
def train(data: Path) -> pd.DataFrame:
    return rows(scan(data, ValidationShare(0.2, 0))[0], "train")


def test_an_image_is_stored_as_it_is_where_that_takes_fewer_bytes(sixteen: ImageContract) -> None:
    heights, widths = np.array(SHAPES).T
    assert stored_shapes(heights, widths, sixteen).tolist() == [
        [6, 8], [18, 10], [4, 40], [16, 16], [15, 17], [1, 90], [16, 15],
    ]  # fmt: skip
    assert stored_shapes(np.array([300, 16]), np.array([400, 17]), sixteen).tolist() == [[16, 16], [16, 16]]


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
@pytest.mark.parametrize("gigabytes", [None, 0])
def test_what_is_read_are_the_bytes_of_the_square(
    train: pd.DataFrame, data: Path, sixteen: ImageContract, tmp_path: Path, resize: str, gigabytes: float | None
) -> None:
    wanted = dataclasses.replace(sixteen, resize=resize)
    images = load_images(train, data, wanted, ImageCache(tmp_path / "cache", gigabytes))
    expected = np.stack([to_square(decode((data / path).read_bytes()), wanted) for path in train["path"]])
    np.testing.assert_array_equal(images[:], expected)
    for index, square in enumerate(expected):
        np.testing.assert_array_equal(images[index], square)
    assert images.shape == expected.shape
    assert images.shapes.tolist() == [[16, 16]] * len(SHAPES)


def test_small_images_take_their_own_bytes_on_disk(
    train: pd.DataFrame, data: Path, sixteen: ImageContract, tmp_path: Path
) -> None:
    load_images(train, data, dataclasses.replace(sixteen, size=256), ImageCache(tmp_path / "cache", None))
    (file,) = (tmp_path / "cache").glob("*.npy")
    assert file.stat().st_size == 128 + sum(3 * height * width + 4 for height, width in SHAPES)


def test_squares_that_are_stored_are_read_without_copying(sixteen: ImageContract) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    squares = Squares(Photos.of_one_size(pixels), sixteen, 3)
    assert np.shares_memory(squares[1], pixels)
    assert not np.shares_memory(squares[:], pixels)


def test_a_stored_image_of_another_shape_is_decoded_as_it_is(
    sixteen: ImageContract, picture: Callable[..., bytes]
) -> None:
    content = picture(width=9, height=7)
    np.testing.assert_array_equal(prepare(content, (7, 9), sixteen), decode(content))
    np.testing.assert_array_equal(prepare(content, (16, 16), sixteen), to_square(decode(content), sixteen))
