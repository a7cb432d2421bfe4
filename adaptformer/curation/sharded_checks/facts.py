"""Facts about the images of one part: size, mode, hash, small picture and, if wanted, features, from a single read.

A part is the unit of restart. The file of its facts appears as a whole, and its bytes depend only on its images.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from adaptformer.base import files, integrity, memory, names
from adaptformer.base.errors import UserError
from adaptformer.curation.sharded_checks import located_images
from adaptformer.curation.sharded_checks.check_folder import BACKBONE, Check
from adaptformer.curation.sharded_checks.located_images import Located
from adaptformer.data import storage, thread_map
from adaptformer.data.decoding import DamagedImage, decode_reduced
from adaptformer.data.image_facts import SIDE, small_picture
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import decoded_for, to_input

AT_ONCE = 1000
"""Images in memory at once, and rows of a row group, which can be read alone."""
SCHEMA = pa.schema(
    {
        "path": pa.string(), "split": pa.string(), "label": pa.string(), "fault": pa.string(),
        "width": pa.int32(), "height": pa.int32(), "mode": pa.string(), "bytes": pa.int64(),
        "sha256": pa.binary(32), "picture": pa.binary(SIDE * SIDE * 3), "features": pa.list_(pa.float32()),
    }
)  # fmt: skip
"""`fault` is the reason why a file is not a usable image; then only path, split and label are set besides."""
_BATCH = 64

_ExaminedImage = tuple[dict[str, Any], NDArray[np.uint8] | None]
Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class SourceError(Exception):
    """Raised for a source that could not be read, because an OSError would be attributed to the file being written."""


@dataclass(frozen=True)
class ExaminedPart:
    """The outcome of a part: its images, and how many of them are unusable; `seconds` is 0 if it was done before.

    `input` and `output` are the hashes of its list and of its facts. `memory_mb` is the peak memory of the process so
    far.
    """

    shard: int
    images: int
    faults: int
    input: str
    output: str
    seconds: float
    memory_mb: float


def examine(check: Check, threads: int, number: int) -> ExaminedPart:
    """Write the facts of a part, unless an intact file of them exists, and return the outcome.

    Raises UserError for a shard that cannot be read or used, and for facts of another check.
    """
    return storage.retried(functools.partial(_examine_part, check, threads, number), f"part {number} of {check.folder}")


def _examine_part(check: Check, threads: int, number: int) -> ExaminedPart:
    began = time.perf_counter()
    listed = Path(check.input(number)).read_bytes()
    about = {"input": hashlib.sha256(listed).hexdigest(), "backbone": check.backbone, "contract": check.contract}
    path = check.facts(number)
    if not integrity.is_intact(path):
        part = [
            names.restored(place) for place in pq.read_table(pa.BufferReader(listed)).column(check.column).to_pylist()
        ]
        schema = SCHEMA.with_metadata({"adaptformer": files.canonical_json(about)})
        embedding = _embedding(check, threads) if check.backbone else None
        with files.replacing(path) as new_file, pq.ParquetWriter(new_file, schema) as writer:
            rows = _rows(part, embedding, threads)
            while batch := list(islice(rows, AT_ONCE)):
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
        integrity.write_beside(path)
        seconds = time.perf_counter() - began
    else:
        seconds = 0.0
    with storage.user_errors(str(path)):
        table = pq.read_table(path, columns=["fault"])
    if json.loads((table.schema.metadata or {}).get(b"adaptformer", b"null")) != about:
        raise UserError(
            f"{path} does not belong to the check in its folder", "move it away, then run the same command again"
        )
    faults = len(table) - table.column("fault").null_count
    return ExaminedPart(number, len(table), faults, about["input"], files.sha256_file(path), seconds, memory.peak_mb())


@functools.lru_cache(maxsize=1)
def _embedding(check: Check, threads: int) -> tuple[Embed, ImageContract]:
    """Return the backbone's feature function, loaded once in each process, and the image contract for its input."""
    from adaptformer.model import device, embedding

    path = Path(check.file(BACKBONE))
    if files.sha256_file(path) != check.backbone:
        fix = f"copy that backbone there again, whose sha256 is {check.backbone}, or give another folder"
        raise integrity.altered(path, fix)
    cpu = device.choose("cpu", threads)
    contract = ImageContract(**json.loads(check.contract))
    return embedding.backbone_features(path, contract, cpu), contract


def _rows(part: list[str], embedding: tuple[Embed, ImageContract] | None, threads: int) -> Iterator[dict[str, Any]]:
    """Yield the row of each image. Raises SourceError if the images cannot be read."""
    images = thread_map.in_order(
        functools.partial(_examine_image, embedding and embedding[1]), located_images.images(part), threads
    )
    while batch := _next(images):
        if embedding and (seen := [pixels for _, pixels in batch if pixels is not None]):
            features = iter(embedding[0](np.stack(seen)))
            for row, pixels in batch:
                if pixels is not None:
                    row["features"] = next(features)
        yield from (row for row, _ in batch)


def _next(images: Iterator[_ExaminedImage]) -> list[_ExaminedImage]:
    try:
        return list(islice(images, _BATCH))
    except OSError as error:
        raise SourceError(f"{type(error).__name__}: {error}") from error


def _examine_image(contract: ImageContract | None, image: Located) -> _ExaminedImage:
    """Return an image's row, and, if there is a contract, the pixels for the backbone."""
    row: dict[str, Any] = {
        "path": names.storable(image.path), "split": image.split, "label": names.storable(image.label),
    }  # fmt: skip
    if image.fault:
        return {**row, "fault": image.fault}, None
    try:
        content = storage.read_image(image.path) if image.content is None else image.content
        decoded = decoded_for(content, contract) if contract else decode_reduced(content, 2 * SIDE)
    except DamagedImage as error:
        return {**row, "fault": str(error)}, None
    except storage.NO_FILE as error:
        return {**row, "fault": error.strerror or "there is no such file"}, None
    row |= {
        "width": decoded.width, "height": decoded.height, "mode": decoded.mode, "bytes": len(content),
        "sha256": hashlib.sha256(content).digest(), "picture": small_picture(decoded.pixels).tobytes(),
    }  # fmt: skip
    return row, to_input(decoded, contract) if contract else None


def usable(check: Check, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield these columns of the usable images, up to AT_ONCE at a time, in the order of the parts."""
    for number in range(check.shards):
        with pq.ParquetFile(check.facts(number)) as file:
            for batch in file.iter_batches(AT_ONCE, columns=[*columns, "fault"]):
                table = pa.Table.from_batches([batch])
                yield table.filter(table.column("fault").is_null()).select(list(columns))


def unusable(check: Check) -> Iterator[tuple[str, str]]:
    """Yield path and fault of each file that is not a usable image."""
    for number in range(check.shards):
        table = pq.read_table(check.facts(number), columns=["path", "fault"])
        faulty = table.filter(table.column("fault").is_valid())
        yield from zip(faulty.column("path").to_pylist(), faulty.column("fault").to_pylist(), strict=True)


def as_array(column: pa.ChunkedArray, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return a column of binaries of equal size as bytes [N, ...]."""
    joined = b"".join(column.to_pylist())
    return np.frombuffer(joined, np.uint8).reshape(-1, *shape)
