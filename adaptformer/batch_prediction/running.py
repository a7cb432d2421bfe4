"""A whole batch prediction: prepares the job, computes its shards with an engine, and writes the manifest last."""

from __future__ import annotations

import functools
import json
import logging
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from adaptformer.base import csv_file, memory, progress
from adaptformer.base.errors import UserError
from adaptformer.batch_prediction import shard
from adaptformer.batch_prediction.job import MANIFEST, TIMING, Job, prepare
from adaptformer.batch_prediction.shard import PARTS, Device, Outcome, WorkerOptions
from adaptformer.data import storage, thread_map
from adaptformer.prediction.predictor import Predictor
from adaptformer.sharding import job_folder
from adaptformer.sharding.engines import Engine

log = logging.getLogger("adaptformer")


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
        summary = [
            f"{self.images:,} images are in {self.folder}/predictions/, {self.faults:,} of them without an answer"
        ]
        if not self.computed:
            return [*summary, "all were there already"]
        rate = self.computed / self.seconds
        summary.append(f"{self.computed:,} predicted in {self.seconds:.1f} s, {rate:,.0f} images/s")
        shares = ", ".join(f"{part} {seconds * 1e6 / self.computed:,.0f}" for part, seconds in self.parts.items())
        return [*summary, f"seconds of a process for a million images: {shares}"]


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
    with job_folder.alone(folder):
        Predictor(model, "cpu", 1, unverified=unverified)  # refuses a bad model before it is copied and images listed
        return run(prepare(folder, sources, model, top, shard_size), engine, device, unverified=unverified)


def run(job: Job, engine: Engine, device: Device = "auto", *, unverified: bool = False) -> Summary:
    """Compute the missing shards of a job, write its manifest and timing, and return the summary.

    Raises UserError if shards cannot be computed, and if no image has a prediction.
    """
    processes = engine.workers or usual_processes(device)
    work = functools.partial(shard.predict, job, WorkerOptions(device, engine.threads(processes), unverified))
    began = time.perf_counter()
    done = engine.computed(work, job.shards, processes)
    shown = progress.logged(done, "predicting", job.images, "images", lambda outcome: outcome.images)
    outcomes = sorted(shown, key=lambda outcome: outcome.shard)
    seconds = time.perf_counter() - began
    job.require_lists(outcome.input for outcome in outcomes)
    for outcome in outcomes:
        if outcome.again:
            log.warning("shard %d %s: it was computed again, with the same result", outcome.shard, outcome.again)
    computed = [outcome for outcome in outcomes if outcome.seconds]
    parts = {part: round(sum(one.seconds[part] for one in computed), 3) for part in (*PARTS, "total")}
    summary = Summary(
        job.folder, sum(one.images for one in outcomes), sum(one.faults for one in outcomes),
        sum(one.images for one in computed), 0 if engine.address else processes, round(seconds, 3), parts,
    )  # fmt: skip
    with storage.user_errors(job.folder):
        _write_manifest(job, _manifest(outcomes))
        if computed:
            storage.write(job.file(TIMING), _timing(summary, engine))
    job_folder.remove_leftovers(job.folder)
    if summary.faults == summary.images:
        raise UserError(
            "none of the files is an image with a prediction", f"see the column `fault` in {job.folder}/predictions/"
        )
    return summary


def usual_processes(device: Device) -> int:
    """Return the default number of processes: one per core, but only one if there is a GPU, which they would share."""
    gpu = device != "cpu" and any(Path("/dev").glob("nvidia[0-9]*"))
    return 1 if gpu else thread_map.cores()


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
