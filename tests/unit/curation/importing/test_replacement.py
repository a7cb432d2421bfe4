import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptformer.base.errors import UserError
from adaptformer.curation.importing import replacement, settling
from adaptformer.curation.importing.replacement import replacing_folder

Tree = Callable[..., Path]


def siblings(folder: Path) -> list[str]:
    """The names beside a folder, the lock's aside."""
    return sorted(path.name for path in folder.parent.iterdir() if path.name != f".{folder.name}.lock")


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


@pytest.mark.parametrize("steps", [1, 2])
def test_a_failing_swap_leaves_the_old_folder(steps: int, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tree({"old": b"old"})
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == ".data.new":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    def refusing(*_: object) -> bool:
        if steps == 1:
            raise OSError(5, "Input/output error")
        return False

    monkeypatch.setattr(Path, "rename", failing)
    monkeypatch.setattr(replacement, "exchange", refusing)
    with pytest.raises(UserError, match="Input/output error"), replacing_folder(data):
        pass
    assert (data / "old").read_bytes() == b"old"
    assert siblings(data) == ["data"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".data.new/half").mkdir(parents=True)
    with replacing_folder(tmp_path / "data"):
        pass
    assert siblings(tmp_path / "data") == ["data"]


def test_a_command_that_only_reads_removes_what_a_killed_process_left_and_not_what_a_living_one_fills(
    tree: Tree,
) -> None:
    data = tree({"old": b"old"})
    new = data.with_name(".data.new")
    new.mkdir()
    settle = (
        "import pathlib; from adaptformer.curation.importing import settling; "
        f"settling.settle(pathlib.Path({str(data)!r}))"
    )
    with replacement.exclusive(data):
        subprocess.run([sys.executable, "-c", settle], check=True)
        assert new.exists()
    subprocess.run([sys.executable, "-c", settle], check=True)
    assert siblings(data) == ["data"]


def test_a_folder_that_an_earlier_version_had_put_aside_comes_back(tree: Tree) -> None:
    data = tree({"old": b"old"})
    data.rename(data.with_name(".data.old-12"))
    settling.settle(data)
    assert (data / "old").read_bytes() == b"old"
    assert siblings(data) == ["data"]


def test_folders_that_are_not_known_are_left_alone(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tree({"old": b"old"})

    def stop(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(replacement, "exchange", stop)
    with pytest.raises(KeyboardInterrupt), replacing_folder(data) as beside:
        (beside / "new").write_text("new")
    data.rename(data.with_name("elsewhere"))
    (data / "other").mkdir(parents=True)
    with pytest.raises(UserError, match="neither the folder"):
        settling.settle(data)
    assert siblings(data) == [".data.change.json", ".data.new", "data", "elsewhere"]


def test_one_process_at_a_time_changes_the_folder(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tree({"old": b"old"})
    hold = "import sys, pathlib; from adaptformer.curation.importing import replacement\n"
    hold += "with replacement.exclusive(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    monkeypatch.setattr(replacement, "LOCK_SECONDS", 0)
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match="another command is changing"), replacing_folder(data):
            pass
        other.communicate()
    with replacing_folder(data):
        pass
