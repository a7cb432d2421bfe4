"""A whole batch prediction: the job is prepared, an engine computes its shards, the manifest is written last."""

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

from adaptformer import csv_file, files, memory, progress, storage
from adaptformer.batch_prediction import shard
from adaptformer.batch_prediction.engines import ENGINES
from adaptformer.batch_prediction.job import LOCK, MANIFEST, TIMING, Job, prepare, require_lists
from adaptformer.batch_prediction.shard import PARTS, Computing, Device, Outcome
from adaptformer.data import workers as machine
from adaptformer.errors import UserError
from adaptformer.export.predictor import Predictor

log = logging.getLogger("adaptformer")

T = TypeVar("T")

SECONDS_BETWEEN_LOG_LINES = 15


@dataclass(frozen=True)
class Engine:
    """What computes: local, dask or ray; so many processes, 0 for what suits; the address of a cluster that is up."""

    name: str = "local"
    workers: int = 0
    address: str | None = None


@dataclass(frozen=True)
class Summary:
    """What a batch prediction made: where, of how many images, and what it took.

    `computed` images were predicted now, the others before, by so many `workers`, 0 for a cluster's; `seconds` are
    those of the computing, `parts` those of PARTS and `total`, summed over the processes.
    """

    folder: str
    images: int
    faults: int
    computed: int
    workers: int
    seconds: float
    parts: dict[str, float]

    def lines(self) -> list[str]:
        """Return it for people."""
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
    """Predict the images of `sources` into a folder or a bucket, or what is missing there, and return the summary.

    `unverified` is the predictor's. Raises UserError as the predictor, `job.prepare` and `run` do, and where another
    command works on a folder.
    """
    with alone(folder):
        Predictor(model, "cpu", 1, unverified=unverified)  # refused before it is copied and anything is listed
        return run(prepare(folder, sources, model, top, shard_size), engine, device, unverified=unverified)


def run(job: Job, engine: Engine, device: Device = "auto", *, unverified: bool = False) -> Summary:
    """Compute what is missing of a job, write its manifest and timing, and return the summary.

    Raises UserError where shards cannot be computed, and where not one image could be read.
    """
    workers = engine.workers or _processes(device)
    # Of a cluster's machines nothing is known here.
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
            log.warning("shard %d %s: it was computed again, as it was", outcome.shard, outcome.again)
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
            "none of the files is an image that has an answer", f"see the column `fault` in {job.folder}/predictions/"
        )
    return summary


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """Hold a folder for the body; a bucket has no locks, and two commands would only do the same twice."""
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
    """Return how many processes compute if nobody says: one a core, but one alone where there is a GPU to share."""
    gpu = device != "cpu" and any(Path("/dev").glob("nvidia[0-9]*"))
    return 1 if gpu else machine.cores()


def remove_leftovers(folder: str) -> None:
    """Remove what killed processes were just writing into a job's folder: every shard is there now."""
    if not storage.is_url(folder):
        for leftover in Path(folder).rglob(".*.partial*"):
            leftover.unlink(missing_ok=True)


def shown_with_rate(outcomes: Iterable[T], label: str, total: int, unit: str, size: Callable[[T], int]) -> Iterator[T]:
    """Yield the outcomes; a bar and, now and then, a log line say how many of `total` units are done."""
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
    """Write the manifest; say so where another one was there, for each shard is by now what it was written as."""
    there = storage.read(job.file(MANIFEST)) if storage.is_file(job.file(MANIFEST)) else content
    if there != content:
        log.warning("%s was not what was written: it is written again", job.file(MANIFEST))
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
