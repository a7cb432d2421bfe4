from __future__ import annotations

from pathlib import Path

import pytest
import small_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in miniature, which is the current folder."""
    root = small_project.write(tmp_path / "project")
    monkeypatch.chdir(root)
    return root
