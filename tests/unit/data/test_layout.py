import os
import socket
from collections.abc import Callable
from pathlib import Path

from adaptformer.data.layout import entries, occupied

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
    for name in (b"\xff.png", b"\x1b[2J.png"):
        Path(os.fsdecode(os.fsencode(data) + b"/train/cat/" + name)).write_bytes(b"x")
    reason = "its name is not UTF-8, or has control characters"
    assert entries(data)[1] == {"train/cat/\\udcff.png": reason, "train/cat/\\x1b[2J.png": reason}


def test_what_is_no_regular_file_is_a_fault(tree: Tree) -> None:
    data = tree({"train/cat/1.png": 1})
    os.mkfifo(data / "train/cat/pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(data / "train/cat/s"))
    found, faults = entries(data)
    assert [entry.path for entry in found] == ["train/cat/1.png"]
    assert faults == {
        "train/cat/pipe.png": "no regular file but a named pipe", "train/cat/s": "no regular file but a socket",
    }  # fmt: skip


def test_a_folder_with_files_is_occupied(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    assert [occupied(tmp_path / name) for name in ("missing", "empty", "file", ".")] == [False, False, True, True]
