from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import clones
import pytest

NEEDED = (
    *("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "adaptformer", "flows", "tasks", ".dvc"),
    *("params.yaml", "dvc.yaml", "data.dvc", "prefect.yaml", "prefect.toml", "project.mk", ".gitignore", ".dvcignore"),
)
"""What a wheel is built from."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone for the tests of one file: those of another would find its stages run already."""
    return clones.make(tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel of this checkout's files; built from a copy, because setuptools leaves folders beside the sources."""
    source = tmp_path_factory.mktemp("source")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *NEEDED]
    listed = subprocess.run(command, cwd=clones.ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, listed):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clones.ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", ".", "-w", "wheels"]
    if importlib.util.find_spec("setuptools") is not None:
        build.append("--no-build-isolation")  # needs no index
    done = subprocess.run(build, cwd=source, capture_output=True, text=True, check=False)
    if done.returncode and "setuptools" in done.stderr and "No matching distribution" in done.stderr:
        pytest.skip("no package index answers, from which the build takes setuptools")
    assert done.returncode == 0, done.stderr
    (file,) = (source / "wheels").iterdir()
    return file


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """A folder with what the wheel installs."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return Path(folder)
