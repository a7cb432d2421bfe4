"""The file format of the image cache: concatenated images, and a checksum of each that is verified on first access.

The file is a flat array of uint8 in NumPy's format, followed by the images' CRC-32 as uint32. N images, h x w pixels
each.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaptformer.base import files, read_locks
from adaptformer.data.decoding import Pixels
from adaptformer.data.train_images import Photos

log = logging.getLogger("adaptformer")

_CHECKSUM = np.dtype("<u4")


class CheckedPhotos:
    """N images in a memory-mapped file; a damaged one is decoded again and rewritten in place.

    Each image is verified once per process. The file is marked as in use while the map or the process lives.
    """

    def __init__(self, path: Path, shapes: NDArray[np.int64], read: Callable[[int], Pixels]) -> None:
        """Map the file at `path`, of images of these `shapes` [N, 2]; `read` decodes one of them.

        Raises OSError, and ValueError for a file that is not whole or of other shapes.
        """
        header, size = _header(shapes), _size(shapes)
        with path.open("rb") as file:
            # The map has a duplicate of this file's descriptor, so the mark stays when the file is closed.
            read_locks.mark(file)
            if os.fstat(file.fileno()).st_size != len(header) + file_size(shapes) or file.read(len(header)) != header:
                raise ValueError("it is not whole, of other images, or has no checksums")
            pixels = np.memmap(file, np.uint8, "r", len(header), (size,)) if size else np.empty(0, np.uint8)
            file.seek(len(header) + size)
            self._checksums = np.frombuffer(file.read(), _CHECKSUM).copy()
            self._inode = os.fstat(file.fileno()).st_ino
        self._path, self._read = path, read
        self._photos, self._pixels_at = Photos(pixels, shapes), len(header)
        self._sound = np.zeros(len(shapes), bool)
        self._told = False

    @property
    def shapes(self) -> NDArray[np.int64]:
        """Height and width of each image [N, 2]."""
        return self._photos.shapes

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """All pixels as one flat array, in the order of the file."""
        return self._photos.pixels

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> Pixels:
        """Return one image [h, w, 3], without copying unless it is damaged."""
        image = self._photos[index]
        if self._sound[index]:
            return image
        if zlib.crc32(image.data) == self._checksums[index]:
            self._sound[index] = True
            return image
        return self._repaired(range(len(self))[index])

    def take(self, indices: Iterable[int]) -> list[Pixels]:
        """Return several images, in the order of `indices`."""
        return [self[index] for index in indices]

    def _repaired(self, index: int) -> Pixels:
        """Return an image decoded from its file, and write it over the damaged one, to be verified again."""
        if not self._told:
            log.warning("%s is damaged: the images that differ from their checksums are decoded again", self._path)
            self._told = True
        image = np.ascontiguousarray(self._read(index))
        checksum = np.array(zlib.crc32(image.data), _CHECKSUM)
        # Written in place, so that other processes see it too; they verify whatever they read meanwhile. If the file
        # cannot be written, the image is decoded on each access.
        with contextlib.suppress(OSError), self._path.open("rb+") as file:
            if os.fstat(file.fileno()).st_ino == self._inode:
                file.seek(self._pixels_at + self._photos.start(index))
                file.write(image.data)
                file.seek(self._pixels_at + self._photos.pixels.size + index * _CHECKSUM.itemsize)
                file.write(checksum.tobytes())
                self._checksums[index] = checksum
        return image


def write(path: Path, shapes: NDArray[np.int64], images: Iterator[Pixels]) -> None:
    """Write images of these `shapes` [N, 2] as a file that `CheckedPhotos` reads, whole or not at all."""
    checksums = []
    # Plain writes, not a writable memory map: on a full disk, writing to a map kills the process without a message.
    with files.replacing(path) as new_file, new_file.open("wb") as file:
        file.write(_header(shapes))
        for image in images:
            whole = np.ascontiguousarray(image)
            file.write(whole.data)
            checksums.append(zlib.crc32(whole.data))
        file.write(np.array(checksums, _CHECKSUM).tobytes())


def file_size(shapes: NDArray[np.int64]) -> int:
    """Return the size in bytes of a file of images of these `shapes` [N, 2], without NumPy's header."""
    return _size(shapes) + len(shapes) * _CHECKSUM.itemsize


def _size(shapes: NDArray[np.int64]) -> int:
    return int(3 * shapes.prod(axis=1).sum())


def _header(shapes: NDArray[np.int64]) -> bytes:
    file = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": (_size(shapes),)}
    np.lib.format.write_array_header_1_0(file, description)
    return file.getvalue()
