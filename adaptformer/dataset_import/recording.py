"""The record of data/ in data.dvc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from adaptformer.errors import UserError


def dvc_add(data: Path) -> bool:
    """Record `data` with `dvc add`; return False where its parent is no DVC repository. Raises UserError on failure."""
    root = data.absolute().parent
    if not (root / ".dvc").is_dir():
        return False
    command = [sys.executable, "-m", "dvc", "add", "--quiet", data.name]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise UserError(
            f"`dvc add {data.name}` failed: {reason}", f"fix that, then run `dvc add {data.name}` in {root}"
        )
    return True


def is_recorded(data: Path) -> bool:
    """Return whether `dvc_add` records `data`: whether its parent is a DVC repository."""
    return (data.absolute().parent / ".dvc").is_dir()
