"""The result of a run, read from its files, as text for the terminal and as a table in Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptformer.base import integrity, text_table
from adaptformer.config import describe
from adaptformer.config.params import Params
from adaptformer.config.run_folder import RunFolder
from adaptformer.evaluation import leaks, power
from adaptformer.pipeline import adapter_metadata
from adaptformer.pipeline.stage_runner import read_timing
from adaptformer.registry import local_record
from adaptformer.registry.versions import Registration, present
from adaptformer.training import history


@dataclass(frozen=True)
class Summary:
    """The result of a run folder."""

    metrics: Mapping[str, Any]
    parts: str
    card: Mapping[str, Any]
    training_seconds: float | None
    epochs: int
    longer: str
    """A proposal of more epochs, "" if there is none (adapter_metadata.longer)."""
    registration: Registration | None
    ran: tuple[str, ...]
    decision: str
    significance: float = power.LEVEL
    run_id: str | None = None
    """The MLflow run that this run logged to, None if it logged nothing."""

    @classmethod
    def of(
        cls, folder: RunFolder, params: Params, ran: tuple[str, ...], decision: str = "", run_id: str | None = None
    ) -> Summary:
        """Read the summary of a complete run folder; `ran` are the stages that this run ran, `decision` the gate's."""
        card, rows = adapter_metadata.card(folder.adapter), history.read(folder.history)
        return cls(
            metrics=integrity.read_record(folder.metrics, "run `adaptformer evaluate`"),
            parts=describe.trained_parts(params.adapter, params.training),
            card=card,
            training_seconds=read_timing(folder, "train").get("training_seconds"),
            epochs=len(rows),
            longer=adapter_metadata.longer(card, rows),
            registration=(registered := present(folder, params.registry.model)),
            ran=ran,
            decision=decision or verdict(registered),
            significance=params.gate.significance,
            run_id=run_id,
        )


def verdict(registered: Registration | None) -> str:
    """Return the recorded verdict of the gate on a model that was not judged in this run."""
    if registered is None:
        return "not asked: this model is not registered; --register registers it"
    record = local_record.read(registered.model)
    if record is None or registered.version not in record.versions:
        return f"its verdict on version {registered.version} is not known here: `make history` asks MLflow"
    state = f"version {registered.version}, {record.verdict(registered.version)}"
    if not record.versions[registered.version].verdict and record.champion != registered.version:
        return f"{state}; `make promote` asks the gate"
    other = record.champion and record.champion != registered.version
    return f"{state}; version {record.champion} is {record.verdict(str(record.champion))}" if other else state


def lines(summary: Summary, folder: RunFolder, tracking_place: str) -> list[tuple[str, str]]:
    """Return the summary as pairs of a name and a value: first the figures, then the places of files and pages."""
    seconds = "" if summary.training_seconds is None else f" in {summary.training_seconds:.0f} s"
    option = f" --model {folder.model}" if folder.isolated else ""
    trained, backbone = summary.card["trained"], summary.card["backbone"]
    share = f"{trained / backbone['parameters']:.1%} of the backbone's {backbone['parameters']:,}"
    epochs = "1 epoch" if summary.epochs == 1 else f"{summary.epochs} epochs"
    accuracy = "{top1:.2%} top-1 on the test split (top-5 {top5:.2%}, loss {loss:.4f})"
    images = summary.metrics.get("independent_images", summary.metrics["images"])
    rows = [
        ("accuracy", accuracy.format_map(summary.metrics)),
        ("leaks", leaks.sentence(summary.metrics)),
        ("can show", power.sentence(images, summary.metrics["top1"], summary.significance)),
        ("trained", f"{backbone['model']}: {summary.parts}, {epochs}{seconds}"),
        *([("epochs", summary.longer)] if summary.longer else []),
        ("trainable", f"{trained:,} parameters, {share}"),
    ]
    if summary.registration:
        rows.append(("model", f"{summary.registration.model} version {summary.registration.version}"))
    rows += [
        ("gate", summary.decision),
        ("pictures", f"{folder.curves.parent}/  (curves, confusion, per class, calibration, examples)"),
        ("report", str(folder.report)),
        ("ONNX file", f"{folder.model}  ->  {_program('adaptformer')} predict{option} PATH..."),
        ("MLflow", _mlflow(tracking_place)),
        ("Prefect", "make up, which prints its address"),
    ]
    return rows


def _mlflow(tracking_place: str) -> str:
    if not tracking_place.startswith("sqlite:"):
        return tracking_place
    return f"{_program('mlflow')} ui --backend-store-uri {shlex.quote(tracking_place)}  (or `make up`)"


def _program(name: str) -> str:
    """Return how a program is called from a terminal: by its path, if the project has an environment of its own."""
    own = Path(".venv", "bin", name)
    return str(own) if own.is_file() else name


def text(summary: Summary, folder: RunFolder, tracking_place: str) -> str:
    """Return the summary as aligned lines for a terminal."""
    return "\n".join(f"  {name:<10} {value}" for name, value in lines(summary, folder, tracking_place))


def markdown(summary: Summary) -> str:
    """Return the numbers as a table in Markdown."""
    model = summary.registration
    rows = [
        *(
            (name, f"{summary.metrics[key]:.4f}")
            for name, key in (("top-1", "top1"), ("top-5", "top5"), ("loss", "loss"))
        ),
        ("leaks", leaks.sentence(summary.metrics)),
        ("stages run", ", ".join(summary.ran) or "none, all current"),
        ("model version", f"{model.model} {model.version}" if model else "not registered"),
        ("gate", summary.decision),
        ("MLflow run", model.run_id if model else "-"),
    ]
    return text_table.markdown(rows, ("", ""))
