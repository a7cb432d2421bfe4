"""Where a checkout is, and where MLflow tracks its runs."""

from __future__ import annotations

import os
from pathlib import Path

from adaptformer.errors import UserError

SQLITE = "sqlite:///"


def root() -> Path:
    """Return the root of the checkout: the current folder, which holds params.yaml. Raises UserError elsewhere."""
    folder = Path.cwd()
    if not (folder / "params.yaml").is_file():
        raise UserError(f"{folder} holds no params.yaml", "run the command in the root of a checkout")
    return folder


def tracking_uri() -> str:
    """Return where MLflow tracks: MLFLOW_TRACKING_URI, else the SQLite database in the root of the checkout."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{root() / 'mlflow.db'}"


def database() -> Path | None:
    """Return the SQLite file that MLflow tracks in, None where it tracks elsewhere."""
    uri = tracking_uri()
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def mlflow_pages() -> str | None:
    """Return the address of MLflow's pages: the tracking server, or `make up`'s; None where neither is known."""
    uri = tracking_uri()
    return uri if uri.startswith("http") else os.environ.get("ADAPTFORMER_MLFLOW_PAGES")
