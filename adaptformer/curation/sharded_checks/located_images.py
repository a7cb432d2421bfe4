"""Labelled images of sources that are read in place: folders and buckets of classes, tar and Parquet shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from adaptformer.base.errors import UserError
from adaptformer.curation.importing import shards
from adaptformer.curation.importing.listing import split_of, split_within
from adaptformer.data import storage

FILES = 1000
"""The number of image files in a part; a shard is always a part of its own, however many images it holds."""


class Located(NamedTuple):
    """An image with its location; `split` is empty if it is unknown, `content` None if the bytes are still in a file.

    A `fault` is the reason why there are no bytes.
    """

    path: str
    split: str
    label: str
    content: bytes | None
    fault: str = ""


def parts(sources: Iterable[str]) -> Iterator[list[str]]:
    """Yield the locations of each part: a single shard, or up to FILES image files.

    Only one part is held in memory. Raises UserError for a source that does not exist or has no images.
    """
    files: list[str] = []
    for source in sources:
        empty = True
        with storage.user_errors(source):
            for location in _locations(source):
                empty = False
                if shards.is_shard(location):
                    yield [location]
                    continue
                files.append(location)
                if len(files) == FILES:
                    yield files
                    files = []
        if empty:
            raise UserError(
                f"{source} has no images",
                "give folders with SPLIT/CLASS/FILE or CLASS/FILE, or shards (.tar, .parquet)",
            )
    if files:
        yield files


def _locations(source: str) -> Iterable[str]:
    if shards.is_shard(source):
        return shards.locations(source)
    return [source] if storage.is_file(source) else storage.walk(source, tell=True)


def images(part: Iterable[str]) -> Iterator[Located]:
    """Yield the images of a part. Raises UserError for a shard whose images have no class."""
    for location in part:
        if not shards.is_shard(location):
            yield Located(location, *_place(location), None)
            continue
        split = shards.split(location) or ""
        for sample in shards.samples(location):
            yield Located(
                f"{location}/{sample.name}.{sample.ending}", split, sample.label, sample.content, sample.fault
            )


def _place(location: str) -> tuple[str, str]:
    """Return split and class of a file by its folders; as in an import, a name such as seg_train is a split too."""
    *_, above, folder, _ = ["", "", *location.split("/")]
    within = split_within(above)
    return split_of(above) or (within[0] if within else ""), folder
