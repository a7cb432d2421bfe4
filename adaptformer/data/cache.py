"""Prepared images, decoded once: memory-mapped arrays in the run folder, named by everything that decides their bytes.

Evaluation reads squares, training photos that keep their aspect ratio. N images, S = contract.stored_size.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import PIL
from numpy.typing import NDArray

from adaptformer import files
from adaptformer.data import decoding, photos, reading, resizing, workers
from adaptformer.data.contract import ImageContract
from adaptformer.data.decoding import DamagedImage, Pixels
from adaptformer.errors import UserError

KEPT = 10
"""How many arrays stay in a cache folder: squares of three splits and of the profile, and photos; for two contracts."""

_Prepare = Callable[[bytes, int], Pixels]
"""From a file's bytes and its row to what is stored."""


def load_images(manifest_rows: pd.DataFrame, data: Path, contract: ImageContract, cache: Path) -> NDArray[np.uint8]:
    """Return the rows' images as a read-only memory map [N, S, S, 3] uint8: the squares that evaluation sees.

    They are decoded and resized on the first call and read from the folder `cache` afterwards; the caller holds the
    lock of the run folder. Raises UserError when a file is no longer the one that the manifest names.
    """
    geometry = [contract.stored_size, contract.resize, contract.interpolation, contract.oversampling]
    path = cache / f"{_key(manifest_rows, geometry, resizing)}.npy"
    shape = (len(manifest_rows), contract.stored_size, contract.stored_size, 3)
    return _load(path, shape, manifest_rows, data, lambda content, _: resizing.square(content, contract))


def load_photos(
    manifest_rows: pd.DataFrame, data: Path, contract: ImageContract, cache: Path, smallest_share: float
) -> photos.Photos:
    """Return the rows' images with their aspect ratio kept, for crops of at least `smallest_share` of the area.

    They are cached as `load_images` does; where all of them are S x S anyway, its array serves both. Raises UserError
    as there.
    """
    heights, widths = (manifest_rows[side].to_numpy(np.int64) for side in ("height", "width"))
    shapes = photos.stored_shapes(heights, widths, contract, smallest_share)
    if (shapes == contract.stored_size).all():
        return photos.Photos.of_one_size(load_images(manifest_rows, data, contract, cache))
    geometry = [shapes.tolist(), contract.interpolation, contract.oversampling]
    path = cache / f"{_key(manifest_rows, geometry, resizing, photos)}.npy"

    def prepare(content: bytes, row: int) -> Pixels:
        height, width = shapes[row]
        return photos.photo(content, (int(height), int(width)), contract)

    pixels = _load(path, (int(3 * shapes.prod(axis=1).sum()),), manifest_rows, data, prepare)
    return photos.Photos(pixels, shapes)


def _key(manifest_rows: pd.DataFrame, geometry: list[Any], *prepared_by: ModuleType) -> str:
    code = [inspect.getsource(module) for module in (decoding, *prepared_by)]
    return files.sha256_text(files.canonical_json([list(manifest_rows["sha256"]), geometry, code, PIL.__version__]))


def _load(
    path: Path, shape: tuple[int, ...], manifest_rows: pd.DataFrame, data: Path, prepare: _Prepare
) -> NDArray[np.uint8]:
    """Return the array at `path`, which is written first where it is missing or damaged."""
    images = _opened(path, shape)
    if images is None:
        with files.replacing(path) as beside, beside.open("wb") as file:
            _write(file, shape, manifest_rows, data, prepare)
        images = _opened(path, shape)
        if images is None:
            raise UserError(
                f"{path} cannot be read after writing it", f"remove {path.parent}/ and run the same command again"
            )
    os.utime(path)
    _prune(path.parent)
    return images


def _opened(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Return the array at `path`, or None when it is missing or damaged; np.load checks the file's size."""
    try:
        images: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _write(file: BinaryIO, shape: tuple[int, ...], manifest_rows: pd.DataFrame, data: Path, prepare: _Prepare) -> None:
    # Plain writes, not a writable memory map: on a full disk a map kills the process without a message.
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    wanted = zip(manifest_rows["path"], manifest_rows["sha256"], range(len(manifest_rows)), strict=True)
    for image in workers.in_order(partial(_prepared, data, prepare), wanted):
        file.write(image.tobytes())


def _prepared(data: Path, prepare: _Prepare, wanted: tuple[str, str, int]) -> Pixels:
    path = data / wanted[0]
    content = reading.content(path, wanted[1])
    if content is None:
        raise UserError(
            f"{data}/ has changed since the manifest was written: {path}", "run `dvc add data`, then the same run again"
        )
    try:
        return prepare(content, wanted[2])
    except DamagedImage as error:
        raise UserError(f"{path} cannot be decoded: {error}", "run `adaptformer validate` again") from error


def _prune(cache: Path) -> None:
    """Remove all but the arrays used last, and what a killed run left: the folder's lock allows no other writer."""
    for leftover in cache.glob(".*.partial.npy"):
        leftover.unlink(missing_ok=True)
    arrays = sorted(cache.glob("*.npy"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for old in arrays[KEPT:]:
        old.unlink(missing_ok=True)
