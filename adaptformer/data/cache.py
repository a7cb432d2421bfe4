"""Prepared images, decoded once: a memory-mapped array in the run folder, named by all that decides its bytes."""

from __future__ import annotations

import inspect
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import PIL

from adaptformer import files
from adaptformer.data import decoding, reading, resizing
from adaptformer.data.contract import ImageContract
from adaptformer.data.decoding import DamagedImage
from adaptformer.errors import UserError

KEPT = 6
"""How many arrays stay in a cache folder: the three splits of two image contracts."""

_IMAGES_AT_ONCE = 256


def load_images(
    manifest_rows: pd.DataFrame, data: Path, contract: ImageContract, cache: Path
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the rows' images as a read-only memory map [N, S, S, 3] uint8 with S = contract.stored_size.

    They are decoded and resized on the first call and read from the folder `cache` afterwards; the caller holds the
    lock of the run folder. Raises UserError when a file is no longer the one that the manifest names.
    """
    shape = (len(manifest_rows), contract.stored_size, contract.stored_size, 3)
    path = cache / f"{_key(manifest_rows, contract)}.npy"
    images = _opened(path, shape)
    if images is None:
        with files.replacing(path) as beside, beside.open("wb") as file:
            _write(file, manifest_rows, data, contract, shape)
        images = _opened(path, shape)
        if images is None:
            raise UserError(
                f"{path} cannot be read after writing it", f"remove {cache}/ and run the same command again"
            )
    os.utime(path)
    _prune(cache)
    return images


def _key(manifest_rows: pd.DataFrame, contract: ImageContract) -> str:
    geometry = [contract.stored_size, contract.resize, contract.interpolation]
    code = [inspect.getsource(module) for module in (decoding, resizing)]
    return files.sha256_text(files.canonical_json([list(manifest_rows["sha256"]), geometry, code, PIL.__version__]))


def _opened(path: Path, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """Return the array at `path`, or None when there is none or a damaged one; np.load checks header against size."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _write(
    file: BinaryIO, manifest_rows: pd.DataFrame, data: Path, contract: ImageContract, shape: tuple[int, ...]
) -> None:
    # Plain writes, not a writable memory map: on a full disk a map kills the process without a message.
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    wanted = list(zip(manifest_rows["path"], manifest_rows["sha256"], strict=True))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(wanted), _IMAGES_AT_ONCE):
            chunk = wanted[start : start + _IMAGES_AT_ONCE]
            for image in pool.map(partial(_prepared, data, contract), chunk):
                file.write(image.tobytes())


def _prepared(data: Path, contract: ImageContract, wanted: tuple[str, str]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    path = data / wanted[0]
    content = reading.content(path, wanted[1])
    if content is None:
        raise UserError(
            f"{data}/ has changed since the manifest was written: {path}", "run `dvc add data`, then the same run again"
        )
    try:
        return resizing.to_square(decoding.decode(content), contract)
    except DamagedImage as error:
        raise UserError(f"{path} cannot be decoded: {error}", "run `adaptformer validate` again") from error


def _prune(cache: Path) -> None:
    """Keep the arrays used last, and nothing that a killed run left: the folder's lock allows no other writer."""
    for leftover in cache.glob(".*.partial.npy"):
        leftover.unlink(missing_ok=True)
    arrays = sorted(cache.glob("*.npy"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for old in arrays[KEPT:]:
        old.unlink(missing_ok=True)
