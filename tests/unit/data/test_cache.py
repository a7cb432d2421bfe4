import dataclasses
import gc
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adaptformer.base.errors import UserError
from adaptformer.data import cache as caching
from adaptformer.data.cache import ImageCache, load_images
from adaptformer.data.decoding import decode
from adaptformer.data.manifest import ValidationShare, rows, scan
from adaptformer.data.pixel_file import CheckedPhotos
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import to_square
from adaptformer.data.train_images import StreamedPhotos


@pytest.fixture
def data(tree: Callable[..., Path], sound: dict[str, bytes | int]) -> Path:
    return tree(sound)


@pytest.fixture
def train(data: Path) -> pd.DataFrame:
    return rows(scan(data, ValidationShare(0.2, 0))[0], "train")


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "cache", None)


def files_in(cache: ImageCache) -> list[Path]:
    return sorted(path for path in cache.folder.iterdir() if path.name != ".lock")


def nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.image_facts, "content", lambda *_: pytest.fail("decoded again"))


def test_images_are_the_prepared_files_in_order(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache
) -> None:
    images = load_images(train, data, contract, cache)
    expected = np.stack([to_square(decode((data / path).read_bytes()), contract) for path in train["path"]])
    assert images.shape == expected.shape
    np.testing.assert_array_equal(images[:], expected)
    np.testing.assert_array_equal(images[np.array([5, 0, 5])], expected[[5, 0, 5]])
    np.testing.assert_array_equal(images[2:4], expected[2:4])
    np.testing.assert_array_equal(images[3], expected[3])


def test_the_array_is_mapped_and_cannot_be_written_to(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache
) -> None:
    stored = load_images(train, data, contract, cache).stored
    assert isinstance(stored, CheckedPhotos)
    assert isinstance(stored.pixels, np.memmap)
    assert not stored.pixels.flags.writeable


def test_the_square_before_the_crop_is_stored(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache
) -> None:
    wide = dataclasses.replace(contract, crop_fraction=0.5)
    assert load_images(train, data, wide, cache)[:].shape == (8, 8, 8, 3)


def test_a_second_call_decodes_nothing(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_images(train, data, contract, cache)[:]
    nothing_is_decoded(monkeypatch)
    # Mean and std change nothing that is stored.
    other = dataclasses.replace(contract, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    np.testing.assert_array_equal(load_images(train, data, other, cache)[:], first)
    assert len(files_in(cache)) == 1


@pytest.mark.parametrize(
    "change", [{"size": 5}, {"resize": "pad"}, {"interpolation": "bicubic"}, {"jpeg_min_scale": 2}]
)
def test_another_geometry_is_another_file(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache, change: dict[str, object]
) -> None:
    load_images(train, data, contract, cache)
    load_images(train, data, dataclasses.replace(contract, **change), cache)
    assert len(files_in(cache)) == 2


def test_other_rows_order_pillow_and_code_are_another_file(
    train: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(rows: pd.DataFrame) -> str:
        return caching._key(rows, [4], caching.resizing)

    keys = {key(train), key(train[::-1]), key(train[:4]), caching._key(train, [4], caching.train_images)}
    with monkeypatch.context() as patch:
        patch.setattr(caching.PIL, "__version__", "0.0")
        keys.add(key(train))
    monkeypatch.setattr(caching.source_code, "of", lambda module: module.__name__)
    keys.add(key(train))
    assert len(keys) == 6


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"junk", lambda content: b""])
def test_a_damaged_file_is_rewritten(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache, damage: Callable[[bytes], bytes]
) -> None:
    first = load_images(train, data, contract, cache)[:]
    (file,) = files_in(cache)
    file.write_bytes(damage(file.read_bytes()))
    np.testing.assert_array_equal(load_images(train, data, contract, cache)[:], first)


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_images_stay_the_same_whatever_bit_of_their_file_is_flipped(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache, caplog: pytest.LogCaptureFixture
) -> None:
    images = load_images(train, data, contract, cache)[:]
    (file,) = files_in(cache)
    whole = file.read_bytes()
    for bit in np.random.default_rng(0).choice(8 * len(whole), 60, replace=False).tolist():
        flip(file, bit)
        caplog.clear()
        np.testing.assert_array_equal(load_images(train, data, contract, cache)[:], images)
        assert "decoded again" in caplog.text
        assert file.read_bytes() == whole, "the file is mended"


def test_a_damaged_image_alone_is_decoded_again_and_told_once(
    train: pd.DataFrame,
    data: Path,
    contract: ImageContract,
    cache: ImageCache,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = load_images(train, data, contract, cache)[:]
    (file,) = files_in(cache)
    for image in (2, 5):
        flip(file, 8 * (128 + image * 48 + 7))
    content, read = caching.image_facts.content, []
    monkeypatch.setattr(
        caching.image_facts, "content", lambda path, sha256: (read.append(path), content(path, sha256))[1]
    )
    images = load_images(train, data, contract, cache)
    np.testing.assert_array_equal(images[np.array([0, 1])], expected[:2])
    assert (read, caplog.messages) == ([], [])
    for _ in range(2):
        np.testing.assert_array_equal(images[:], expected)
    assert read == [data / train["path"][image] for image in (2, 5)]
    assert len(caplog.messages) == 1


def test_a_damaged_image_serves_no_one_even_if_its_file_cannot_be_mended(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_images(train, data, contract, cache)[:]
    (file,) = files_in(cache)
    flip(file, 8 * 200)
    images = load_images(train, data, contract, cache)
    opened = Path.open

    def read_only(path: Path, mode: str = "r", *more: object) -> object:
        if "+" in mode:
            raise PermissionError(13, "Permission denied")
        return opened(path, mode, *more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", read_only)
    for _ in range(2):
        np.testing.assert_array_equal(images[:], expected)


def test_a_damaged_image_whose_file_has_changed_is_an_error(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache
) -> None:
    load_images(train, data, contract, cache)
    (file,) = files_in(cache)
    flip(file, 8 * 130)
    (data / train["path"][0]).write_bytes(b"other")
    with pytest.raises(UserError, match="has changed since the manifest was written"):
        load_images(train, data, contract, cache)[:]


def test_a_file_of_another_shape_is_rewritten(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache
) -> None:
    first = load_images(train, data, contract, cache)[:]
    (file,) = files_in(cache)
    for wrong in (first.ravel()[48:], first, first.ravel().astype(np.int8)):
        np.save(file, wrong)
        np.testing.assert_array_equal(load_images(train, data, contract, cache)[:], first)


@pytest.mark.parametrize("now", [b"other bytes", None])
def test_changed_data_is_an_error(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache, now: bytes | None
) -> None:
    file = data / train["path"][3]
    file.unlink()
    if now is not None:
        file.write_bytes(now)
    with pytest.raises(UserError, match=rf"has changed since the manifest was written: .*{train['path'][3]}") as caught:
        load_images(train, data, contract, cache)
    assert "dvc add data" in caught.value.remedy
    assert files_in(cache) == []


def test_an_undecodable_file_names_the_stage(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache
) -> None:
    (data / "train/cat/0.png").write_bytes(b"junk")
    train = train.assign(sha256=hashlib.sha256(b"junk").hexdigest())[:1].assign(path="train/cat/0.png")
    with pytest.raises(UserError, match="cannot be decoded: not an image") as caught:
        load_images(train, data, contract, cache)
    assert "adaptformer validate" in caught.value.remedy


def test_what_a_killed_run_left_is_removed(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache
) -> None:
    cache.folder.mkdir()
    (cache.folder / ".abc.123.partial.npy").write_bytes(b"x")
    load_images(train, data, contract, cache)
    assert len(files_in(cache)) == 1


def test_no_rows_give_no_images(train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache) -> None:
    images = load_images(train[:0], data, contract, cache)
    assert images.shape == images[:].shape == (0, 4, 4, 3)


def test_a_folder_that_cannot_be_written_is_named(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache
) -> None:
    cache.folder.write_text("a file")
    with pytest.raises(UserError, match=f"cannot write {cache.folder}"):
        load_images(train, data, contract, cache)


def test_only_the_rows_that_are_asked_for_are_decoded(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache
) -> None:
    every = load_images(train, data, contract, cache)[:]
    few = load_images(train, data, contract, cache, np.array([1, 4, 6]))
    assert len(few) == len(train)
    assert few.stored.shapes.shape == (3, 2)
    np.testing.assert_array_equal(few[np.array([6, 1])], every[[6, 1]])
    for other in (0, 7):
        with pytest.raises(IndexError, match="only some"):
            few[other]
    with pytest.raises(IndexError, match="only some"):
        load_images(train, data, contract, cache, np.array([], np.int64))[0]


# What has room.

PIXELS = 8 * 4 * 4 * 3
CHECKED = PIXELS + 8 * 4
ARRAY = 128 + CHECKED
"""Bytes of the file of `train`: numpy's header, 8 squares of 4 x 4 pixels, and a checksum of each."""


def bounded(cache: ImageCache, size: int) -> ImageCache:
    return dataclasses.replace(cache, gigabytes=size / 1e9)


def ages(cache: ImageCache, *sizes: int) -> list[Path]:
    """Write idle arrays of so many bytes, the first of which was used least recently."""
    cache.folder.mkdir(exist_ok=True)
    paths = [cache.folder / f"{number}.npy" for number in range(len(sizes))]
    for age, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        path.write_bytes(b"x" * size)
        os.utime(path, (age, age))
    return paths


def test_arrays_that_were_used_least_recently_make_room(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache
) -> None:
    old, middle, new = ages(cache, 100, 100, 100)
    load_images(train, data, contract, bounded(cache, 200 + CHECKED))
    assert not old.exists()
    assert middle.exists()
    assert new.exists()
    assert len(files_in(cache)) == 3


def test_using_an_array_makes_it_young(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache
) -> None:
    load_images(train, data, contract, cache)
    (used,) = files_in(cache)
    (other,) = ages(cache, 300)
    os.utime(used, (0, 0))
    os.utime(other, (1, 1))
    load_images(train, data, contract, cache)
    load_images(train[:4], data, contract, bounded(cache, ARRAY + 320))
    assert used.exists()
    assert not other.exists()


def test_an_array_that_is_in_use_stays(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache
) -> None:
    small = bounded(cache, ARRAY + 100)
    images = load_images(train, data, contract, small)
    first = images[:]
    (used,) = files_in(cache)
    os.utime(used, (0, 0))
    second = load_images(train[::-1], data, contract, small)
    assert isinstance(second.stored, StreamedPhotos)  # there is room for one only
    assert files_in(cache) == [used]
    np.testing.assert_array_equal(images[:], first)
    del images
    gc.collect()
    assert isinstance(load_images(train[::-1], data, contract, small).stored, CheckedPhotos)
    assert not used.exists()


def test_an_array_that_the_system_does_not_remove_keeps_its_room(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = ages(cache, 100)
    monkeypatch.setattr(caching.read_locks, "remove", lambda path: False)  # Windows, while another process reads it
    images = load_images(train, data, contract, bounded(cache, 50 + CHECKED))
    assert isinstance(images.stored, StreamedPhotos)
    assert files_in(cache) == [kept]


@pytest.mark.parametrize("gigabytes", [0, 1e-7])
def test_what_never_fits_is_decoded_each_time_and_removes_nothing(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache, gigabytes: float
) -> None:
    expected = load_images(train, data, contract, cache)[:]
    (kept,) = files_in(cache)
    (other,) = ages(cache, 10)
    streamed = load_images(train[::-1], data, contract, dataclasses.replace(cache, gigabytes=gigabytes))
    np.testing.assert_array_equal(streamed[:], expected[::-1])
    assert files_in(cache) == sorted([kept, other])


def test_streamed_images_that_change_are_an_error(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache
) -> None:
    streamed = load_images(train, data, contract, bounded(cache, 0))
    (data / train["path"][2]).write_bytes(b"other")
    with pytest.raises(UserError, match="has changed since"):
        streamed[:]


# Several runs at once.

FILL = """
import sys
from pathlib import Path
from adaptformer.data import cache, manifest
from adaptformer.data.preprocessing import ImageContract

data, folder = map(Path, sys.argv[1:])
read = cache.image_facts.content
def counted(path, sha256):
    print(path.name, flush=True)
    if sys.stdin.read(1) != "g":  # one image for each letter
        sys.exit(1)
    return read(path, sha256)
cache.image_facts.content = counted
cache.thread_map.cores = lambda: 1
table = manifest.rows(manifest.scan(data, manifest.ValidationShare(0.2, 0))[0], "train")
print("ready", flush=True)
contract = ImageContract(4, "crop", 1.0, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
images = cache.load_images(table, data, contract, cache.ImageCache(folder, None))
print("done", int(images[:].sum()), flush=True)
"""


def filling(data: Path, cache: ImageCache) -> subprocess.Popen[str]:
    """Start a process that fills the cache, and goes on by one image for each "g" that it is sent."""
    command = [sys.executable, "-c", FILL, str(data), str(cache.folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_runs_that_need_the_same_array_decode_it_once(
    train: pd.DataFrame,
    data: Path,
    contract: ImageContract,
    cache: ImageCache,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = filling(data, cache)
    assert other.stdin
    assert other.stdout
    other.stdout.readline()  # it is about to decode the first image, so it holds the lock
    (partial,) = files_in(cache)  # under a name that no reader looks for
    assert partial.name.startswith(".")
    acquire = caching.FileLock.acquire

    def released(lock: caching.FileLock, timeout: float | None = None) -> object:
        if timeout is None:  # this run waits now: the other may go on
            other.stdin.write(len(train) * "g")
            other.stdin.flush()
        return acquire(lock, timeout)

    monkeypatch.setattr(caching.FileLock, "acquire", released)
    nothing_is_decoded(monkeypatch)
    with caplog.at_level("INFO", "adaptformer"):
        images = load_images(train, data, contract, cache)[:]
    assert "waiting for another run" in caplog.text
    told = other.stdout.read().split("\n")[-2]
    assert told == f"done {images.sum()}"
    assert other.wait() == 0


def test_a_run_that_is_killed_while_writing_leaves_no_array_and_no_lock(
    train: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache
) -> None:
    other = filling(data, cache)
    assert other.stdout
    other.stdout.readline()
    other.kill()
    other.wait()
    images = load_images(train, data, contract, cache)
    assert len(files_in(cache)) == 1
    assert images[:].any()
