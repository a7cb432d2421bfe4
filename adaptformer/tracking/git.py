"""Git's information on the current folder: the commit or why there is none, uncommitted changes, the user's name."""

from __future__ import annotations

import getpass
import logging
import os
import shlex
import subprocess
from pathlib import Path

log = logging.getLogger("adaptformer")

NOT_OURS = "git refuses a repository that belongs to another user"
"""Git calls this "dubious ownership"; a mount, a container or `sudo` can cause it."""
_REASONS = {
    "dubious ownership": NOT_OURS,
    "not a git repository": "no git repository",
    "single revision": "no commit yet",
}
"""Reasons why there is no commit, by git's message."""


def short_commit() -> str:
    """Return the first eight digits of the commit, for names of runs; "none" without git or before the first commit."""
    return (_git("rev-parse", "--verify", "HEAD") or "none")[:8]


def committed(file: str) -> str | None:
    """Return the text of a file of the current folder as it is in the commit, None if there is none."""
    return _git("show", f"HEAD:./{file}")


def git_tags() -> dict[str, str]:
    """Return, as tags of an MLflow run, the commit and whether tracked or new files except dvc.lock differ from it.

    dvc.lock is rewritten on every machine whose results differ in their last bits, so it says nothing about the code.
    Without a commit the first tag holds the reason, and there is no second one.
    """
    commit = _git("rev-parse", "--verify", "HEAD")
    if commit is None:
        reason = _reason()
        if reason == NOT_OURS:
            log.warning("%s: runs are tracked without a commit (fix: %s)", reason, trusting(str(Path.cwd())))
        return {"git.commit": f"none: {reason}"}
    changes = _git("status", "--porcelain", "--", ".", ":(exclude)dvc.lock")
    return {"git.commit": commit, "git.dirty": str(bool(changes)).lower()}


def trusting(folder: str) -> str:
    """Return a remedy with the command that makes git trust a repository of another user."""
    return f"if you trust it, run `git config --global --add safe.directory {shlex.quote(folder)}`"


def user_name() -> str:
    """Return the user's name from git, or else from the system."""
    if name := _git("config", "user.name"):
        return name
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container may run under a user id without a name
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def _reason() -> str:
    """Return why there is no commit."""
    try:
        message = _asked("rev-parse", "--verify", "HEAD").stderr
    except OSError:
        return "git is not installed"
    known = next((reason for words, reason in _REASONS.items() if words in message), None)
    return known or " ".join(message.split())[:100]


def _git(*arguments: str) -> str | None:
    try:
        done = _asked(*arguments)
    except OSError:
        return None
    return None if done.returncode else done.stdout.strip()


def _asked(*arguments: str) -> subprocess.CompletedProcess[str]:
    plain = {**os.environ, "LC_ALL": "C"}  # its messages are compared with English words
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, env=plain)
