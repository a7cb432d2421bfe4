"""The images of a batch prediction: from folders, lists and single files, on this machine or in an object store."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

from adaptformer.base import csv_file
from adaptformer.base.errors import UserError
from adaptformer.data import storage

COLUMN = "path"
_LISTED_AT_ONCE = 10_000


def locations(sources: Iterable[str]) -> Iterator[str]:
    """Yield the location of each image in the sources: folders, lists (.csv, .parquet) and single files.

    A list has a column `path`; relative paths in it start at its folder. Only a part of a list or the names of one
    folder are held in memory. Raises UserError for a source that does not exist or has no images.
    """
    for source in sources:
        with storage.user_errors(source):
            count = 0
            for location in _of(source):
                yield location
                count += 1
            if not count:
                raise UserError(
                    f"{source} has no images", "give images, folders that hold some, or lists with a column `path`"
                )


def _of(source: str) -> Iterator[str]:
    ending = source.lower().rpartition(".")[2]
    if ending == "csv":
        listed = _in_csv(source)
    elif ending == "parquet":
        listed = _in_parquet(source)
    elif storage.is_file(source):
        return iter([source])
    else:
        return storage.walk(source, tell=True)
    return (storage.resolve(source, name) for name in listed)


def _in_csv(source: str) -> Iterator[str]:
    with storage.opened(source) as file:
        rows = csv_file.rows(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        header = next(rows)
        _require_column(source, header)
        at = header.index(COLUMN)
        yield from (row[at] for row in rows if row[at])


def _in_parquet(source: str) -> Iterator[str]:
    import pyarrow.parquet as pq

    with storage.opened(source) as file:
        table = pq.ParquetFile(file)
        _require_column(source, table.schema_arrow.names)
        for batch in table.iter_batches(_LISTED_AT_ONCE, columns=[COLUMN]):
            yield from (name for name in batch.column(0).to_pylist() if name)


def _require_column(source: str, names: Iterable[str]) -> None:
    if COLUMN not in names:
        raise UserError(
            f"{source} has no column `{COLUMN}`, but {', '.join(names) or 'none at all'}",
            f"name the column of the images' paths `{COLUMN}`",
        )
