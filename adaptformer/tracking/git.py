"""What git says about the current folder: the commit, changes that are not committed, the user's name."""

from __future__ import annotations

import getpass
import os
import subprocess


def short_commit() -> str:
    """Return the first eight digits of the commit, for names of runs; "none" without git or before the first commit."""
    return _commit()[:8]


def git_tags() -> dict[str, str]:
    """Return, as tags of an MLflow run, the commit and whether tracked or new files differ from it, dvc.lock aside.

    dvc.lock is rewritten on every machine whose results differ in their last bits, so it says nothing about the code.
    Without a commit the tree counts as dirty.
    """
    commit = _commit()
    changes = _git("status", "--porcelain", "--", ".", ":(exclude)dvc.lock")
    return {"git.commit": commit, "git.dirty": str(commit == "none" or bool(changes)).lower()}


def user_name() -> str:
    """Return the user's name as git knows it, else as the system does."""
    if name := _git("config", "user.name"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a user id without a name
        return f"uid {os.getuid()}"


def _commit() -> str:
    return _git("rev-parse", "--verify", "HEAD") or "none"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
