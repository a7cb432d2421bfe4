"""One shard of a batch prediction: read, decode, resize, predict, write. It does not depend on the engine.

A shard is the unit of restart. Its predictions appear as a whole, under a name that depends only on its number, with
bytes that depend only on its images and the model. So computing a shard twice is harmless: the output is identical.
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

from adaptformer.base import csv_file, files, integrity, names
from adaptformer.base.errors import UserError
from adaptformer.batch_prediction import inputs
from adaptformer.batch_prediction.job import MANIFEST, MODEL, Job
from adaptformer.data import storage, thread_map
from adaptformer.data.decoding import DamagedImage
from adaptformer.data.resizing import decoded_for, to_input
from adaptformer.prediction.predictor import WEIGHTS, Best, Predictor
from adaptformer.sharding.job_folder import parquet

if TYPE_CHECKING:
    import pyarrow as pa

    from adaptformer.data.preprocessing import ImageContract

BATCH = 32
PARTS = ("read", "decode", "resize", "forward", "write")
"""The timed steps of a shard; the rest of its time is waiting and bookkeeping."""
THREADS_OF_A_STORE = 16
"""Images that a worker reads at once from an object store, because each read waits for the network."""


Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class WorkerOptions:
    """The options of a worker: the device, the number of threads, and whether a model of another tool is accepted."""

    device: Device = "auto"
    threads: int = 1
    unverified: bool = False


@dataclass(frozen=True)
class Outcome:
    """The outcome of a shard: its number of images, how many have no prediction, and the hashes of its two files.

    `seconds` are those of PARTS, summed over the threads, and the elapsed `total`; empty if the predictions existed
    already. `again` is the reason why existing predictions were computed again, else "".
    """

    shard: int
    images: int
    faults: int
    input: str
    output: str
    seconds: dict[str, float]
    again: str = ""


def predict(job: Job, options: WorkerOptions, shard: int) -> Outcome:
    """Compute a shard, unless its predictions exist, and return its outcome.

    Existing predictions count only if they are unchanged since they were written. Raises UserError if the job's files
    were altered, and for failures that persist after retries.
    """
    return storage.retried(functools.partial(_predict, job, options, shard), f"shard {shard} of {job.folder}")


def _predict(job: Job, options: WorkerOptions, shard: int) -> Outcome:
    began = time.perf_counter()
    listed = storage.read(job.input(shard))
    about = {"input": hashlib.sha256(listed).hexdigest(), "model": job.model}
    recorded_sha256, present = _recorded(job, shard, about), None
    if storage.is_file(job.output(shard)):
        present = storage.read(job.output(shard))
        if hashlib.sha256(present).hexdigest() == recorded_sha256:
            return _done(job, shard, about, present)
    paths = _table(listed).column(inputs.COLUMN).to_pylist()
    seconds = dict.fromkeys(PARTS, 0.0)
    columns = _predicted(paths, _predictor(job, options), job.top, options, seconds)
    content = parquet(columns, about)
    output = hashlib.sha256(content).hexdigest()
    if present is not None and output != recorded_sha256 and content != present:
        raise UserError(
            f"{job.output(shard)} is damaged, and its images now have other predictions",
            "restore the file or its images, or give another folder",
        )
    with _timed(seconds, "write"):
        # The record is written first, because predictions without one are not trusted.
        storage.write(job.record(shard), integrity.record({**about, "output": output}).encode())
        if content != present:
            storage.write(job.output(shard), content)
    faults = len(paths) - columns["fault"].null_count
    taken = {part: round(seconds[part], 4) for part in PARTS} | {"total": round(time.perf_counter() - began, 4)}
    again = "" if present is None else "could not be verified" if content == present else "was damaged"
    return Outcome(shard, len(paths), faults, about["input"], output, taken, again)


def _recorded(job: Job, shard: int, about: dict[str, str]) -> str | None:
    """Return the sha256 of a shard's predictions when they were written; None if there is no intact record of it.

    Raises UserError for a record of another job.
    """
    try:
        content = storage.read(job.record(shard))
    except FileNotFoundError:
        return _in_manifest(job).get(shard)
    try:
        record = integrity.parse_record(content, job.record(shard), "")
    except UserError:  # a damaged record counts as none
        return None
    output = str(record.pop("output"))
    if record != about:
        raise _of_another_job(job, shard)
    return output


@functools.lru_cache(maxsize=1)
def _in_manifest(job: Job) -> dict[int, str]:
    """Return the sha256 of each shard's predictions from the manifest of a job that finished before records existed."""
    if not storage.is_file(job.file(MANIFEST)):
        return {}
    try:
        header, *rows = csv_file.rows(io.StringIO(storage.read(job.file(MANIFEST)).decode(errors="replace")))
        return {int(row[header.index("shard")]): row[header.index("output")] for row in rows}
    except ValueError:  # a damaged manifest counts as none
        return {}


def _done(job: Job, shard: int, about: dict[str, str], content: bytes) -> Outcome:
    """Return the outcome of a shard whose predictions exist. Raises UserError if they are of another job."""
    with storage.user_errors(job.output(shard)):
        table = _table(content)
    if _about(table) != about:
        raise _of_another_job(job, shard)
    faults = len(table) - table.column("fault").null_count
    return Outcome(shard, len(table), faults, about["input"], hashlib.sha256(content).hexdigest(), {})


def _of_another_job(job: Job, shard: int) -> UserError:
    return UserError(f"{job.output(shard)} does not belong to the job in its folder", "give another folder")


def _table(content: bytes) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(io.BytesIO(content))


def _about(table: pa.Table) -> Any:
    return json.loads((table.schema.metadata or {}).get(b"adaptformer", b"null"))


@functools.lru_cache(maxsize=1)
def _predictor(job: Job, options: WorkerOptions) -> Predictor:
    """Return the job's model, opened once in each process. Raises UserError if the file is another model by now."""
    with contextlib.ExitStack() as while_opening:
        folder = Path(job.folder)
        if storage.is_url(job.folder):
            folder = Path(while_opening.enter_context(tempfile.TemporaryDirectory()))
            for name in (MODEL, WEIGHTS):
                if storage.is_file(job.file(name)):
                    (folder / name).write_bytes(storage.read(job.file(name)))
        if files.sha256_file(folder / MODEL) != job.model:
            raise UserError(
                f"{job.file(MODEL)} is not the model of the job",
                f"copy the model with sha256 {job.model} there again, or give another folder",
            )
        return Predictor(folder / MODEL, options.device, options.threads, unverified=options.unverified)


def _predicted(
    paths: list[str], predictor: Predictor, top: int, options: WorkerOptions, seconds: dict[str, float]
) -> dict[str, Any]:
    """Return the columns path, fault, and class and probability of each rank, None for images without a prediction."""
    import pyarrow as pa

    prepared = _prepared(paths, predictor.contract, options.threads, seconds)
    top = min(top, len(predictor.classes))
    best: list[Best] = []
    while batch := list(islice(prepared, BATCH)):
        with _timed(seconds, "forward"):
            best.extend(predictor.best(batch, top, len(batch)))
    ranked: dict[str, Any] = {}
    for rank in range(top):
        ranked[f"class{rank + 1}"] = pa.array([one.classes[rank] if one.classes else None for one in best], pa.string())
        probabilities = [one.probabilities[rank] if one.classes else None for one in best]
        ranked[f"probability{rank + 1}"] = pa.array(probabilities, pa.float32())
    faults = pa.array([one.fault or None for one in best], pa.string())
    return {inputs.COLUMN: pa.array(paths, pa.string()), "fault": faults, **ranked}


def _prepared(
    paths: list[str], contract: ImageContract, threads: int, seconds: dict[str, float]
) -> Iterator[NDArray[np.uint8] | str]:
    """Yield each image as the model sees it, or the reason why it cannot be used."""

    def prepare(path: str) -> tuple[NDArray[np.uint8] | str, dict[str, float]]:
        taken: dict[str, float] = {}
        try:
            with _timed(taken, "read"):
                content = storage.read_image(names.restored(path))
            with _timed(taken, "decode"):
                decoded = decoded_for(content, contract)
            with _timed(taken, "resize"):
                return to_input(decoded, contract), taken
        except DamagedImage as error:
            return str(error), taken
        except storage.NO_FILE as error:
            return error.strerror or "there is no such file", taken

    # With one thread per worker, a second one would only compete with the predicting thread for the same core.
    remote = any(map(storage.is_url, paths))
    done: Iterator[tuple[NDArray[np.uint8] | str, dict[str, float]]] = map(prepare, paths)
    if threads > 1 or remote:
        done = thread_map.in_order(prepare, paths, max(threads, THREADS_OF_A_STORE if remote else 0))
    for image, taken in done:
        for part, spent in taken.items():
            seconds[part] += spent
        yield image


@contextlib.contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Add the duration of the body to a part of `seconds`."""
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - began
