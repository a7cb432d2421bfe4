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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

from adaptformer.base import files
from adaptformer.batch_prediction import inputs
from adaptformer.data import storage
from adaptformer.prediction.predictor import WEIGHTS
from adaptformer.sharding import job_folder

MODEL, MANIFEST, TIMING = "model.onnx", "manifest.csv", "timing.json"
SHARD_SIZE = 1000
"""Images per shard: seconds of work, and a thousand shards for a million images."""


@dataclass(frozen=True, kw_only=True)
class Job(job_folder.Job):
    """The description of a job: `images` images in shards of `shard_size` (the last may have fewer).

    `top` is the number of classes per image, `model` the sha256 of the ONNX file.
    """

    model: str
    top: int
    shard_size: int
    images: int

    kind: ClassVar[str] = "the predictions of another job"
    description: ClassVar[str] = "job.json"
    lists: ClassVar[str] = "inputs"
    column: ClassVar[str] = inputs.COLUMN
    counted: ClassVar[str] = "images"

    def output(self, shard: int) -> str:
        """Return the location of a shard's predictions."""
        return self.file(f"predictions/{shard:08d}.parquet")

    def record(self, shard: int) -> str:
        """Return the location of the record of a shard's predictions."""
        return self.file(f"records/{shard:08d}.json")


def prepare(folder: str, sources: Sequence[str], model: Path, top: int, shard_size: int) -> Job:
    """Return the job in `folder`: the existing one, or a new one, whose images are listed now.

    Raises UserError as `job_folder.Job.prepare` does, and for sources without images.
    """
    folder = storage.absolute(folder)
    absolute = [storage.absolute(source) for source in sources]
    images = (place for place in inputs.locations(absolute) if not place.startswith(f"{folder}/"))
    copied = {name: path for name in (MODEL, WEIGHTS) if (path := _file(model, name)).is_file()}
    sha256 = files.sha256_file(model)
    parts = _parts(images, shard_size)
    return Job.prepare(folder, absolute, parts, copied, model=sha256, top=top, shard_size=shard_size)


def _file(model: Path, name: str) -> Path:
    return model if name == MODEL else model.with_name(name)


def _parts(locations: Iterator[str], size: int) -> Iterator[list[str]]:
    while part := list(islice(locations, size)):
        yield part
