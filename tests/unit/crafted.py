"""Run folders made by hand, with small files in place of what a training leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptformer.base import files, integrity
from adaptformer.config.run_folder import RunFolder
from adaptformer.tracking import run_files
from adaptformer.training import history
from adaptformer.training.history import EpochRow

if TYPE_CHECKING:
    from mlflow import MlflowClient

ROW = EpochRow(
    round=1, phase=1, epoch=1, lr=0.1, train_loss=2.0, train_top1=0.3, val_loss=2.1, val_top1=0.2,
    val_balanced_accuracy=0.2, val_macro_f1=0.1, rolled_back=0,
)  # fmt: skip
CARD = {"model": "mite", "sha256": "b" * 64, "source_sha256": "c" * 64, "licence": "mit"}

CALLS = ("create_run", "log_batch", "log_inputs", "set_tag", "log_artifact", "set_terminated")
"""What writes to a run in MLflow."""


def row(epoch: int) -> EpochRow:
    return EpochRow(**{**vars(ROW), "epoch": epoch, "train_loss": 3.0 - epoch})


def manifest(*images: tuple[str, str, str]) -> str:
    """The manifest of images given as path, split and content; the label is the folder's name."""
    lines = ["path,label,split,width,height,mode,bytes,sha256"]
    lines += [f"{path},{path.split('/')[-2]},{split},8,8,L,9,{files.sha256_text(text)}" for path, split, text in images]
    return "\n".join(lines) + "\n"


def run_folder(
    root: Path, epochs: int = 2, top1: float = 0.75, images: tuple[tuple[str, str, str], ...] = ()
) -> RunFolder:
    """A run folder with every file that is logged."""
    folder = RunFolder(root)
    for path, _ in [(getattr(folder, name), "") for name in (*run_files.FILES, *run_files.PICTURES, "model")]:
        files.write_text(path, f"{path.name} of {top1}\n")
    files.write_text(folder.manifest, manifest(*images))
    files.write_json(folder.backbone_card, CARD)
    integrity.write_record(folder.metrics, {"top1": top1, "top5": 1.0, "loss": 0.5, "per_class": []})
    files.write_json(folder.timing("train"), {"seconds": 1.5, "device": "cpu"})
    history.write(folder.history, [row(epoch) for epoch in range(1, epochs + 1)])
    return folder


def runs(client: MlflowClient) -> list[Any]:
    """All runs in MLflow that are not deleted."""
    return list(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))


def steps(client: MlflowClient, run_id: str, name: str = "train_loss") -> list[tuple[int, float]]:
    """Every step and value that is logged of a number."""
    return [(point.step, point.value) for point in client.get_metric_history(run_id, name)]


def files_of(client: MlflowClient, run_id: str) -> set[str]:
    """The files of a run, those in plots/ included."""
    return {file.path for place in (None, "plots") for file in client.list_artifacts(run_id, place)}
