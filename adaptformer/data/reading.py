"""Size, mode and hash of many image files at once, each from one read of the file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from adaptformer.data.decoding import DamagedImage, Pixels, decode_reduced
from adaptformer.data.workers import in_order


class ImageFacts(NamedTuple):
    """Facts about a usable image file: size in pixels as displayed, Pillow's mode, bytes, hex sha256."""

    width: int
    height: int
    mode: str
    bytes: int
    sha256: str


LOOK_SIDE = 32
"""Whoever looks at an image gets at least twice as many pixels a side, if the file has them."""


def read_facts(path: Path, copy: Path | None = None, look: Callable[[Pixels], None] | None = None) -> ImageFacts | str:
    """Read and decode a file; return its facts, or the reason why it is not a usable image.

    The bytes of a usable one are written to `copy`, and `look` is called with its pixels, where those are given. Raises
    OSError when the bytes cannot be written.
    """
    try:
        content = path.read_bytes()
        # Neither the size nor damage needs every pixel of a JPEG.
        decoded = decode_reduced(content, shorter=1 if look is None else 2 * LOOK_SIDE)
    except DamagedImage as error:
        return str(error)
    except OSError as error:
        return error.strerror or "cannot be read"
    if copy is not None:
        copy.write_bytes(content)
    if look is not None:
        look(decoded.pixels)
    return ImageFacts(decoded.width, decoded.height, decoded.mode, len(content), hashlib.sha256(content).hexdigest())


def content(path: Path, sha256: str) -> bytes | None:
    """Return a file's bytes, or None if it cannot be read or its sha256 differs."""
    try:
        found = path.read_bytes()
    except OSError:
        return None
    return found if hashlib.sha256(found).hexdigest() == sha256 else None


def read_all(paths: Sequence[Path], look: Callable[[int, Pixels], None] | None = None) -> Iterator[ImageFacts | str]:
    """Yield `read_facts` of each path, in order; `look` gets the number of each usable image and its pixels."""

    def read(index: int) -> ImageFacts | str:
        return read_facts(paths[index], look=None if look is None else partial(look, index))

    yield from in_order(read, range(len(paths)))


def copy_all(paths: Iterable[Path], copies: Iterable[Path]) -> Iterator[ImageFacts | str]:
    """Yield `read_facts` of each path, in order, copying usable images to `copies`. Raises OSError as there."""
    yield from in_order(lambda pair: read_facts(*pair), zip(paths, copies, strict=True))
