"""One shard of a batch prediction: read, decode, resize, predict, write. It knows nothing of who calls it.

A shard is the unit of restart. Its predictions appear as a whole, under a name that its number alone decides, with
bytes that its images and the model alone decide: done twice, by whomever, it is there once.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from adaptformer import files, storage
from adaptformer.batch_prediction import inputs
from adaptformer.batch_prediction.job import MODEL, Job, parquet
from adaptformer.data import workers
from adaptformer.data.decoding import DamagedImage
from adaptformer.data.resizing import decoded_for, to_input
from adaptformer.errors import UserError
from adaptformer.export.predictor import WEIGHTS, Predictor, softmax

if TYPE_CHECKING:
    import pyarrow as pa

    from adaptformer.data.contract import ImageContract

BATCH = 32
PARTS = ("read", "decode", "resize", "forward", "write")
"""What the time of a shard is spent on; the rest is waiting and bookkeeping."""
THREADS_OF_A_STORE = 16
"""So many images of an object store a worker reads at once: each read waits for the network."""


Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Computing:
    """How a worker computes: on which device, with how many threads."""

    device: Device = "auto"
    threads: int = 1


@dataclass(frozen=True)
class Outcome:
    """A shard that is done: its images and how many of them could not be read, and the hashes of its two files.

    `seconds` are those of PARTS, summed over the threads, and the `total` one by the clock; empty where the predictions
    were there already.
    """

    shard: int
    images: int
    faults: int
    input: str
    output: str
    seconds: dict[str, float]


def predict(job: Job, computing: Computing, shard: int) -> Outcome:
    """Compute a shard, unless its predictions are there, and return what is known of it.

    Raises UserError where the job's files are not what they were, and for what fails again and again.
    """
    return storage.retried(functools.partial(_predict, job, computing, shard), f"shard {shard} of {job.folder}")


def _predict(job: Job, computing: Computing, shard: int) -> Outcome:
    began = time.perf_counter()
    listed = storage.read(job.input(shard))
    about = {"input": hashlib.sha256(listed).hexdigest(), "model": job.model}
    if (done := _done(job, shard, about)) is not None:
        return done
    paths = _table(listed).column(inputs.COLUMN).to_pylist()
    seconds = dict.fromkeys(PARTS, 0.0)
    columns = _predicted(paths, _predictor(job, computing), job.top, computing, seconds)
    content = parquet(columns, about)
    with _timed(seconds, "write"):
        storage.write(job.output(shard), content)
    faults = len(paths) - columns["fault"].null_count
    taken = {part: round(seconds[part], 4) for part in PARTS} | {"total": round(time.perf_counter() - began, 4)}
    return Outcome(shard, len(paths), faults, about["input"], hashlib.sha256(content).hexdigest(), taken)


def _done(job: Job, shard: int, about: dict[str, str]) -> Outcome | None:
    """Return the outcome of a shard whose predictions are there. Raises UserError where they are not this job's."""
    location = job.output(shard)
    if not storage.is_file(location):
        return None
    content = storage.read(location)
    with storage.user_errors(location):
        table = _table(content)
    if _about(table) != about:
        raise UserError(
            f"{location} does not belong to the job in its folder",
            "remove it, then run the same command again: it computes what is missing",
        )
    faults = len(table) - table.column("fault").null_count
    return Outcome(shard, len(table), faults, about["input"], hashlib.sha256(content).hexdigest(), {})


def _table(content: bytes) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(io.BytesIO(content))


def _about(table: pa.Table) -> Any:
    return json.loads((table.schema.metadata or {}).get(b"adaptformer", b"null"))


@functools.lru_cache(maxsize=1)
def _predictor(job: Job, computing: Computing) -> Predictor:
    """Return the job's model, opened once in each process. Raises UserError where it is another one by now."""
    with contextlib.ExitStack() as while_opening:
        folder = Path(job.folder)
        if storage.is_url(job.folder):
            folder = Path(while_opening.enter_context(tempfile.TemporaryDirectory()))
            for name in (MODEL, WEIGHTS):
                if storage.is_file(job.file(name)):
                    (folder / name).write_bytes(storage.read(job.file(name)))
        if files.sha256_file(folder / MODEL) != job.model:
            raise UserError(f"{job.file(MODEL)} is not the model of the job", "remove the folder, then start anew")
        return Predictor(folder / MODEL, computing.device, computing.threads)


def _predicted(
    paths: list[str], predictor: Predictor, top: int, computing: Computing, seconds: dict[str, float]
) -> dict[str, Any]:
    """Return the columns path, fault, and class and probability of each rank; None where there is no answer."""
    import pyarrow as pa

    prepared = _prepared(paths, predictor.contract, computing.threads, seconds)
    top = min(top, len(predictor.classes))
    nothing: tuple[None, ...] = (None,) * top
    found: list[tuple[str | None, tuple[str | None, ...], tuple[float | None, ...]]] = []
    while batch := list(islice(prepared, BATCH)):
        images = [image for image in batch if not isinstance(image, str)]
        with _timed(seconds, "forward"):
            rows = iter(softmax(predictor.logits(np.stack(images)))) if images else iter(())
        for image in batch:
            if isinstance(image, str):
                found.append((image, nothing, nothing))
            else:
                probabilities = next(rows)
                best = np.argsort(-probabilities, kind="stable")[:top]
                classes = tuple(predictor.classes[index] for index in best)
                found.append((None, classes, tuple(probabilities[best].tolist())))
    ranked: dict[str, Any] = {}
    for rank in range(top):
        ranked[f"class{rank + 1}"] = pa.array([classes[rank] for _, classes, _ in found], pa.string())
        ranked[f"probability{rank + 1}"] = pa.array([values[rank] for _, _, values in found], pa.float32())
    faults = pa.array([fault for fault, _, _ in found], pa.string())
    return {inputs.COLUMN: pa.array(paths, pa.string()), "fault": faults, **ranked}


def _prepared(
    paths: list[str], contract: ImageContract, threads: int, seconds: dict[str, float]
) -> Iterator[NDArray[np.uint8] | str]:
    """Yield each image as the model sees it, or why there is none."""

    def prepare(path: str) -> tuple[NDArray[np.uint8] | str, dict[str, float]]:
        taken: dict[str, float] = {}
        try:
            with _timed(taken, "read"):
                content = storage.read_image(path)
            with _timed(taken, "decode"):
                decoded = decoded_for(content, contract)
            with _timed(taken, "resize"):
                return to_input(decoded, contract), taken
        except DamagedImage as error:
            return str(error), taken
        except storage.NO_FILE as error:
            return error.strerror or "there is no such file", taken

    # One thread of a worker of many would only exchange the processor with the one that predicts.
    remote = any(map(storage.is_url, paths))
    done: Iterator[tuple[NDArray[np.uint8] | str, dict[str, float]]] = map(prepare, paths)
    if threads > 1 or remote:
        done = workers.in_order(prepare, paths, max(threads, THREADS_OF_A_STORE if remote else 0))
    for image, taken in done:
        for part, spent in taken.items():
            seconds[part] += spent
        yield image


@contextlib.contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Add the seconds of the body to a part."""
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - began
