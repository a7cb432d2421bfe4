"""Reader of labelled images from Parquet files in the form of Hugging Face's hub: columns `image` and `label`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any

from adaptformer.base.errors import UserError
from adaptformer.curation.importing.shard_image import FORM, Sample, label_of
from adaptformer.data import image_files

_ROWS_AT_ONCE = 64


def samples(file: IO[bytes], shard: str, limit: int) -> Iterator[Sample]:
    """Yield the images of a Parquet file; an image above `limit` bytes or without a class gets a fault.

    Raises UserError for a file that is not whole or lacks the columns `image` and `label`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{shard} is not a whole Parquet file: {reason}", "get the whole file again") from error
    columns = table.schema_arrow.names
    if missing := {"image", "label"} - set(columns):
        raise UserError(f"{shard} has no column {min(missing)}, but {', '.join(columns)}", FORM)
    names = _names(table.schema_arrow.metadata or {})
    number = 0
    for batch in table.iter_batches(_ROWS_AT_ONCE, columns=["image", "label"]):
        for row in batch.to_pylist():
            image = row["image"]
            content = image.get("bytes") if isinstance(image, dict) else image
            path = PurePosixPath((isinstance(image, dict) and image.get("path")) or "")
            label, fault = _label(row["label"], names)
            if not isinstance(content, bytes):
                content, fault = b"", "no image's bytes"
            elif len(content) > limit:
                content, fault = b"", str(image_files.too_large(len(content), limit))
            name = path.stem or f"{PurePosixPath(shard).stem}-{number:07}"
            yield Sample(name, path.suffix.lstrip(".") or "image", label, content, fault, f"row {number}")
            number += 1


def _names(metadata: dict[bytes, bytes]) -> list[str]:
    """Return the class names from the metadata of a Hugging Face file, or an empty list if it has none."""
    try:
        about = json.loads(metadata.get(b"huggingface", b"{}"))
        names = about.get("info", {}).get("features", {}).get("label", {}).get("names")
    except (ValueError, RecursionError, AttributeError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _label(value: Any, names: list[str]) -> tuple[str, str]:
    """Return the class of a row, and its fault or ""; a number is an index into `names` if there are any."""
    if not isinstance(value, int) or isinstance(value, bool):
        return label_of(value)
    if value < 0:
        return "", f"no label: {value} stands for an image without one"
    if not names:
        return label_of(value)
    if value >= len(names):
        return "", f"the label {value} is out of range: there are {len(names)} classes"
    return label_of(names[value])
