"""The results of a training run: its files and its timing."""

from __future__ import annotations

from typing import Any

from adaptformer.base import memory
from adaptformer.config.params import AdapterParams
from adaptformer.config.run_folder import RunFolder
from adaptformer.model import adapter_file, classifier, device
from adaptformer.training import history, resume
from adaptformer.training.loop import Trained
from adaptformer.training.run import Run
from adaptformer.training.setup import Training


def write(folder: RunFolder, start: Training, run: Run, adapter: AdapterParams, trained: Trained) -> None:
    """Write the adapter file of the best epoch, the history, and the curves; then remove the saved state."""
    checkpoint = run.checkpoint
    card = adapter_file.AdapterCard(
        adapter=adapter.model_dump(mode="json"),
        classes=start.classes,
        image=start.contract,
        backbone=start.backbone,
        precision=start.precision,
        epoch=trained.best + 1,
        trained=sum(parameter.numel() for parameter in classifier.trainable(run.model).values()),
        codes=resume.codes(checkpoint.path, checkpoint.fingerprint),
    )
    adapter_file.write(folder.adapter, run.model, card)
    history.write(folder.history, trained.rows)
    history.draw(folder.curves, trained.rows, trained.rows[trained.best])
    resume.remove(checkpoint.path)


def timing(run: Run, trained: Trained, seconds: float) -> dict[str, Any]:
    """Return the timing of a training that took `seconds`, with device, threads, processes, kept features."""
    compute = run.compute
    facts: dict[str, Any] = {
        "training_seconds": round(seconds, 3),
        "epochs": len(trained.rows),
        "device": device.describe(compute.device),
        "threads": device.threads(),
    }
    if run.params.fixed_crops and run.activation_cache.read:
        facts["features_from_earlier_run"] = True
    if compute.device.type == "cuda":
        facts["gpu_memory_mb"] = device.peak_memory_mb(compute.device)
    if compute.world.size > 1:
        facts |= {"processes": compute.world.size, "peak_memory_mb": memory.peak_mb()}
    return facts
