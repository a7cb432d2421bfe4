"""Facts about image files (size, mode, hash, small picture), many files at once, each file read once."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from adaptformer.base.names import shown
from adaptformer.data import image_files
from adaptformer.data.decoding import DamagedImage, Pixels, decode_reduced, refuse_size
from adaptformer.data.image_files import USUAL, Limits
from adaptformer.data.workers import in_order

if TYPE_CHECKING:
    from adaptformer.data.known_facts import KnownFacts


log = logging.getLogger("adaptformer")

MIN_SIDE = 2
"""The smallest accepted width and height of an image, in pixels."""


class ImageFacts(NamedTuple):
    """Facts about a usable image file: size in pixels as displayed, Pillow's mode, bytes, hex sha256."""

    width: int
    height: int
    mode: str
    bytes: int
    sha256: str


class Identity(NamedTuple):
    """Inode, size and modification time (ns), which identify a file of this machine together with its content."""

    inode: int
    bytes: int
    modified: int


def identity(path: Path) -> Identity:
    """Return the identity of a file. Raises OSError."""
    found = path.stat()
    return Identity(found.st_ino, found.st_size, found.st_mtime_ns)


SIDE = 32
"""Side of the small pictures, in pixels. They are made from at least 2 * SIDE pixels a side, if the file has them."""


def small_picture(image: Pixels) -> Pixels:
    """Return the small picture [s, s, 3] of an image [h, w, 3] of any aspect ratio, squashed to a square."""
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=None))


def read_facts(
    path: Path,
    copy: Path | None = None,
    look: Callable[[Pixels], None] | None = None,
    known: KnownFacts | None = None,
    limits: Limits = USUAL,
) -> ImageFacts | str:
    """Read and decode a file; return its facts, or the reason why it is not a usable image or exceeds the `limits`.

    If the image is usable, its bytes are written to `copy`, if given, and `look`, if given, is called with its small
    picture. A `known` file is not read, unless it is copied. The facts are added to `known`: of the copy if there is
    one, else of the file. Raises OSError if the copy cannot be written.
    """
    try:
        file = identity(path)
        if known and copy is None and (before := known.of(file, picture=look is not None)):
            _refuse(before.facts, limits)
            if look is not None and before.picture is not None:
                look(before.picture)
            return before.facts
        content = image_files.read(path, limits.bytes)
        # Finding the size and damage of a JPEG does not need every pixel.
        decoded = decode_reduced(content, 1 if look is None and copy is None else 2 * SIDE, limits.pixels)
    except DamagedImage as error:
        return str(error)
    except OSError as error:
        return error.strerror or "cannot be read"
    _tell(path, decoded.remarks)
    facts = ImageFacts(decoded.width, decoded.height, decoded.mode, len(content), hashlib.sha256(content).hexdigest())
    picture = None if look is None and copy is None else small_picture(decoded.pixels)
    if copy is not None:
        copy.write_bytes(content)
    if look is not None and picture is not None:
        look(picture)
    if known and copy is not None:
        known.remember_own(identity(copy), facts, picture)
    elif known:
        known.remember(file, facts, picture)
    return facts


_told: set[str] = set()


def _tell(path: Path, remarks: Iterable[str]) -> None:
    """Log Pillow's remarks about a file, each kind once: thousands of photos may have the same oddity."""
    for remark in remarks:
        kind = re.sub(r"\d+", "0", remark)
        if kind not in _told:
            _told.add(kind)
            log.warning("%s can be read, but: %s (the first such file; others are not named)", shown(str(path)), remark)


def _refuse(facts: ImageFacts, limits: Limits) -> None:
    """Raise DamagedImage for a known file above the limits, which may have changed since it was read."""
    if limits.bytes is not None and facts.bytes > limits.bytes:
        raise image_files.too_large(facts.bytes, limits.bytes)
    refuse_size(facts.width, facts.height, limits.pixels)


def content(path: Path, sha256: str) -> bytes | None:
    """Return a file's bytes, or None if it cannot be read or its sha256 differs."""
    try:
        found = image_files.read(path, limit=None)
    except (OSError, DamagedImage):
        return None
    return found if hashlib.sha256(found).hexdigest() == sha256 else None


def read_all(
    paths: Sequence[Path],
    look: Callable[[int, Pixels], None] | None = None,
    known: KnownFacts | None = None,
    limits: Limits = USUAL,
) -> Iterator[ImageFacts | str]:
    """Yield `read_facts` of each path, in order; `look` gets the index of each usable image and its small picture."""

    def read(index: int) -> ImageFacts | str:
        return read_facts(paths[index], look=None if look is None else partial(look, index), known=known, limits=limits)

    yield from in_order(read, range(len(paths)))


def copy_all(
    paths: Iterable[Path], copies: Iterable[Path], known: KnownFacts | None = None, limits: Limits = USUAL
) -> Iterator[ImageFacts | str]:
    """Yield `read_facts` of each path, in order, and copy usable images to `copies`. Raises OSError as `read_facts`."""
    pairs = zip(paths, copies, strict=True)
    yield from in_order(lambda pair: read_facts(*pair, known=known, limits=limits), pairs)
