"""Files and numbers of a run folder that are logged to MLflow, and tracking.json, which names the MLflow run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptformer.base import files
from adaptformer.config.run_folder import RunFolder
from adaptformer.prediction import model_file
from adaptformer.tracking.locations import place, tracking_place

MODEL_TAG = "model.sha256"
FILES = (
    "report", "model_card", "data_report", "manifest", "adapter", "backbone_card", "parity", "metrics", "history",
    "predictions", "profile", "findings",
)  # fmt: skip
PICTURES = ("curves", "confusion", "per_class", "calibration", "examples")
EVIDENCE = ("manifest", "adapter", "metrics", "predictions", "parity", "findings", "profile")
"""Files of a run on which a model is judged; a version's tags NAME.sha256 hold their hashes."""
LINEAGE_OF_BACKBONE = ("model", "sha256", "source_sha256", "licence")


def artifacts(folder: RunFolder) -> list[tuple[Path, str]]:
    """Return the files of a run that exist and are logged, each with its folder among the artifacts, "" for the top."""
    candidates = [(getattr(folder, name), "") for name in FILES] + [
        (getattr(folder, name), "plots") for name in PICTURES
    ]
    return [(path, place) for path, place in candidates if path.is_file()]


def numbers(folder: RunFolder) -> dict[str, float]:
    """Return the test metrics as `test_NAME`, and the timing that the stages report as `timing.STAGE.NAME`."""
    numbers_by_name = {f"test_{key}": value for key, value in _numbers(folder.metrics).items()}
    for timing in sorted(folder.timing("train").parent.glob("*.json")):
        numbers_by_name |= {f"timing.{timing.stem}.{key}": value for key, value in _numbers(timing).items()}
    return numbers_by_name


def _numbers(path: Path) -> dict[str, float]:
    content: Mapping[str, Any] = json.loads(path.read_text())
    return {k: v for k, v in content.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


def lineage(folder: RunFolder) -> dict[str, str]:
    """Return tags that identify the backbone, the evidence and the model itself, as far as they exist."""
    tags = {}
    if folder.backbone_card.is_file():
        card = json.loads(folder.backbone_card.read_text())
        tags = {f"backbone.{key}": str(card[key]) for key in LINEAGE_OF_BACKBONE}
    for name in EVIDENCE:
        if (path := getattr(folder, name)).is_file():
            tags[f"{name}.sha256"] = files.sha256_file(path)
    if folder.model.is_file():
        tags[MODEL_TAG] = model_file.sha256(folder.model)
    return tags


def sha256(folder: RunFolder) -> str:
    """Return one hash over the model and all files that are logged: equal results have equal hashes.

    Raises OSError if the model, the metrics or the history are missing.
    """
    paths = {folder.metrics, folder.history, *(path for path, _ in artifacts(folder))}
    hashes = {path.name: files.sha256_file(path) for path in paths}
    return files.sha256_text(files.canonical_json({**hashes, folder.model.name: model_file.sha256(folder.model)}))


def remember(folder: RunFolder, run_id: str, *, finished: bool) -> None:
    """Record in tracking.json the store and the run that hold the folder's results, and whether the run is finished."""
    files.write_json(folder.tracking, {**_note(folder), "run_id": run_id, "finished": finished})


def run_of(folder: RunFolder) -> str | None:
    """Return the id of the run with the folder's present results at the tracking address, None if there is none."""
    return _present(folder)[0]


def is_tracked(folder: RunFolder) -> bool:
    """Return whether the folder's present results are logged at the tracking address, in a run that is finished."""
    run_id, finished = _present(folder)
    return run_id is not None and finished


def is_unfinished(folder: RunFolder) -> bool:
    """Return whether the folder's present results are logged in a run that was stopped before it was finished."""
    run_id, finished = _present(folder)
    return run_id is not None and not finished


def _present(folder: RunFolder) -> tuple[str | None, bool]:
    """Return the id of the run with the folder's present results, None if there is none, and whether it is finished."""
    try:
        note = json.loads(folder.tracking.read_text())
        run_id, finished = str(note.pop("run_id")), bool(note.pop("finished", True))
        note["tracking_uri"] = place(note["tracking_uri"])
        return (run_id if note == _note(folder) else None), finished
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None, False


def _note(folder: RunFolder) -> dict[str, str]:
    return {"tracking_uri": tracking_place(), "results_sha256": sha256(folder)}
