"""Prefect flows, and the commands that start them: `make run`, `make compare`, `make up`."""

from pathlib import Path

from adaptformer.base import environment

environment.prepare()

ROOT = Path(__file__).resolve().parents[1]
"""The root of the project: flows belong to it and are not part of the library."""


def prefect_database(home: str) -> str:
    """Return the address of the SQLite file in Prefect's folder `home`, for a server that is started in ROOT.

    It is relative to ROOT if possible, because Prefect cuts its own default address at a question mark in the path.
    """
    folder = Path(home)
    return f"sqlite+aiosqlite:///{folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder}/prefect.db"
