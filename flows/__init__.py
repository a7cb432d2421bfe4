"""Prefect flows, and the commands that start them: `make run`, `make compare`, `make up`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The root of the checkout: flows belong to it and are no part of the wheel."""


def prefect_database(home: str) -> str:
    """Return the address of the SQLite file in Prefect's folder `home`, as a server finds it that is started in ROOT.

    It is relative to ROOT where it can be: Prefect's own one is cut at a question mark in the path.
    """
    folder = Path(home)
    return f"sqlite+aiosqlite:///{folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder}/prefect.db"
