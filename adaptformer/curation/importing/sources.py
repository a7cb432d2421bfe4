"""Sources of images that a user may name, and the choice of their reader: a folder, a list, shards, or a bucket."""

from __future__ import annotations

import contextlib
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from adaptformer.base.errors import UserError
from adaptformer.curation.importing import class_folders, csv_list, remote_copies, shards
from adaptformer.curation.importing.listing import Listing
from adaptformer.data import storage

_FOLDER = "give the path of a folder that holds one folder per class"


@contextlib.contextmanager
def listing(source: str, data: Path, work: Path, limit: int) -> Iterator[Listing]:
    """Yield the images of a source; shards and buckets are copied to the folder `work`, which is removed afterwards.

    Raises UserError for a source that does not exist, cannot be read, or overlaps with `data`.
    """
    refuse(source, data)
    if not _is_brought_here(source):
        path = Path(source)
        yield csv_list.images_of(path) if path.is_file() else class_folders.images_of(path)
        return
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        with storage.user_errors(source):
            read = remote_copies.unpacked if shards.is_shard(source) else remote_copies.downloaded
            images = read(source, work, limit)
        yield images
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_brought_here(source: str) -> bool:
    return storage.is_url(source) or shards.is_shard(source)


def refuse(named: str, data: Path) -> None:
    """Raise UserError for a path that is neither a folder outside `data` nor a CSV file; shards and URLs pass."""
    if _is_brought_here(named):
        return
    source = Path(named)
    if not source.exists():
        raise UserError(f"there is no {source}", _FOLDER)
    if source.suffix.casefold() == ".csv" and source.is_file():
        return
    if not source.is_dir():
        if source.is_file() and (tarfile.is_tarfile(source) or zipfile.is_zipfile(source)):
            raise UserError(f"{source} is an archive", "unpack it and give the path of the folder")
        raise UserError(f"{source} is neither a folder nor a CSV file", _FOLDER)
    inner, outer = source.resolve(), data.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UserError(f"one of {source} and {data}/ contains the other", "give a folder outside of data/")
