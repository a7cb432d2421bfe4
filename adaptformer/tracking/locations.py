"""Where a checkout is, and where MLflow tracks its runs."""

from __future__ import annotations

import os
import re
from pathlib import Path

from adaptformer.errors import UserError, without_credentials

SQLITE = "sqlite:///"
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
"""The folder beside a local database that holds the files of its runs and models."""
FOLDER_TAG = "adaptformer.folder"
"""The tag of a run in MLflow that names its run folder: an absolute path."""


def root() -> Path:
    """Return the root of the checkout: the current folder, which holds params.yaml. Raises UserError elsewhere."""
    folder = Path.cwd()
    if not (folder / "params.yaml").is_file():
        raise UserError(f"{folder} holds no params.yaml", "run the command in the root of a checkout")
    return folder


def tracking_uri() -> str:
    """Return where MLflow tracks: MLFLOW_TRACKING_URI, else the SQLite database in the root of the checkout.

    It may hold a password, and is for connecting only: what is stored or shown is `tracking_place`. Raises UserError
    for an address that lacks its http://.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI", "").strip():
        if re.match(r"[\w.-]+:\d+(/|$)", uri):  # MLflow takes it for a folder
            raise UserError(f"MLFLOW_TRACKING_URI={uri} lacks http://", f"set it to http://{uri}")
        return uri
    file = root() / DATABASE
    # In an address ? # and % mean something; relative to the current folder the path has none of them.
    plain = re.fullmatch(r"[-\w/. ]+", str(file))
    return f"{SQLITE}{file if plain else DATABASE}"


def tracking_place() -> str:
    """Return where MLflow tracks, without credentials: one text for one place, whoever asks."""
    return place(tracking_uri())


def place(uri: str) -> str:
    """Return a tracking address without credentials.

    That of a database in the checkout is relative to its root, so that a checkout that is moved stays the same place.
    """
    if uri.startswith(SQLITE):
        file = Path(uri.removeprefix(SQLITE))
        return f"{SQLITE}{file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}"
    return without_credentials(uri)


def database() -> Path | None:
    """Return the SQLite file that MLflow tracks in, None where it tracks elsewhere."""
    uri = tracking_uri()
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def mlflow_pages() -> str | None:
    """Return where MLflow's pages are, without credentials: the tracking server, or `make up`'s; None if unknown."""
    uri = tracking_uri()
    return without_credentials(uri) if uri.startswith("http") else os.environ.get("ADAPTFORMER_MLFLOW_PAGES")
