"""Reading or copying of many image files at once, each of which is read once or, if its facts are known, not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from adaptformer.data import image_facts, image_files
from adaptformer.data.decoding import DamagedImage, Pixels
from adaptformer.data.image_facts import ImageFacts
from adaptformer.data.image_files import USUAL, Limits
from adaptformer.data.stat_cache import StatCache
from adaptformer.data.thread_map import in_order


def read_facts(
    path: Path,
    look: Callable[[Pixels], None] | None = None,
    known: StatCache | None = None,
    limits: Limits = USUAL,
) -> ImageFacts | str:
    """Read and decode a file; return its facts, or the reason why it is not a usable image or exceeds the `limits`.

    If the image is usable, `look`, if given, is called with its small picture. A `known` file is not read; the facts of
    any other are added to `known`.
    """
    try:
        file = image_facts.identity(path)
        scanned = known.of(file, picture=look is not None) if known else None
        if scanned is not None:
            scanned.facts.require(limits)
        else:
            content = image_files.read(path, limits.bytes)
            scanned = image_facts.scan(path, content, limits, picture=look is not None)
            if known:
                known.remember(file, scanned)
    except (DamagedImage, OSError) as error:
        return _reason(error)
    if look is not None and scanned.picture is not None:
        look(scanned.picture)
    return scanned.facts


def copy_image(path: Path, copy: Path, known: StatCache | None = None, limits: Limits = USUAL) -> ImageFacts | str:
    """Return the facts of a file as `read_facts`, and write its bytes to `copy` if it is a usable image.

    The facts of the copy are added to `known`. Raises OSError if the copy cannot be written.
    """
    try:
        content = image_files.read(path, limits.bytes)
        scanned = image_facts.scan(path, content, limits, picture=True)
    except (DamagedImage, OSError) as error:
        return _reason(error)
    copy.write_bytes(content)
    if known:
        known.remember_own(image_facts.identity(copy), scanned)
    return scanned.facts


def read_all(
    paths: Sequence[Path],
    look: Callable[[int, Pixels], None] | None = None,
    known: StatCache | None = None,
    limits: Limits = USUAL,
) -> Iterator[ImageFacts | str]:
    """Yield `read_facts` of each path, in order; `look` gets the index of each usable image and its small picture."""

    def read(index: int) -> ImageFacts | str:
        return read_facts(paths[index], None if look is None else partial(look, index), known, limits)

    yield from in_order(read, range(len(paths)))


def copy_all(
    paths: Iterable[Path], copies: Iterable[Path], known: StatCache | None = None, limits: Limits = USUAL
) -> Iterator[ImageFacts | str]:
    """Yield `copy_image` of each path and its copy, in order. Raises OSError if a copy cannot be written."""
    pairs = zip(paths, copies, strict=True)
    yield from in_order(lambda pair: copy_image(*pair, known=known, limits=limits), pairs)


def _reason(error: DamagedImage | OSError) -> str:
    return str(error) if isinstance(error, DamagedImage) else error.strerror or "cannot be read"
