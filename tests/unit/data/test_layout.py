import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptformer.data.layout import entries, occupied, replacing_folder
from adaptformer.errors import UserError

Tree = Callable[..., Path]


def test_entries_are_sorted_files_of_class_folders(tree: Tree) -> None:
    data = tree({"train/dog/2.png": 2, "train/cat/1.png": 1, "test/cat/3.png": 3})
    found, faults = entries(data)
    assert found == [
        ("test/cat/3.png", "test", "cat"), ("train/cat/1.png", "train", "cat"), ("train/dog/2.png", "train", "dog"),
    ]  # fmt: skip
    assert faults == {}


def test_hidden_files_and_litter_are_passed_over(tree: Tree) -> None:
    litter = {".DS_Store": b"x", "train/.git/x": b"x", "train/cat/Thumbs.db": b"x", "__MACOSX/cat/1.png": 1}
    assert entries(tree({**litter, "train/cat/1.png": 1})) == ([("train/cat/1.png", "train", "cat")], {})


def test_everything_in_a_wrong_place_is_a_fault(tree: Tree) -> None:
    data = tree({"readme.txt": b"x", "extra/cat/1.png": 1, "train/1.png": 1, "train/cat/deep/1.png": 1, "test": b"x"})
    found, faults = entries(data)
    assert found == []
    assert faults == {
        "extra": "only the folders train, validation, test belong in data/",
        "readme.txt": "only the folders train, validation, test belong in data/",
        "test": "only the folders train, validation, test belong in data/",
        "train/1.png": "not in a class folder",
        "train/cat/deep": "a folder inside a class folder",
    }


def test_links_must_stay_inside_or_lead_into_the_dvc_cache(tree: Tree, tmp_path: Path) -> None:
    data = tree({"train/cat/1.png": 1})
    outside = tree({"1.png": 1, "files/md5/ab/cdef": 1}, "outside")
    for name, target in {"broken": "nowhere", "out": outside / "1.png", "in": "1.png"}.items():
        (data / "train/cat" / f"{name}.png").symlink_to(target)
    (data / "train/cat/dvc.png").symlink_to(outside / "files/md5/ab/cdef")
    found, faults = entries(data)
    assert [entry.path for entry in found] == ["train/cat/1.png", "train/cat/dvc.png", "train/cat/in.png"]
    assert faults == {
        "train/cat/broken.png": "a broken link", "train/cat/out.png": "a link that leads out of data/",
    }  # fmt: skip


def test_names_that_are_not_utf8_are_faults(tree: Tree) -> None:
    data = tree({"train/cat/1.png": 1})
    Path(os.fsdecode(os.fsencode(data) + b"/train/cat/\xff.png")).write_bytes(b"x")
    assert entries(data)[1] == {"train/cat/\\xff.png": "its name is not UTF-8"}


def test_occupied(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    assert [occupied(tmp_path / name) for name in ("missing", "empty", "file", ".")] == [False, False, True, True]


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
