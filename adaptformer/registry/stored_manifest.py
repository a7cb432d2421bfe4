"""The manifest of a registered version, out of its MLflow run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from adaptformer.data import manifest as manifests
from adaptformer.registry import versions

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "manifest.sha256"
"""The tag of a version and of its run; versions of before have none."""


def read(client: MlflowClient, version: Any, into: Path) -> pd.DataFrame | None:
    """Return the manifest of a version, downloaded into a folder below `into`; None if its run has none.

    Raises UserError for a manifest that is not the one with which the version was registered.
    """
    path = versions.artifact(client, version.run_id, "manifest.csv", into)
    if path is None:
        return None
    remedy = f"register the run of version {version.version} again, whose manifest in MLflow was changed"
    return manifests.read_stored(path, version.tags.get(TAG), remedy)
