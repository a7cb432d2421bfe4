"""Check that the results in a run folder belong to its model, by the hashes in its parity and metrics files.

If a model has changed since it was judged, even by one bit, the recorded accuracy is not its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adaptformer.base import files, integrity
from adaptformer.base.errors import UserError
from adaptformer.config.run_folder import RunFolder
from adaptformer.prediction import model_file


def require(folder: RunFolder) -> None:
    """Raise UserError, which names the stage to run, unless all results of a run folder belong to its model.

    metrics.json holds the hashes of the adapter, the manifest and the predictions that it describes; parity.json those
    of the adapter and the model.
    """
    metrics, parity = _about(folder.metrics, "evaluate"), _about(folder.parity, "export")
    present = {name: _sha256(getattr(folder, name), stage) for name, stage in _MADE_BY.items()}
    model = _sha256(folder.model, "export", model_file.sha256)
    for record, name, expected, actual, stage in (
        (folder.metrics, "adapter", metrics.get("adapter"), present["adapter"], "evaluate"),
        (folder.metrics, "manifest", metrics.get("manifest"), present["manifest"], "validate"),
        (folder.metrics, "predictions", metrics.get("predictions"), present["predictions"], "evaluate"),
        (folder.parity, "adapter", parity.get("adapter"), present["adapter"], "export"),
        (folder.parity, "model", parity.get("model"), model, "export"),
    ):
        if expected != actual:
            raise UserError(f"{getattr(folder, name)} is not the file that {record} is about", _remedy(stage))


_MADE_BY = {"manifest": "validate", "adapter": "train", "predictions": "evaluate"}


def _about(path: Path, stage: str) -> dict[str, Any]:
    return dict(integrity.read_record(path, _remedy(stage)).get("about", {}))


def _sha256(path: Path, stage: str, of: Any = files.sha256_file) -> str:
    try:
        return str(of(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", _remedy(stage)) from error


def _remedy(stage: str) -> str:
    return f"run `adaptformer {stage}`, then the same command again"
