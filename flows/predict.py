"""The flow `adaptformer/predict`: predictions of very many images, in shards, by the champion."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from pathlib import Path
from typing import Literal

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from adaptformer.batch_prediction import job, running
from adaptformer.config import params
from adaptformer.config.run_folder import RunFolder
from adaptformer.registry import model_choice
from adaptformer.sharding.engines import Engine
from flows import flow_run, log_filter
from tasks.limits import slot

log_filter.install()
log = logging.getLogger("adaptformer")


@flow(name="adaptformer")
def predict(
    paths: list[str],
    into: str,
    model: str | None = None,
    top: int = 3,
    engine: Literal["local", "dask", "ray"] = "local",
    workers: int = 0,
    address: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    shard_size: int = job.SHARD_SIZE,
) -> str:
    """Write predictions of the images of `paths` (folders, lists, URLs) into the folder or bucket `into`; return it.

    `model` is `champion`, `v3`, `models:/NAME@ALIAS` or an ONNX file; by default the champion of registry.model, or the
    run folder's model if there is none. A repeated run with the same paths, model and folder computes the missing
    shards. With an `address` the shards go to a running Dask or Ray cluster; else the run waits for the concurrency
    limit `gpu`, unless `device` is cpu.
    """
    loaded = params.load()
    flow_run.label(loaded)
    with tempfile.TemporaryDirectory() as scratch:
        choice = model_choice.choose(model, RunFolder(), ask=True)
        log.info("%s", choice.line)
        file = model_choice.file_of(choice, RunFolder(), Path(scratch))
        computing = Engine(engine, workers, address)
        with contextlib.nullcontext() if address or device == "cpu" else slot("gpu", patience=None):
            summary = running.predict(into, paths, file, computing, top=top, shard_size=shard_size, device=device)
    lines = summary.lines()
    for line in lines:
        log.info("%s", line)
    create_markdown_artifact(key="predictions", markdown="\n\n".join(lines), description="A batch prediction")
    return summary.folder
