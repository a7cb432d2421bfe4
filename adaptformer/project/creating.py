"""A new project: its files in an empty folder, and a git repository."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from adaptformer.base import dvc_without_git, files
from adaptformer.base.errors import UserError
from adaptformer.pipeline import library_version
from adaptformer.project import sources


def create(folder: Path, *, git: bool = True) -> str:
    """Write a project into `folder`, which is new or empty, and return a sentence about it.

    With `git` the folder becomes a repository, unless it is within one. After a kill, the same call completes the
    project. Raises UserError if the folder holds anything else.
    """
    texts = sources.texts()
    hashes = {name: files.sha256_text(text) for name, text in texts.items()}
    version = replace(library_version.installed(), files=hashes)
    texts |= {str(library_version.FILE): version.text()}
    _require_free(folder, texts)
    with files.refusals(folder):
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            files.write_text(folder / name, text)
    return f"{folder}/ is a project of adaptformer {version.version}, {_repository(folder, wanted=git)}"


def _require_free(folder: Path, texts: Mapping[str, str]) -> None:
    """Raise UserError if the folder holds anything but a repository or what a killed `init` left."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file", "name a new folder")
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name.partition("/")[0] == ".git" or ".partial" in path.suffixes:
            continue
        if name not in texts or path.read_bytes() != texts[name].encode():
            update = " (a project gets newer files by `adaptformer init --update`)"
            is_project = (folder / library_version.FILE).is_file()
            raise UserError(f"{folder}/ is not empty: it holds {name}", f"name a new folder{update * is_project}")


def _repository(folder: Path, *, wanted: bool) -> str:
    """Make the folder a git repository if it is wanted and possible, and return a phrase about that.

    DVC is set to work without one at once, so that `dvc repro` may be the first command.
    """
    within = dvc_without_git.repository(folder)
    if within is not None:
        return "in the git repository that was there" if within == folder.absolute() else f"in that of {within}"
    if wanted and shutil.which("git"):
        done = subprocess.run(["git", "init", "--quiet"], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return "in a new git repository"
        raise UserError(
            f"`git init` failed in {folder}: {' '.join(done.stderr.split())}",
            "correct that and run the same command again, or add --no-git",
        )
    if find_spec("dvc") is not None:
        dvc_without_git.settle(folder)
    return "without git" if not wanted else "without git, which is not installed"
