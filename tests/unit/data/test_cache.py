import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adaptformer.data import cache as caching
from adaptformer.data.cache import load_images
from adaptformer.data.contract import ImageContract
from adaptformer.data.decoding import decode
from adaptformer.data.manifest import rows, scan
from adaptformer.data.resizing import to_square
from adaptformer.errors import UserError


@pytest.fixture
def data(tree: Callable[..., Path], sound: dict[str, bytes | int]) -> Path:
    return tree(sound)


@pytest.fixture
def train(data: Path) -> pd.DataFrame:
    return rows(scan(data, 0.2, 0)[0], "train")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_images_are_the_prepared_files_in_order(
    train: pd.DataFrame, data: Path, contract: ImageContract, folder: Path
) -> None:
    images = load_images(train, data, contract, folder)
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable
    expected = [to_square(decode((data / path).read_bytes()), contract) for path in train["path"]]
    np.testing.assert_array_equal(images, np.stack(expected))


def test_the_square_before_the_crop_is_stored(
    train: pd.DataFrame, data: Path, contract: ImageContract, folder: Path
) -> None:
    wide = dataclasses.replace(contract, crop_fraction=0.5)
    assert load_images(train, data, wide, folder).shape == (8, 8, 8, 3)


def test_a_second_call_decodes_nothing(
    train: pd.DataFrame, data: Path, contract: ImageContract, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = np.array(load_images(train, data, contract, folder))
    monkeypatch.setattr(caching, "_prepared", lambda *_: pytest.fail("decoded again"))
    # Mean and std change nothing that is stored.
    other = dataclasses.replace(contract, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    np.testing.assert_array_equal(load_images(train, data, other, folder), first)
    assert len(files_in(folder)) == 1


@pytest.mark.parametrize("change", [{"size": 5}, {"resize": "pad"}, {"interpolation": "bicubic"}, {"oversampling": 2}])
def test_another_geometry_is_another_file(
    train: pd.DataFrame, data: Path, contract: ImageContract, folder: Path, change: dict[str, object]
) -> None:
    load_images(train, data, contract, folder)
    load_images(train, data, dataclasses.replace(contract, **change), folder)
    assert len(files_in(folder)) == 2


def test_other_rows_order_pillow_and_code_are_another_file(
    train: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(rows: pd.DataFrame) -> str:
        return caching._key(rows, [4], caching.resizing)

    keys = {key(train), key(train[::-1]), key(train[:4]), caching._key(train, [4], caching.photos)}
    with monkeypatch.context() as patch:
        patch.setattr(caching.PIL, "__version__", "0.0")
        keys.add(key(train))
    monkeypatch.setattr(caching.inspect, "getsource", lambda module: module.__name__)
    keys.add(key(train))
    assert len(keys) == 6


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"junk", lambda content: b""])
def test_a_damaged_file_is_rewritten(
    train: pd.DataFrame, data: Path, contract: ImageContract, folder: Path, damage: Callable[[bytes], bytes]
) -> None:
    first = np.array(load_images(train, data, contract, folder))
    file = folder / files_in(folder)[0]
    file.write_bytes(damage(file.read_bytes()))
    np.testing.assert_array_equal(load_images(train, data, contract, folder), first)


@pytest.mark.parametrize("now", [b"other bytes", None])
def test_changed_data_is_an_error(
    train: pd.DataFrame, data: Path, contract: ImageContract, folder: Path, now: bytes | None
) -> None:
    file = data / train["path"][3]
    file.unlink()
    if now is not None:
        file.write_bytes(now)
    with pytest.raises(UserError, match=rf"has changed since the manifest was written: .*{train['path'][3]}") as caught:
        load_images(train, data, contract, folder)
    assert "dvc add data" in caught.value.remedy
    assert files_in(folder) == []


def test_an_undecodable_file_names_the_stage(
    train: pd.DataFrame, data: Path, contract: ImageContract, folder: Path
) -> None:
    (data / "train/cat/0.png").write_bytes(b"junk")
    train = train.assign(sha256=hashlib.sha256(b"junk").hexdigest())[:1].assign(path="train/cat/0.png")
    with pytest.raises(UserError, match="cannot be decoded: not an image") as caught:
        load_images(train, data, contract, folder)
    assert "adaptformer validate" in caught.value.remedy


def test_only_the_arrays_used_last_are_kept(
    train: pd.DataFrame, data: Path, contract: ImageContract, folder: Path
) -> None:
    load_images(train, data, contract, folder)
    (first,) = folder.iterdir()
    os.utime(first, (0, 0))
    load_images(train[:1], data, contract, folder)
    (second,) = set(folder.iterdir()) - {first}
    os.utime(second, (1, 1))
    load_images(train, data, contract, folder)  # used again: no longer the oldest
    for size in range(5, 5 + caching.KEPT - 1):
        load_images(train, data, dataclasses.replace(contract, size=size), folder)
    assert len(files_in(folder)) == caching.KEPT
    assert first.exists()
    assert not second.exists()


def test_what_a_killed_run_left_is_removed(
    train: pd.DataFrame, data: Path, contract: ImageContract, folder: Path
) -> None:
    folder.mkdir()
    (folder / ".abc.123.partial.npy").write_bytes(b"x")
    load_images(train, data, contract, folder)
    assert len(files_in(folder)) == 1


def test_a_file_of_another_shape_is_rewritten(
    train: pd.DataFrame, data: Path, contract: ImageContract, folder: Path
) -> None:
    first = np.array(load_images(train, data, contract, folder))
    np.save(folder / files_in(folder)[0], first[1:])
    np.testing.assert_array_equal(load_images(train, data, contract, folder), first)


def test_no_rows_give_no_images(train: pd.DataFrame, data: Path, contract: ImageContract, folder: Path) -> None:
    assert load_images(train[:0], data, contract, folder).shape == (0, 4, 4, 3)
