"""Cache of facts about image files, so that an import and later validations read each file once.

A file counts as unchanged while its inode, size and modification time are: renaming or linking it keeps all three, and
writing to it changes one. The cache only saves time; without it all files are read again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from adaptformer.base import array_file, files, source_code
from adaptformer.base.errors import UserError
from adaptformer.data import decoding, image_facts
from adaptformer.data.image_facts import SIDE, Identity, ImageFacts, ScannedImage, identity

log = logging.getLogger("adaptformer")

_SETTLED_NS = 1_000_000_000
"""Facts of a file modified less than this before it is read are not kept: a second write within one tick of the clock
would leave its modification time unchanged."""


class StatCache:
    """The facts stored in a file, and those added until `write`. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = _read(path)
        self._now: dict[Identity, ScannedImage] = {}
        self._hits: list[Identity] = []

    @property
    def hits(self) -> int:
        """The number of lookups that found a known file."""
        return len(self._hits)

    def of(self, file: Identity, *, picture: bool) -> ScannedImage | None:
        """Return the facts of a known file; None if it is not known, or if `picture` is true and it has none."""
        known = self._now.get(file) or self._before.get(file)
        if known is None or (picture and known.picture is None):
            return None
        self._now[file] = known
        self._hits.append(file)  # atomic, unlike incrementing a counter: several threads call this
        return known

    def remember(self, file: Identity, image: ScannedImage) -> None:
        """Add a file that was read, unless it was modified just before."""
        if time.time_ns() - file.modified > _SETTLED_NS:
            self.remember_own(file, image)

    def remember_own(self, file: Identity, image: ScannedImage) -> None:
        """Add a file that this process has written itself."""
        self._now[file] = image

    def write(self) -> None:
        """Write the facts that were added or looked up, and drop all others."""
        arrays, modes = _packed(self._now)
        files.remove_leftovers(self._path)
        array_file.write(self._path, arrays, {"version": _version(), "modes": modes})


def known_hash(path: Path, known: StatCache | None) -> str:
    """Return a file's hex sha256; the file is read only if it is not known. Raises OSError."""
    image = known.of(identity(path), picture=False) if known else None
    return image.facts.sha256 if image else files.sha256_file(path)


def _version() -> str:
    """Return a hash of everything that the facts of a file depend on besides its bytes."""
    code = [source_code.of(module) for module in (decoding, image_facts)]
    return files.sha256_text(files.canonical_json([code, PIL.__version__]))


def _read(path: Path) -> dict[Identity, ScannedImage]:
    """Return the facts at `path`; none if it is missing, damaged, or of another version."""
    if not path.exists():
        return {}
    try:
        arrays, metadata = array_file.read(path, "")
        return _unpacked(arrays, metadata["modes"]) if metadata["version"] == _version() else {}
    except (UserError, ValueError, KeyError, IndexError, TypeError, StopIteration):
        log.warning("%s is damaged: all files are read again", path)
        return {}


def _packed(images: Mapping[Identity, ScannedImage]) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the facts as arrays with one row a file, in which a mode is an index into the list of modes."""
    facts = [image.facts for image in images.values()]
    pictures = [image.picture for image in images.values()]
    modes = sorted({one.mode for one in facts})
    number = {mode: index for index, mode in enumerate(modes)}
    arrays: dict[str, NDArray[Any]] = {
        "identities": np.array(list(images), np.int64).reshape(-1, 3),
        "numbers": np.array([(one.width, one.height, one.bytes) for one in facts], np.int64).reshape(-1, 3),
        "modes": np.array([number[one.mode] for one in facts], np.int64),
        "sha256": np.frombuffer(bytes.fromhex("".join(one.sha256 for one in facts)), np.uint8).reshape(-1, 32),
        "pictured": np.array([picture is not None for picture in pictures], bool),
        "pictures": np.array([one for one in pictures if one is not None], np.uint8).reshape(-1, SIDE, SIDE, 3),
    }
    return arrays, modes


def _unpacked(arrays: Mapping[str, NDArray[Any]], modes: Sequence[str]) -> dict[Identity, ScannedImage]:
    """Return the facts of `_packed` arrays. Raises an exception if rows are missing or of another kind."""
    pictures = iter(arrays["pictures"])
    rows = zip(
        arrays["identities"].tolist(), arrays["numbers"].tolist(), arrays["modes"].tolist(), arrays["sha256"],
        arrays["pictured"].tolist(), strict=True,
    )  # fmt: skip
    return {
        Identity(*file): ScannedImage(
            ImageFacts(width, height, modes[mode], size, sha256.tobytes().hex()), next(pictures) if pictured else None
        )
        for file, (width, height, size), mode, sha256, pictured in rows
    }
