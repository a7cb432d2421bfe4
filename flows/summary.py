"""What a run came to, read from its files: as text for the terminal and as markdown for Prefect."""

from __future__ import annotations

import json
from dataclasses import dataclass

from adaptformer import text_table
from adaptformer.commands import adapter_summary
from adaptformer.params import Params
from adaptformer.registry.versions import Registration, present
from adaptformer.run_folder import RunFolder
from adaptformer.stage_runner import read_timing
from adaptformer.tracking.locations import root


@dataclass(frozen=True)
class Summary:
    """The result of a run folder."""

    top1: float
    top5: float
    loss: float
    parts: str
    backbone: str
    trained: int
    backbone_parameters: int
    training_seconds: float | None
    epochs: int
    registration: Registration | None
    ran: tuple[str, ...]
    decision: str

    @classmethod
    def of(cls, folder: RunFolder, params: Params, ran: tuple[str, ...], decision: str = "") -> Summary:
        """Read the summary of a complete run folder; `ran` are the stages that this run ran, `decision` the gate's."""
        metrics = json.loads(folder.metrics.read_text())
        card = adapter_summary.card(folder.adapter)
        return cls(
            top1=metrics["top1"],
            top5=metrics["top5"],
            loss=metrics["loss"],
            parts=adapter_summary.trained_parts(params.adapter, params.tuning),
            backbone=card["backbone"]["model"],
            trained=card["trained"],
            backbone_parameters=card["backbone"]["parameters"],
            training_seconds=read_timing(folder, "train").get("training_seconds"),
            epochs=len(folder.history.read_text().splitlines()) - 1,
            registration=present(folder, params.registry.model),
            ran=ran,
            decision=decision,
        )


def lines(summary: Summary, folder: RunFolder, tracking_uri: str) -> list[tuple[str, str]]:
    """Return the summary as pairs of what and how much, and where to look."""
    seconds = "" if summary.training_seconds is None else f" in {summary.training_seconds:.0f} s"
    option = f" --model {folder.model}" if folder.overridden else ""
    share = summary.trained / summary.backbone_parameters
    epochs = "1 epoch" if summary.epochs == 1 else f"{summary.epochs} epochs"
    rows = [
        ("accuracy", f"{summary.top1:.2%} top-1 on the test split (top-5 {summary.top5:.2%}, loss {summary.loss:.4f})"),
        ("trained", f"{summary.backbone}: {summary.parts}, {epochs}{seconds}"),
        ("trainable", f"{summary.trained:,} parameters, {share:.1%} of the backbone's {summary.backbone_parameters:,}"),
    ]
    if summary.registration:
        rows.append(("model", f"{summary.registration.model} version {summary.registration.version}"))
    if summary.decision:
        rows.append(("gate", summary.decision))
    rows += [
        ("pictures", f"{folder.curves.parent}/  (curves, confusion, per class, calibration, examples)"),
        ("report", str(folder.report)),
        ("ONNX file", f"{folder.model}  ->  .venv/bin/adaptformer predict{option} PATH..."),
        ("MLflow", _mlflow(tracking_uri)),
        ("Prefect", "make up, then http://127.0.0.1:4200"),
    ]
    return rows


def _mlflow(tracking_uri: str) -> str:
    if not tracking_uri.startswith("sqlite:"):
        return tracking_uri
    return f".venv/bin/mlflow ui --backend-store-uri {tracking_uri.replace(f'{root()}/', '')}  (or `make up`)"


def text(summary: Summary, folder: RunFolder, tracking_uri: str) -> str:
    """Return the summary as aligned lines for a terminal."""
    return "\n".join(f"  {name:<10} {value}" for name, value in lines(summary, folder, tracking_uri))


def markdown(summary: Summary) -> str:
    """Return the numbers as a markdown table, for Prefect's page of the run."""
    model = summary.registration
    rows = [
        ("top-1", f"{summary.top1:.4f}"),
        ("top-5", f"{summary.top5:.4f}"),
        ("loss", f"{summary.loss:.4f}"),
        ("stages run", ", ".join(summary.ran) or "none, all current"),
        ("model version", f"{model.model} {model.version}" if model else "not registered"),
        ("gate", summary.decision or "not asked"),
        ("MLflow run", model.run_id if model else "-"),
    ]
    return text_table.markdown(rows, ("", ""))
