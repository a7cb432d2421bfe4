from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from adaptformer.config.run_folder import RunFolder
from adaptformer.tracking import checkout_id


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "params.yaml").touch()
    monkeypatch.chdir(root)
    return root


def test_a_moved_checkout_keeps_its_identity(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = checkout_id.identity()
    monkeypatch.chdir(root.rename(tmp_path / "moved"))
    assert checkout_id.identity() == before


def test_a_copy_has_an_identity_of_its_own(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = checkout_id.identity()
    monkeypatch.chdir(shutil.copytree(root, tmp_path / "copy"))
    copy = checkout_id.identity()
    assert copy != original
    assert checkout_id.identity() == copy
    monkeypatch.chdir(root)
    assert checkout_id.identity() == original


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"path"}, True),  # moved
        ({"host"}, True),  # another container with the same folder
        ({"device"}, True),  # the machine was started again
        ({"inode"}, False),  # copied, and put in the place of the original
        ({"host", "path"}, False),  # copied to another machine, whose disk happens to have the same numbers
        ({"device", "host"}, False),
        ({"device", "path"}, False),
    ],
)
def test_the_file_of_a_checkout_counts_only_in_that_checkout(root: Path, changed: set[str], same: bool) -> None:
    known = checkout_id.identity()
    file = root / checkout_id.FILE
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **{key: -1 if key in {"inode", "device"} else "other" for key in changed}}))
    assert (checkout_id.identity() == known) is same


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"id": 3}', "\0"])
def test_a_damaged_file_is_written_again(root: Path, content: str) -> None:
    (root / checkout_id.FILE).write_text(content)
    assert checkout_id.identity() == checkout_id.identity()


@pytest.mark.parametrize("given", ["../../another", "", 7])
def test_an_id_that_was_altered_is_not_taken(root: Path, given: object) -> None:
    checkout_id.identity()
    file = root / checkout_id.FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "id": given}))
    assert checkout_id.identity() != given


def test_without_a_place_for_the_file_no_other_run_is_taken_for_one_of_this_checkout(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / checkout_id.FILE).mkdir()
    assert checkout_id.identity() != checkout_id.identity()
    assert "a later run cannot find this one if it is killed: cannot write" in caplog.text


def test_the_place_of_a_run_folder_has_no_path_of_this_machine(root: Path) -> None:
    assert checkout_id.place_of(RunFolder(Path("artifacts/runs/ab"))) == f"{checkout_id.identity()}/artifacts/runs/ab"
