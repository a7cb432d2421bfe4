"""The files of a project, which setup.py reads as well, before any other package is there.

Each stands in the root of the library's checkout, so there is no second copy of it.
"""

from __future__ import annotations

FOLDERS = ("flows", "tasks")
"""Folders whose Python files are taken whole; a project may change them."""

FILES = {
    "params.yaml": "params.yaml",
    "dvc.yaml": "dvc.yaml",
    "data.dvc": "data.dvc",
    "prefect.yaml": "prefect.yaml",
    "prefect.toml": "prefect.toml",
    "Makefile": "project.mk",
    ".gitignore": ".gitignore",
    ".dvcignore": ".dvcignore",
    ".dvc/config": ".dvc/config",
    ".dvc/.gitignore": ".dvc/.gitignore",
}
"""The source of each other file, by its name in a project."""
