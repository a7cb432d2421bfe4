"""A job: the folder of a batch prediction, and its preparation before the first shard is computed.

    job.json                    description of the job; written after the model and inputs/
    model.onnx                  the model, with its model.onnx.data if it has one
    inputs/00000000.parquet     the images of each shard
    predictions/00000000.parquet  its predictions, written as a whole
    records/00000000.json       the hash of the predictions when they were written
    manifest.csv                written at the end: the hashes of all inputs and outputs
    timing.json                 the time and memory used

The folder may be in an object store. It holds everything that determines a result, so a worker needs only its address,
and the same command continues after any interruption.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from adaptformer.base import files, integrity, names
from adaptformer.base.errors import UserError
from adaptformer.batch_prediction import inputs
from adaptformer.data import storage, workers
from adaptformer.export.predictor import WEIGHTS

MODEL, DESCRIPTION, MANIFEST, TIMING, LOCK = "model.onnx", "job.json", "manifest.csv", "timing.json", ".lock"
SHARD_SIZE = 1000
"""Images per shard: seconds of work, and a thousand shards for a million images."""
LISTS_AT_ONCE = 16
"""Lists of images that are read at once when a job continues."""
_PARTS = {MODEL, WEIGHTS, "inputs", LOCK}
"""The contents of a folder whose job was interrupted before its description was written."""


@dataclass(frozen=True)
class Job:
    """The description of a job: `images` images in `shards` shards of `shard_size` (the last may have fewer).

    `top` is the number of classes per image, `model` the sha256 of the ONNX file, and `inputs` that of the shards'
    lists.
    """

    folder: str
    sources: tuple[str, ...]
    model: str
    top: int
    shard_size: int
    shards: int
    images: int
    inputs: str

    def input(self, shard: int) -> str:
        """Return the location of a shard's list of images."""
        return storage.inside(self.folder, _input(shard))

    def output(self, shard: int) -> str:
        """Return the location of a shard's predictions."""
        return storage.inside(self.folder, f"predictions/{shard:08d}.parquet")

    def record(self, shard: int) -> str:
        """Return the location of the record of a shard's predictions."""
        return storage.inside(self.folder, f"records/{shard:08d}.json")

    def file(self, name: str) -> str:
        """Return the location of a file in the folder."""
        return storage.inside(self.folder, name)


def prepare(folder: str, sources: Sequence[str], model: Path, top: int, shard_size: int) -> Job:
    """Return the job in `folder`: the existing one, or a new one, whose images are listed now.

    Raises UserError if the folder holds another job, a damaged one or other files, for sources without images, and for
    locations that cannot be read or written.
    """
    folder = storage.absolute(folder)
    wanted = {
        "sources": [storage.absolute(source) for source in sources],
        "model": files.sha256_file(model),
        "top": top,
        "shard_size": shard_size,
    }
    with storage.user_errors(folder):
        there = _there(folder)
        if there is None:
            _require_free(folder)
    if there is not None:
        if other := [name for name, value in wanted.items() if there[name] != value]:
            raise UserError(
                f"{folder} holds the predictions of another job, with other {', '.join(other)}",
                "give another folder",
            )
        job = Job(folder, **{**there, "sources": tuple(there["sources"])})
        # Checked before anything is computed from a wrong list. Many threads read at once, for object stores.
        with storage.user_errors(folder):
            require_lists(job, workers.in_order(_hash, map(job.input, range(job.shards)), LISTS_AT_ONCE))
        return job
    with storage.user_errors(folder):
        for name in (MODEL, WEIGHTS):
            if (source := model if name == MODEL else model.with_name(name)).is_file():
                storage.write(storage.inside(folder, name), source.read_bytes())
    job = _listed(folder, wanted)
    described = {name: value for name, value in dataclasses.asdict(job).items() if name != "folder"}
    with storage.user_errors(folder):
        storage.write(job.file(DESCRIPTION), integrity.record(described).encode())
    return job


def digest(hashes: Iterable[str]) -> str:
    """Return one hash of the hashes of all shards' lists, in the order of the shards."""
    return files.sha256_text("".join(hashes))


def parquet(columns: dict[str, Any], about: dict[str, str]) -> bytes:
    """Return the bytes of a Parquet file of columns, equal for equal content; `about` is stored in its metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(columns)
    out = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"adaptformer": files.canonical_json(about)}), out)
    return out.getvalue()


def _listed(folder: str, wanted: dict[str, Any]) -> Job:
    """Write the shards' lists, in constant memory, and return the job."""
    hashes: list[str] = []
    images = 0
    found = (place for place in inputs.locations(wanted["sources"]) if not place.startswith(f"{folder}/"))
    for part in _parts(found, wanted["shard_size"]):
        content = parquet({inputs.COLUMN: [names.storable(place) for place in part]}, {})
        with storage.user_errors(folder):
            storage.write(storage.inside(folder, _input(len(hashes))), content)
        hashes.append(hashlib.sha256(content).hexdigest())
        images += len(part)
    return Job(folder, **{**wanted, "sources": tuple(wanted["sources"])}, shards=len(hashes), images=images,
               inputs=digest(hashes))  # fmt: skip


def _parts(locations: Iterator[str], size: int) -> Iterator[list[str]]:
    while part := list(islice(locations, size)):
        yield part


def _there(folder: str) -> dict[str, Any] | None:
    """Return the description of the job in a folder, None if there is none. Raises UserError for a damaged one."""
    location = storage.inside(folder, DESCRIPTION)
    if not storage.is_file(location):
        return None
    content = storage.read(location)
    with contextlib.suppress(ValueError):
        described: dict[str, Any] = json.loads(content)
        # Jobs of earlier versions have no checksum; their keys must then match exactly.
        if described.keys() == {field.name for field in dataclasses.fields(Job)} - {"folder"}:
            return described
    return integrity.parse_record(content, location, "bring it back from a copy, or give another folder")


def require_lists(job: Job, hashes: Iterable[str]) -> None:
    """Raise UserError unless these are the hashes of the lists that the job was made with."""
    if digest(hashes) != job.inputs:
        raise UserError(
            f"the lists in {job.folder}/inputs/ are not those that the job was made with",
            "bring them back from a copy, or give another folder",
        )


def _hash(location: str) -> str:
    return hashlib.sha256(storage.read(location)).hexdigest()


def _require_free(folder: str) -> None:
    """Raise UserError if a folder holds files that an interrupted job cannot have left."""
    first = next(
        (
            found
            for found in storage.below(folder)
            if found[len(folder.rstrip("/")) + 1 :].partition("/")[0] not in _PARTS
        ),
        None,
    )
    if first is not None:
        raise UserError(f"{folder} holds other files, such as {first}", "give a folder that does not exist yet")


def _input(shard: int) -> str:
    return f"inputs/{shard:08d}.parquet"
