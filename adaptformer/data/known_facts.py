"""Cache of facts about image files, so that an import and later validations read each file once.

A file counts as unchanged while its inode, size and modification time are: renaming or linking it keeps all three, and
writing to it changes one. The cache only saves time; without it all files are read again.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray

from adaptformer.base import array_file, files, source_code
from adaptformer.base.errors import UserError
from adaptformer.data import decoding, reading
from adaptformer.data.decoding import Pixels
from adaptformer.data.reading import SIDE, Identity, ImageFacts, identity

log = logging.getLogger("adaptformer")

_SETTLED_NS = 1_000_000_000
"""Facts of a file modified less than this before it is read are not kept: a second write within one tick of the clock
would leave its modification time unchanged."""


class Known(NamedTuple):
    """Facts about a usable image, and its small picture [s, s, 3], if that was made."""

    facts: ImageFacts
    picture: Pixels | None


class KnownFacts:
    """The facts stored in a file, and those added until `write`. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = _read(path)
        self._now: dict[Identity, Known] = {}
        self._found: list[Identity] = []

    @property
    def found(self) -> int:
        """The number of lookups that found a known file."""
        return len(self._found)

    def of(self, file: Identity, *, picture: bool) -> Known | None:
        """Return what is known of a file; None if nothing is, or if `picture` is wanted and missing."""
        known = self._now.get(file) or self._before.get(file)
        if known is None or (picture and known.picture is None):
            return None
        self._now[file] = known
        self._found.append(file)  # atomic, unlike incrementing a counter: several threads call this
        return known

    def remember(self, file: Identity, facts: ImageFacts, picture: Pixels | None) -> None:
        """Add a file that was read, unless it was modified just before."""
        if time.time_ns() - file.modified > _SETTLED_NS:
            self.remember_own(file, facts, picture)

    def remember_own(self, file: Identity, facts: ImageFacts, picture: Pixels | None) -> None:
        """Add a file that this process has written itself."""
        self._now[file] = Known(facts, picture)

    def write(self) -> None:
        """Write the facts that were added or looked up, and drop all others."""
        pictures = [known.picture for known in self._now.values() if known.picture is not None]
        facts = [known.facts for known in self._now.values()]
        modes = sorted({one.mode for one in facts})
        number = {mode: index for index, mode in enumerate(modes)}
        arrays: dict[str, NDArray[Any]] = {
            "identities": np.array(list(self._now), np.int64).reshape(-1, 3),
            "numbers": np.array([(one.width, one.height, one.bytes) for one in facts], np.int64).reshape(-1, 3),
            "modes": np.array([number[one.mode] for one in facts], np.int64),
            "sha256": np.frombuffer(bytes.fromhex("".join(one.sha256 for one in facts)), np.uint8).reshape(-1, 32),
            "pictured": np.array([known.picture is not None for known in self._now.values()], bool),
            "pictures": np.array(pictures, np.uint8).reshape(-1, SIDE, SIDE, 3),
        }
        files.remove_leftovers(self._path)
        array_file.write(self._path, arrays, {"version": _version(), "modes": modes})


def known_hash(path: Path, known: KnownFacts | None) -> str:
    """Return a file's hex sha256; the file is read only if it is not known. Raises OSError."""
    found = known.of(identity(path), picture=False) if known else None
    return found.facts.sha256 if found else files.sha256_file(path)


def _version() -> str:
    """Return a hash of everything that the facts of a file depend on besides its bytes."""
    code = [source_code.of(module) for module in (decoding, reading)]
    return files.sha256_text(files.canonical_json([code, PIL.__version__]))


def _read(path: Path) -> dict[Identity, Known]:
    """Return the facts at `path`; none if it is missing, damaged, or of another version."""
    if not path.exists():
        return {}
    try:
        arrays, metadata = array_file.read(path, "")
        if metadata["version"] != _version():
            return {}
        pictures = iter(arrays["pictures"])
        rows = zip(
            arrays["identities"].tolist(), arrays["numbers"].tolist(), arrays["modes"].tolist(), arrays["sha256"],
            arrays["pictured"].tolist(), strict=True,
        )  # fmt: skip
        return {
            Identity(*file): Known(
                ImageFacts(width, height, metadata["modes"][mode], size, sha256.tobytes().hex()),
                next(pictures) if pictured else None,
            )
            for file, (width, height, size), mode, sha256, pictured in rows
        }
    except (UserError, ValueError, KeyError, IndexError, TypeError, StopIteration):
        log.warning("%s is damaged: all files are read again", path)
        return {}
