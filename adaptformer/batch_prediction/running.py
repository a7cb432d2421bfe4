"""A whole batch prediction: prepares the job, computes its shards with an engine, and writes the manifest last."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from filelock import FileLock, Timeout

from adaptformer.base import csv_file, files, memory, progress
from adaptformer.base.errors import UserError
from adaptformer.batch_prediction import shard
from adaptformer.batch_prediction.engines import ENGINES
from adaptformer.batch_prediction.job import LOCK, MANIFEST, TIMING, Job, prepare, require_lists
from adaptformer.batch_prediction.shard import PARTS, Computing, Device, Outcome
from adaptformer.data import storage
from adaptformer.data import workers as machine
from adaptformer.export.predictor import Predictor

log = logging.getLogger("adaptformer")

T = TypeVar("T")

SECONDS_BETWEEN_LOG_LINES = 15


@dataclass(frozen=True)
class Engine:
    """The engine: local, dask or ray; its number of processes, 0 for a default; the address of a running cluster."""

    name: str = "local"
    workers: int = 0
    address: str | None = None


@dataclass(frozen=True)
class Summary:
    """Result of a batch prediction: its folder, numbers of images and faults, and the time it took.

    `computed` images were predicted now, the others before. `workers` is the number of processes, 0 for a cluster.
    `seconds` is the elapsed time of the computation; `parts` are the seconds of PARTS and `total`, summed over the
    processes.
    """

    folder: str
    images: int
    faults: int
    computed: int
    workers: int
    seconds: float
    parts: dict[str, float]

    def lines(self) -> list[str]:
        """Return the result as lines for the terminal."""
        told = [f"{self.images:,} images are in {self.folder}/predictions/, {self.faults:,} of them without an answer"]
        if not self.computed:
            return [*told, "all were there already"]
        rate = self.computed / self.seconds
        told.append(f"{self.computed:,} predicted in {self.seconds:.1f} s, {rate:,.0f} images/s")
        shares = ", ".join(f"{part} {seconds * 1e6 / self.computed:,.0f}" for part, seconds in self.parts.items())
        return [*told, f"seconds of a process for a million images: {shares}"]


def predict(
    folder: str,
    sources: Sequence[str],
    model: Path,
    engine: Engine,
    *,
    top: int,
    shard_size: int,
    device: Device,
    unverified: bool = False,
) -> Summary:
    """Predict the images of `sources` that have no predictions in `folder` (or a bucket), and return the summary.

    `unverified` is passed to the predictor. Raises UserError as the predictor, `job.prepare` and `run` do, and if
    another command uses the folder.
    """
    with alone(folder):
        Predictor(model, "cpu", 1, unverified=unverified)  # refuses a bad model before it is copied and images listed
        return run(prepare(folder, sources, model, top, shard_size), engine, device, unverified=unverified)


def run(job: Job, engine: Engine, device: Device = "auto", *, unverified: bool = False) -> Summary:
    """Compute the missing shards of a job, write its manifest and timing, and return the summary.

    Raises UserError if shards cannot be computed, and if no image has a prediction.
    """
    workers = engine.workers or _processes(device)
    # The machines of a cluster are unknown here, so each process uses one thread.
    threads = 1 if engine.address else max(1, machine.cores() // workers)
    work = functools.partial(shard.predict, job, Computing(device, threads, unverified))
    began = time.perf_counter()
    done = ENGINES[engine.name](work, range(job.shards), workers, engine.address)
    shown = shown_with_rate(done, "predicting", job.images, "images", lambda outcome: outcome.images)
    outcomes = sorted(shown, key=lambda outcome: outcome.shard)
    seconds = time.perf_counter() - began
    require_lists(job, (outcome.input for outcome in outcomes))
    for outcome in outcomes:
        if outcome.again:
            log.warning("shard %d %s: it was computed again, with the same result", outcome.shard, outcome.again)
    computed = [outcome for outcome in outcomes if outcome.seconds]
    parts = {part: round(sum(one.seconds[part] for one in computed), 3) for part in (*PARTS, "total")}
    summary = Summary(
        job.folder, sum(one.images for one in outcomes), sum(one.faults for one in outcomes),
        sum(one.images for one in computed), 0 if engine.address else workers, round(seconds, 3), parts,
    )  # fmt: skip
    with storage.user_errors(job.folder):
        _write_manifest(job, _manifest(outcomes))
        if computed:
            storage.write(job.file(TIMING), _timing(summary, engine))
    remove_leftovers(job.folder)
    if summary.faults == summary.images:
        raise UserError(
            "none of the files is an image with a prediction", f"see the column `fault` in {job.folder}/predictions/"
        )
    return summary


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """Lock a folder during the body. A bucket has no locks; two commands on it only compute the same results twice."""
    if storage.is_url(folder):
        yield
        return
    lock = FileLock(Path(folder) / LOCK, timeout=0)
    try:
        with files.refusals(Path(folder)):
            Path(folder).mkdir(parents=True, exist_ok=True)
            held = lock.acquire()
    except Timeout as error:
        raise UserError(
            f"{folder} is in use by another command", "wait until it ends, or stop it, then run the same command again"
        ) from error
    with held:
        yield


def _processes(device: Device) -> int:
    """Return the default number of processes: one per core, but only one if there is a GPU, which they would share."""
    gpu = device != "cpu" and any(Path("/dev").glob("nvidia[0-9]*"))
    return 1 if gpu else machine.cores()


def remove_leftovers(folder: str) -> None:
    """Remove the partial files that killed processes left in a job's folder; call it when every shard is done."""
    if not storage.is_url(folder):
        for leftover in Path(folder).rglob(".*.partial*"):
            leftover.unlink(missing_ok=True)


def shown_with_rate(outcomes: Iterable[T], label: str, total: int, unit: str, size: Callable[[T], int]) -> Iterator[T]:
    """Yield the outcomes; show how many of `total` units are done, with a bar and occasional log lines."""
    count, began, last = 0, time.monotonic(), time.monotonic()
    for outcome in progress.steps(outcomes, label, total, unit, size):
        count += size(outcome)
        if time.monotonic() - last > SECONDS_BETWEEN_LOG_LINES:
            last = time.monotonic()
            rate = count / (last - began)
            left = (total - count) / rate / 60
            done = f"{label}: {count:,} of {total:,} {unit}, {rate:,.{0 if rate >= 10 else 1}f} {unit}/s"
            log.info("%s, %.0f min left", done, left)
        yield outcome


def _write_manifest(job: Job, content: bytes) -> None:
    """Write the manifest; warn if another one existed, which must be damaged because every shard has been verified."""
    there = storage.read(job.file(MANIFEST)) if storage.is_file(job.file(MANIFEST)) else content
    if there != content:
        log.warning("%s was altered: it is written again", job.file(MANIFEST))
    storage.write(job.file(MANIFEST), content)


def _manifest(outcomes: Sequence[Outcome]) -> bytes:
    rows = [
        {"shard": one.shard, "images": one.images, "faults": one.faults, "input": one.input, "output": one.output}
        for one in outcomes
    ]
    return csv_file.text(pd.DataFrame(rows)).encode()


def _timing(summary: Summary, engine: Engine) -> bytes:
    taken: dict[str, Any] = {
        "engine": engine.name,
        "workers": summary.workers,
        "images": summary.computed,
        "seconds": summary.seconds,
        "process_seconds": summary.parts,
        "peak_memory_mb": memory.peak_mb(),
        "host": platform.node(),
        "cores": os.cpu_count(),
    }
    return (json.dumps(taken, indent=2) + "\n").encode()
