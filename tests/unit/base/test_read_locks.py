"""Marks of files that readers use, and what takes their place on Windows."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptformer.base import read_locks


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No locks, and a file that is in use cannot be removed."""

    def refused(path: Path) -> None:
        raise PermissionError(13, "in use by another process", str(path))

    with monkeypatch.context() as lacking:
        lacking.setitem(sys.modules, "fcntl", None)
        lacking.setattr(Path, "unlink", refused)
        importlib.reload(read_locks)
        yield
    importlib.reload(read_locks)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "array.npy"
    path.write_bytes(b"content")
    return path


def test_a_file_is_marked_until_the_last_duplicate_of_its_descriptor_is_closed(file: Path) -> None:
    with file.open("rb") as one, file.open("rb") as other:
        read_locks.mark(one)
        read_locks.mark(other)
        assert read_locks.marked(file)
        duplicate = os.dup(one.fileno())
    assert read_locks.marked(file)
    os.close(duplicate)
    assert not read_locks.marked(file)


def test_a_file_that_is_not_marked_is_removed(file: Path) -> None:
    assert read_locks.remove(file)
    assert not file.exists()


def test_a_folder_that_does_not_allow_a_removal_is_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "not allowed", str(path))

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(PermissionError):
        read_locks.remove(file)


def test_windows_itself_keeps_a_file_that_is_in_use(file: Path, windows: None) -> None:
    with file.open("rb") as opened:
        read_locks.mark(opened)
        assert not read_locks.marked(file)
        assert not read_locks.remove(file)
    assert file.exists()
