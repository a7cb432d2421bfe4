"""Size, mode and hash of many image files at once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from adaptformer.data.decoding import DamagedImage, decode_reduced


class ImageFacts(NamedTuple):
    """Facts about a usable image file: size in pixels as displayed, Pillow's mode, bytes, hex sha256."""

    width: int
    height: int
    mode: str
    bytes: int
    sha256: str


def read_facts(path: Path) -> ImageFacts | str:
    """Read and fully decode a file; return its facts, or the reason why it is not a usable image."""
    try:
        content = path.read_bytes()
        decoded = decode_reduced(content, shorter=1)  # size and soundness do not need every pixel
    except DamagedImage as error:
        return str(error)
    except OSError as error:
        return error.strerror or "cannot be read"
    return ImageFacts(decoded.width, decoded.height, decoded.mode, len(content), hashlib.sha256(content).hexdigest())


def content(path: Path, sha256: str) -> bytes | None:
    """Return a file's bytes, or None if it cannot be read or its sha256 differs."""
    try:
        found = path.read_bytes()
    except OSError:
        return None
    return found if hashlib.sha256(found).hexdigest() == sha256 else None


def read_all(paths: Sequence[Path]) -> Iterator[ImageFacts | str]:
    """Yield `read_facts` of each path in order, using one thread per core: Pillow releases the GIL while it decodes."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(read_facts, paths)
