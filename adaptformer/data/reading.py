"""Size, mode and hash of many image files at once, each from one read of the file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from adaptformer.data.decoding import DamagedImage, decode_reduced
from adaptformer.data.workers import in_order


class ImageFacts(NamedTuple):
    """Facts about a usable image file: size in pixels as displayed, Pillow's mode, bytes, hex sha256."""

    width: int
    height: int
    mode: str
    bytes: int
    sha256: str


def read_facts(path: Path, copy: Path | None = None) -> ImageFacts | str:
    """Read and decode a file; return its facts, or the reason why it is not a usable image.

    The bytes of a usable one are written to `copy`, where that is given. Raises OSError when they cannot be.
    """
    try:
        content = path.read_bytes()
        decoded = decode_reduced(content, shorter=1)  # neither the size nor damage needs every pixel of a JPEG
    except DamagedImage as error:
        return str(error)
    except OSError as error:
        return error.strerror or "cannot be read"
    if copy is not None:
        copy.write_bytes(content)
    return ImageFacts(decoded.width, decoded.height, decoded.mode, len(content), hashlib.sha256(content).hexdigest())


def content(path: Path, sha256: str) -> bytes | None:
    """Return a file's bytes, or None if it cannot be read or its sha256 differs."""
    try:
        found = path.read_bytes()
    except OSError:
        return None
    return found if hashlib.sha256(found).hexdigest() == sha256 else None


def read_all(paths: Iterable[Path]) -> Iterator[ImageFacts | str]:
    """Yield `read_facts` of each path, in order."""
    yield from in_order(read_facts, paths)


def copy_all(paths: Iterable[Path], copies: Iterable[Path]) -> Iterator[ImageFacts | str]:
    """Yield `read_facts` of each path, in order, copying usable images to `copies`. Raises OSError as there."""
    yield from in_order(lambda pair: read_facts(*pair), zip(paths, copies, strict=True))
