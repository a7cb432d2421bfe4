"""Where a checkout keeps what its runs record, and what git says about it."""

from __future__ import annotations

import getpass
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from adaptformer import files

ROOT = Path(__file__).resolve().parents[2]
"""The root of the checkout that this code lies in."""


def tracking_uri() -> str:
    """Return where MLflow tracks: MLFLOW_TRACKING_URI, else the SQLite database at the checkout's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{ROOT / 'mlflow.db'}"


def mlflow_pages() -> str | None:
    """Return the address of MLflow's pages: the tracking server, or `make up`'s; None where neither is known."""
    uri = tracking_uri()
    return uri if uri.startswith("http") else os.environ.get("ADAPTFORMER_MLFLOW_PAGES")


def promotion_lock(name: str) -> Path:
    """Return the file that promotions of the model `name` lock: beside a local database, else at the root."""
    uri = tracking_uri()
    database = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else ROOT / "mlflow.db"
    return database.with_name(f"{database.name}.{files.sha256_text(name)[:12]}.lock")


def who_asks() -> str:
    """Return who is at work here: git's user name, else the system's."""
    if name := _git("config", "user.name"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return f"uid {os.getuid()}"


@dataclass(frozen=True)
class GitState:
    """The commit that a run starts from, and whether the working tree differs from it."""

    commit: str
    dirty: bool

    @property
    def short(self) -> str:
        """The first eight digits of the commit, as names of runs show it."""
        return self.commit[:8]


def git_state() -> GitState:
    """Return the commit and whether tracked or new files differ from it; dvc.lock is not looked at.

    dvc.lock is rewritten on every machine whose results differ in their last bits, so it says nothing about the code.
    Without git, or before the first commit, the commit is "none" and the tree counts as dirty.
    """
    commit = _git("rev-parse", "--verify", "HEAD")
    changes = _git("status", "--porcelain", "--", ".", ":(exclude)dvc.lock")
    return GitState(commit or "none", dirty=commit is None or bool(changes))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
