"""Reading or copying of many image files at once, each of which is read once or, if its facts are known, not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adaptformer.data import image_facts, image_files
from adaptformer.data.decoding import DamagedImage, Pixels
from adaptformer.data.image_facts import ImageFacts
from adaptformer.data.image_files import USUAL, Limits
from adaptformer.data.stat_cache import StatCache
from adaptformer.data.thread_map import in_order


@dataclass(frozen=True)
class ReadOptions:
    """The cache of facts, and the limits that files must not exceed.

    A file that the cache knows is not read; the facts of any other are added to the cache.
    """

    cache: StatCache | None = None
    limits: Limits = USUAL


DEFAULT = ReadOptions()


def read_facts(
    path: Path, on_picture: Callable[[Pixels], None] | None = None, options: ReadOptions = DEFAULT
) -> ImageFacts | str:
    """Read and decode a file; return its facts, or the reason why it is not a usable image or exceeds the limits.

    If the image is usable, `on_picture`, if given, is called with its small picture.
    """
    cache, limits = options.cache, options.limits
    try:
        file = image_facts.identity(path)
        scanned = cache.of(file, picture=on_picture is not None) if cache else None
        if scanned is not None:
            scanned.facts.require(limits)
        else:
            content = image_files.read(path, limits.bytes)
            scanned = image_facts.scan(path, content, limits, picture=on_picture is not None)
            if cache:
                cache.remember(file, scanned)
    except (DamagedImage, OSError) as error:
        return _reason(error)
    if on_picture is not None and scanned.picture is not None:
        on_picture(scanned.picture)
    return scanned.facts


def copy_image(path: Path, copy: Path, options: ReadOptions = DEFAULT) -> ImageFacts | str:
    """Return the facts of a file as `read_facts`, and write its bytes to `copy` if it is a usable image.

    The facts of the copy are added to the cache. Raises OSError if the copy cannot be written.
    """
    try:
        content = image_files.read(path, options.limits.bytes)
        scanned = image_facts.scan(path, content, options.limits, picture=True)
    except (DamagedImage, OSError) as error:
        return _reason(error)
    copy.write_bytes(content)
    if options.cache:
        options.cache.remember_own(image_facts.identity(copy), scanned)
    return scanned.facts


def read_all(
    paths: Sequence[Path],
    on_picture: Callable[[int, Pixels], None] | None = None,
    options: ReadOptions = DEFAULT,
) -> Iterator[ImageFacts | str]:
    """Yield `read_facts` of each path, in order; `on_picture` gets the index and small picture of each usable image."""

    def read(index: int) -> ImageFacts | str:
        return read_facts(paths[index], None if on_picture is None else partial(on_picture, index), options)

    yield from in_order(read, range(len(paths)))


def copy_all(
    paths: Iterable[Path], copies: Iterable[Path], options: ReadOptions = DEFAULT
) -> Iterator[ImageFacts | str]:
    """Yield `copy_image` of each path and its copy, in order. Raises OSError if a copy cannot be written."""
    pairs = zip(paths, copies, strict=True)
    yield from in_order(lambda pair: copy_image(*pair, options), pairs)


def _reason(error: DamagedImage | OSError) -> str:
    return str(error) if isinstance(error, DamagedImage) else error.strerror or "cannot be read"
