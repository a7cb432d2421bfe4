"""DVC's setting for a checkout without git, such as a copied folder: without it DVC refuses to work there.

It is written to .dvc/config.local, so that `dvc repro` works from then on too. An archive that git made has it from
the start: .gitattributes and .dvc/config see to it.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

from adaptformer.base import files
from adaptformer.base.errors import UserError

log = logging.getLogger("adaptformer")

SETTING = "core.no_scm"
_CONFIGS = ("config.local", "config")


def settle(root: Path) -> None:
    """If the checkout `root` has no git, set DVC to work without it and log that; later calls do nothing.

    Raises UserError if the setting cannot be written.
    """
    root = root.absolute()
    if repository(root) is not None:
        return
    line = re.compile(rf"^\s*{SETTING.partition('.')[2]}\s*=", re.MULTILINE)
    configs = [root / ".dvc" / config for config in _CONFIGS]
    if any(path.is_file() and line.search(path.read_text(encoding="utf-8", errors="replace")) for path in configs):
        return
    command = [sys.executable, "-m", "dvc", "config", "--local", SETTING, "true"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())[:200] or f"exit code {done.returncode}"
        raise files.refusal(RuntimeError(reason), configs[0]) or UserError(
            f"{root} is no git repository, and DVC could not be set to do without ({reason})",
            f"run `git init` there, or `dvc config --local {SETTING} true`",
        )
    log.info("%s is no git repository: DVC is set to work without one (%s in .dvc/config.local)", root, SETTING)


def repository(folder: Path) -> Path | None:
    """Return the root of the git repository that a folder is in, None if there is none."""
    folder = folder.absolute()
    return next((one for one in (folder, *folder.parents) if (one / ".git").exists()), None)
