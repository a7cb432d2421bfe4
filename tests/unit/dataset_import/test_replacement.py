import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptformer.dataset_import.replacement import replacing_folder
from adaptformer.errors import UserError

Tree = Callable[..., Path]


def siblings(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir())


def test_replacing_swaps_the_whole_folder(tree: Tree) -> None:
    data = tree({"old/file": b"old"})
    with replacing_folder(data) as beside:
        (beside / "new").write_text("new")
        assert (data / "old/file").exists()
    assert [path.name for path in data.iterdir()] == ["new"]
    assert siblings(data) == ["data"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_folder(tree: Tree, failure: type[BaseException]) -> None:
    data = tree({"old": b"old"})
    with pytest.raises(failure), replacing_folder(data) as beside:  # noqa: PT012
        (beside / "new").write_text("new")
        raise failure
    assert (data / "old").read_bytes() == b"old"
    assert siblings(data) == ["data"]


def test_a_failing_swap_brings_the_old_folder_back(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tree({"old": b"old"})
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UserError, match="Input/output error"), replacing_folder(data):
        pass
    assert (data / "old").read_bytes() == b"old"
    assert siblings(data) == ["data"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    (tmp_path / f".data.partial-{process.pid}").mkdir()
    (tmp_path / f".data.partial-{os.getppid()}").mkdir()
    with replacing_folder(tmp_path / "data"):
        pass
    assert siblings(tmp_path / "data") == [f".data.partial-{os.getppid()}", "data"]
