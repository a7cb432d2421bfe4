from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from adaptformer.pipeline import library_version
from adaptformer.project import creating, sources

INSTALLED = library_version.installed()


class Package:
    """The installed package, whose files and version a test replaces as an upgrade would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts = sources.texts()
        self.version = INSTALLED
        monkeypatch.setattr(sources, "texts", lambda: dict(self.texts))
        monkeypatch.setattr(library_version, "installed", lambda: self.version)

    def brings(self, texts: Mapping[str, str], *, without: str | None = None, **stages: str) -> None:
        """Upgrade the package: it has these texts, not the file `without`, and other code for `stages`."""
        self.texts = {name: text for name, text in {**self.texts, **texts}.items() if name != without}
        self.version = replace(INSTALLED, version="9.0", stages={**INSTALLED.stages, **stages})


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Package:
    return Package(monkeypatch)


@pytest.fixture
def project(tmp_path: Path, package: Package) -> Path:
    """A project without git; DVC, whose command takes seconds, is not asked to work without it."""
    (tmp_path / "pets/.git").mkdir(parents=True)
    creating.create(tmp_path / "pets")
    return tmp_path / "pets"


@pytest.fixture
def write(project: Path) -> Callable[[str, str], None]:
    return lambda name, text: (project / name).write_text(text) and None
