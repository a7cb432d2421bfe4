from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from adaptformer.base import files
from adaptformer.base.errors import UserError


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_with_its_folders(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "b.txt", "zwei\nZeilen é\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "zwei\nZeilen é\n".encode()
    assert listing(tmp_path / "a") == ["b.txt"]


def test_a_file_is_not_visible_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"old")
    with files.replacing(path) as beside:
        beside.write_bytes(b"ne")
        assert path.read_bytes() == b"old"
        assert beside.parent == path.parent, "a rename is only then one step"
        assert beside.suffix == ".png", "writers choose the format by it"
        with beside.open("ab") as file:
            file.write(b"w")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, UserError("cause", "remedy")])
def test_an_exception_leaves_the_old_content_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def interrupted() -> None:
        with files.replacing(path) as beside:
            beside.write_text("half")
            raise error

    with pytest.raises((ValueError, KeyboardInterrupt, UserError)):
        interrupted()
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["x.txt"]


def test_files_with_the_same_bytes_share_their_space(tmp_path: Path) -> None:
    one, same, other, gone = (tmp_path / name for name in ("one", "same", "other", "gone"))
    for path, content in ((one, "abc"), (same, "abc"), (other, "abd")):
        path.write_text(content)
    files.share(one, [gone, other])
    assert not one.samefile(other)
    files.share(one, [gone, other, same])
    assert one.samefile(same)
    files.write_text(same, "new")
    assert one.read_text() == "abc", "a file is replaced, never changed"
    assert listing(tmp_path) == ["one", "other", "same"]


def test_a_file_is_flushed_to_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (steps.append("flushed"), sync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda self, other: (steps.append("renamed"), replace(self, other))[1])
    files.write_text(tmp_path / "x.txt", "content")
    assert steps == ["flushed", "renamed"]


def test_a_file_in_the_place_of_the_folder_is_one_line_of_cause_and_one_of_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("I am a file")
    with pytest.raises(UserError, match=r"cannot write .*results/x\.txt: ") as caught:
        files.write_text(tmp_path / "results" / "x.txt", "content")
    assert str(caught.value).count("\n") == 1
    assert caught.value.remedy.startswith("move away the file that is in the place of a folder")
    assert (tmp_path / "results").read_text() == "I am a file"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (OSError(28, "No space left on device"), "No space"),
    ],
)
def test_where_the_system_refuses_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, told: str
) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def refused(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(UserError, match=f"cannot write .*x.txt: {told}"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["x.txt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_mode_honours_the_umask_whatever_the_writer_did(tmp_path: Path, umask: int, mode: int) -> None:
    code = (
        "import sys, pathlib; from adaptformer.base import files\n"
        "with files.replacing(pathlib.Path(sys.argv[1])) as beside:\n"
        "    beside.write_text('x'); beside.chmod(0o600)\n"
        "other = pathlib.Path(sys.argv[1] + '2'); other.write_text('x')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], check=True, umask=umask)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("x", "x2")]
    assert modes == [mode, mode], "the second is what the umask makes of any new file"


def test_equal_content_is_equal_json(tmp_path: Path) -> None:
    files.write_json(tmp_path / "1.json", {"b": [1, 2.5], "a": {"d": None, "c": "é"}})
    files.write_json(tmp_path / "2.json", {"a": {"c": "é", "d": None}, "b": [1, 2.5]})
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    assert (tmp_path / "1.json").read_text().endswith("}\n")
    assert json.loads((tmp_path / "1.json").read_text()) == {"b": [1, 2.5], "a": {"d": None, "c": "é"}}


def test_canonical_json_is_one_text() -> None:
    assert files.canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'


def test_hashes_are_sha256_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(content)
    assert files.sha256_file(tmp_path / "x") == hashlib.sha256(content).hexdigest()
    assert files.sha256_text("é") == hashlib.sha256("é".encode()).hexdigest()
