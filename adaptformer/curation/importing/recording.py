"""The record of data/ in data.dvc."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from adaptformer.base import dvc_without_git, files
from adaptformer.base.errors import UserError


def dvc_add(data: Path) -> bool:
    """Record `data` with `dvc add`; return False if its parent is not a DVC repository. Raises UserError on failure."""
    root = data.absolute().parent
    if not (root / ".dvc").is_dir():
        return False
    dvc_without_git.settle(root)
    command = [sys.executable, "-m", "dvc", "add", data.name]  # with --quiet it would give no reason
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        message = done.stderr[max(0, done.stderr.find("ERROR:")) :]
        reason = " ".join(message.split()) or f"exit code {done.returncode}"
        refused = files.refusal(RuntimeError(reason))
        remedy = f"{refused.remedy.partition(',')[0]}, then" if refused else "fix that, then"
        raise UserError(f"`dvc add {data.name}` failed: {reason}", f"{remedy} run `dvc add {data.name}` in {root}")
    return True


def is_recorded(data: Path) -> bool:
    """Return whether `dvc_add` records `data`, that is, whether its parent is a DVC repository."""
    return (data.absolute().parent / ".dvc").is_dir()
