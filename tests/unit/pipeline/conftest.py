"""Projects that tests of the pipeline change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import small_project


@pytest.fixture
def copied(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished project that a test may change, which is the current folder."""
    root = Path(shutil.copytree(finished, tmp_path / "copied"))
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project in which no stage has run, which is the current folder."""
    root = small_project.write(tmp_path / "another place")
    monkeypatch.chdir(root)
    return root
