"""Facts about an image file (size, mode, hash, small picture) from one read, and the file's identity."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from adaptformer.base.names import shown
from adaptformer.data import image_files
from adaptformer.data.decoding import DamagedImage, Pixels, decode_reduced, refuse_size
from adaptformer.data.image_files import Limits

log = logging.getLogger("adaptformer")

MIN_SIDE = 2
"""The smallest accepted width and height of an image, in pixels."""
SIDE = 32
"""Side of the small pictures, in pixels. They are made from at least 2 * SIDE pixels a side, if the file has them."""


class ImageFacts(NamedTuple):
    """Facts about a usable image file: size in pixels as displayed, Pillow's mode, bytes, hex sha256."""

    width: int
    height: int
    mode: str
    bytes: int
    sha256: str

    def require(self, limits: Limits) -> None:
        """Raise DamagedImage if the file exceeds the limits, which may have changed since it was read."""
        if limits.bytes is not None and self.bytes > limits.bytes:
            raise image_files.too_large(self.bytes, limits.bytes)
        refuse_size(self.width, self.height, limits.pixels)


class ScannedImage(NamedTuple):
    """Facts about a usable image, and its small picture [s, s, 3], if that was made."""

    facts: ImageFacts
    picture: Pixels | None


class Identity(NamedTuple):
    """Inode, size and modification time (ns), which identify a file of this machine together with its content."""

    inode: int
    bytes: int
    modified: int


def identity(path: Path) -> Identity:
    """Return the identity of a file. Raises OSError."""
    status = path.stat()
    return Identity(status.st_ino, status.st_size, status.st_mtime_ns)


def small_picture(image: Pixels) -> Pixels:
    """Return the small picture [s, s, 3] of an image [h, w, 3] of any aspect ratio, squashed to a square."""
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=None))


def scan(path: Path, content: bytes, limits: Limits, *, picture: bool) -> ScannedImage:
    """Decode the content of the file `path`; return its facts, and its small picture if `picture` is true.

    Raises DamagedImage if it is not a usable image or has too many pixels.
    """
    # Finding the size and damage of a JPEG does not need every pixel.
    decoded = decode_reduced(content, 2 * SIDE if picture else 1, limits.pixels)
    _log_remarks(path, decoded.remarks)
    facts = ImageFacts(decoded.width, decoded.height, decoded.mode, len(content), hashlib.sha256(content).hexdigest())
    return ScannedImage(facts, small_picture(decoded.pixels) if picture else None)


def content(path: Path, sha256: str) -> bytes | None:
    """Return a file's bytes, or None if it cannot be read or its sha256 differs."""
    try:
        read = image_files.read(path, limit=None)
    except (OSError, DamagedImage):
        return None
    return read if hashlib.sha256(read).hexdigest() == sha256 else None


_logged: set[str] = set()


def _log_remarks(path: Path, remarks: Iterable[str]) -> None:
    """Log Pillow's remarks about a file, each kind once: thousands of photos may have the same oddity."""
    for remark in remarks:
        kind = re.sub(r"\d+", "0", remark)
        if kind not in _logged:
            _logged.add(kind)
            log.warning("%s can be read, but: %s (the first such file; others are not named)", shown(str(path)), remark)
