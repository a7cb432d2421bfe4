"""Locations of the checkout and of MLflow's tracking store."""

from __future__ import annotations

import os
import re
from pathlib import Path

from adaptformer.base.errors import UserError, without_credentials

SQLITE = "sqlite:///"
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
"""The folder beside a local database that holds the files of its runs and models."""


def root() -> Path:
    """Return the root of the checkout: the current folder, which holds params.yaml. Raises UserError elsewhere."""
    folder = Path.cwd()
    if not (folder / "params.yaml").is_file():
        raise UserError(
            f"{folder} holds no params.yaml",
            "run the command in the folder of a project: `adaptformer init DIR` makes one",
        )
    return folder


def tracking_uri() -> str:
    """Return MLflow's tracking address: MLFLOW_TRACKING_URI, else the SQLite database in the root of the checkout.

    It may hold a password and is for connecting only: store and show `tracking_place` instead. Raises UserError for an
    address that lacks its http://.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI", "").strip():
        if re.match(r"[\w.-]+:\d+(/|$)", uri):  # MLflow takes it for a folder
            raise UserError(f"MLFLOW_TRACKING_URI={uri} lacks http://", f"set it to http://{uri}")
        return uri
    file = root() / DATABASE
    # In an address ? # and % have a meaning; the path relative to the current folder has none of them.
    plain = re.fullmatch(r"[-\w/. ]+", str(file))
    return f"{SQLITE}{file if plain else DATABASE}"


def tracking_place() -> str:
    """Return MLflow's tracking address without credentials: the same text for every user."""
    return place(tracking_uri())


def place(uri: str) -> str:
    """Return a tracking address without credentials.

    The address of a database in the checkout is relative to the checkout's root, so that moving the checkout does not
    change it.
    """
    if uri.startswith(SQLITE):
        file = Path(uri.removeprefix(SQLITE))
        return f"{SQLITE}{file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}"
    return without_credentials(uri)


def database() -> Path | None:
    """Return the SQLite file that MLflow tracks in, None if it tracks elsewhere."""
    uri = tracking_uri()
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def has_database() -> bool:
    """Return whether MLflow tracks in a database in the checkout, which is moved and copied with it."""
    file = database()
    return file is not None and file.resolve().is_relative_to(root().resolve())


def mlflow_pages() -> str | None:
    """Return the address of the tracking server's or `make up`'s MLflow pages without credentials; None if unknown."""
    uri = tracking_uri()
    return without_credentials(uri) if uri.startswith("http") else os.environ.get("ADAPTFORMER_MLFLOW_PAGES")
