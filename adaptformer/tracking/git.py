"""What git says about the current folder: the commit, changes that are not committed, the user's name."""

from __future__ import annotations

import getpass
import os
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class GitState:
    """The commit that a run starts from, and whether the working tree differs from it."""

    commit: str
    dirty: bool

    @property
    def short(self) -> str:
        """The first eight digits of the commit, for names of runs."""
        return self.commit[:8]

    @property
    def tags(self) -> dict[str, str]:
        """The state as tags of an MLflow run."""
        return {"git.commit": self.commit, "git.dirty": str(self.dirty).lower()}


def git_state() -> GitState:
    """Return the commit and whether tracked or new files differ from it, dvc.lock aside.

    dvc.lock is rewritten on every machine whose results differ in their last bits, so it says nothing about the code.
    Without git, or before the first commit, the commit is "none" and the tree counts as dirty.
    """
    commit = _git("rev-parse", "--verify", "HEAD")
    changes = _git("status", "--porcelain", "--", ".", ":(exclude)dvc.lock")
    return GitState(commit or "none", dirty=commit is None or bool(changes))


def user_name() -> str:
    """Return the user's name as git knows it, else as the system does."""
    if name := _git("config", "user.name"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a user id without a name
        return f"uid {os.getuid()}"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
