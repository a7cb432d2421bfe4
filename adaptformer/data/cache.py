"""Cache of prepared images, decoded once for all runs.

The images are memory-mapped arrays, named by a hash of everything that determines their bytes. Evaluation reads
squares; training reads photos that keep their aspect ratio. If the cache has no room for a set of images, they are
decoded each time, to the same pixels. N images, S = contract.stored_size.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import PIL
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from adaptformer.base import files, progress, read_locks, source_code
from adaptformer.base.errors import UserError
from adaptformer.data import decoding, eval_images, image_facts, pixel_file, resizing, thread_map, train_images
from adaptformer.data.decoding import DamagedImage, Pixels
from adaptformer.data.eval_images import Squares
from adaptformer.data.pixel_file import CheckedPhotos
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.train_images import StoredImages, StreamedPhotos

log = logging.getLogger("adaptformer")

_Prepare = Callable[[bytes, tuple[int, int]], Pixels]
"""Function from a file's bytes and the stored shape (h, w) to the stored image."""


@dataclass(frozen=True)
class ImageCache:
    """The folder of prepared images that all runs share.

    Its arrays take at most `gigabytes` (10^9 bytes); None means no limit. One process at a time writes or removes
    arrays. A second process that needs to write waits, and then uses the array that the first one wrote. Reading takes
    no lock, because an array appears whole or not at all.
    """

    folder: Path
    gigabytes: float | None

    def load(self, key: str, shapes: NDArray[np.int64], read: Callable[[int], Pixels]) -> StoredImages:
        """Return the images that `read` makes, of these `shapes` [N, 2], from the array named `key`.

        The array is written first if it is missing or not whole. If there is no room for it, `read` is called for each
        access.
        """
        path = self.folder / f"{key}.npy"
        stored = _opened(path, shapes, read)
        if stored is None:
            with self._writing():
                stored = _opened(path, shapes, read)  # another run may have written it while this one waited
                if stored is None:
                    if not self._has_room(pixel_file.file_size(shapes)):
                        log.info(
                            "%d images do not fit in runtime.image_cache_gb: they are decoded each time", len(shapes)
                        )
                        return StreamedPhotos(shapes, read)
                    decoded = thread_map.in_order(read, range(len(shapes)))
                    pixel_file.write(path, shapes, progress.steps(decoded, "decoding", len(shapes), "images"))
                    stored = _opened(path, shapes, read)
        if stored is None:
            raise UserError(
                f"{path} cannot be read after it was written",
                "check whether another program changes it or its disk fails, then run the same command again",
            )
        with contextlib.suppress(OSError):  # removed meanwhile, or owned by another user: the map stays readable
            os.utime(path)
        return stored

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the folder's lock and remove the leftovers of killed runs. The lock is released if the process dies."""
        lock = FileLock(self.folder / ".lock", mode=0o644)
        with files.refusals(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                held = lock.acquire(timeout=0)
            except Timeout:
                log.info("waiting for another run that writes to %s/", self.folder)
                held = lock.acquire()
        with held:
            for leftover in self.folder.glob(".*.partial.npy"):
                leftover.unlink(missing_ok=True)
            yield

    def _has_room(self, size: int) -> bool:
        """Return whether an array of `size` bytes fits; remove the least recently used arrays if that makes room."""
        if self.gigabytes is None:
            return True
        sizes = {path: path.stat().st_size for path in self.folder.glob("*.npy")}
        idle = sorted((path for path in sizes if not read_locks.marked(path)), key=lambda path: path.stat().st_mtime_ns)
        excess = sum(sizes.values()) + size - self.gigabytes * 1e9
        if excess > sum(sizes[path] for path in idle):
            return False
        for path in idle:
            if excess <= 0:
                break
            if read_locks.remove(path):
                excess -= sizes[path]
        return excess <= 0


def load_images(
    manifest_rows: pd.DataFrame,
    data: Path,
    contract: ImageContract,
    cache: ImageCache | None,
    only: NDArray[np.int64] | None = None,
) -> Squares:
    """Return the rows' images as evaluation sees them, before the centre crop.

    `only` are the sorted indices of the rows to load; None loads all. The images are decoded and resized on the first
    call and read from the cache afterwards; without a cache they are decoded each time. Raises UserError if a file has
    changed since the manifest was written.
    """
    loaded = manifest_rows if only is None else manifest_rows.iloc[only]
    shapes = eval_images.stored_shapes(*_sizes(loaded), contract)
    read = _reader(loaded, data, shapes, partial(eval_images.prepare, contract=contract))
    if cache is None:
        return Squares(StreamedPhotos(shapes, read), contract, len(manifest_rows), only)
    geometry: list[Any] = [shapes.tolist(), contract.stored_size, contract.resize, contract.interpolation]
    geometry += [contract.jpeg_min_scale, contract.sixteen_bit_max]
    stored = cache.load(_key(loaded, geometry, resizing, eval_images), shapes, read)
    return Squares(stored, contract, len(manifest_rows), only)


def load_photos(
    manifest_rows: pd.DataFrame, data: Path, contract: ImageContract, cache: ImageCache, smallest_share: float
) -> StoredImages:
    """Return the rows' images with their aspect ratio kept, for crops of at least `smallest_share` of the area.

    They are cached as in `load_images`; if all of them are S x S, both functions share one array. Raises UserError as
    `load_images` does.
    """
    shapes = train_images.stored_shapes(*_sizes(manifest_rows), contract, smallest_share)
    if (shapes == contract.stored_size).all():
        return load_images(manifest_rows, data, contract, cache)
    geometry = [shapes.tolist(), contract.interpolation, contract.jpeg_min_scale, contract.sixteen_bit_max]
    key = _key(manifest_rows, geometry, resizing, train_images)
    return cache.load(key, shapes, _reader(manifest_rows, data, shapes, partial(train_images.photo, contract=contract)))


def _sizes(manifest_rows: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return heights and widths [N] of the files' images."""
    return manifest_rows["height"].to_numpy(np.int64), manifest_rows["width"].to_numpy(np.int64)


def _key(manifest_rows: pd.DataFrame, geometry: list[Any], *prepared_by: ModuleType) -> str:
    code = [source_code.of(module) for module in (decoding, *prepared_by)]
    return files.sha256_text(files.canonical_json([list(manifest_rows["sha256"]), geometry, code, PIL.__version__]))


def _reader(
    manifest_rows: pd.DataFrame, data: Path, shapes: NDArray[np.int64], prepare: _Prepare
) -> Callable[[int], Pixels]:
    """Return a function from a row's number to its stored image; it raises UserError for a changed file."""
    paths, hashes = list(manifest_rows["path"]), list(manifest_rows["sha256"])

    def read(row: int) -> Pixels:
        path = data / paths[row]
        content = image_facts.content(path, hashes[row])
        if content is None:
            raise UserError(
                f"{data}/ has changed since the manifest was written: {path}",
                "run `dvc add data`, then the same run again",
            )
        height, width = shapes[row].tolist()
        try:
            return prepare(content, (height, width))
        except DamagedImage as error:
            raise UserError(f"{path} cannot be decoded: {error}", "run `adaptformer validate` again") from error

    return read


def _opened(path: Path, shapes: NDArray[np.int64], read: Callable[[int], Pixels]) -> CheckedPhotos | None:
    """Return the images in the file at `path`, or None if it is missing or unusable."""
    try:
        return CheckedPhotos(path, shapes, read)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s cannot be used (%s): its images are decoded again", path, error)
        return None
