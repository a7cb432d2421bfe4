"""Shards of many labelled images each: tar files (WebDataset) and Parquet files (Hugging Face).

A source is the path or URL of a shard, or of several with `*` or `{000..099}`. If a shard's name has a word for train,
validation or test, its images are of that split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from adaptformer.base.errors import UserError
from adaptformer.curation.importing import parquet_shard, tar_shard
from adaptformer.curation.importing.listing import SPLIT_NAMES
from adaptformer.curation.importing.shard_image import FORM, Sample
from adaptformer.data import image_files, storage

_ENDINGS = (".tar", ".tar.gz", ".tgz", ".parquet")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def is_shard(location: str) -> bool:
    """Return whether a file is a shard, by its name."""
    return location.casefold().endswith(_ENDINGS)


def locations(source: str) -> list[str]:
    """Return the locations that `*` and `{000..099}` stand for. Raises UserError if there are none."""
    expanded = [source]
    while any(_RANGE.search(one) for one in expanded):
        expanded = [_RANGE.sub(number, one, count=1) for one in expanded for number in _numbers(one)]
    matches = [match for one in expanded for match in (storage.glob(one) if "*" in one else [one])]
    if not matches:
        raise UserError(f"there is no {source}", FORM)
    return matches


def _numbers(text: str) -> list[str]:
    match = _RANGE.search(text)
    if match is None:
        return [text]
    first, last = match.groups()
    return [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]


def samples(shard: str, limit: int = image_files.MAX_BYTES) -> Iterator[Sample]:
    """Yield the images of a shard in order; an unusable one gets a fault.

    Raises UserError for a shard that cannot be read to its end.
    """
    with storage.opened(shard) as file:
        kind = parquet_shard if shard.casefold().endswith(".parquet") else tar_shard
        yield from kind.samples(file, shard, limit)


def split(shard: str) -> str | None:
    """Return the split in the name of a shard, or None."""
    words = re.split(r"[^a-z]+", PurePosixPath(shard).name.casefold())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)
