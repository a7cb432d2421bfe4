from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptformer.base.errors import UserError
from adaptformer.config.run_folder import RunFolder

HOLD = """
import sys, time, pathlib
from adaptformer.config.run_folder import RunFolder
with RunFolder(pathlib.Path(sys.argv[1])).lock("adaptformer train"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of artifacts/."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "artifacts")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def refused(folder: RunFolder) -> UserError:
    with pytest.raises(UserError) as caught, folder.lock("a second run"):
        pytest.fail("the lock was given twice")
    return caught.value


def test_a_folder_in_use_names_who_holds_it(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    error = refused(RunFolder(tmp_path / "artifacts"))
    assert "artifacts/ is in use by `adaptformer train`" in error.cause
    assert f"process {holder.pid} on {os.uname().nodename}" in error.cause
    assert "wait" in error.remedy


def test_the_lock_is_free_once_its_holder_is_killed(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "artifacts")
    refused(folder)
    holder.kill()  # SIGKILL: nothing is tidied up
    holder.wait()
    with folder.lock("the next run"):
        assert f"process {os.getpid()}" in refused(folder).cause


def test_a_lock_that_was_given_back_can_be_taken_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "artifacts")
    for _ in range(2):
        with folder.lock("a run"):
            pass
    with pytest.raises(ValueError, match="in the run"), folder.lock("a run that fails"):
        raise ValueError("in the run")
    with folder.lock("a run"):
        pass


def test_a_holder_that_left_no_note_is_another_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "artifacts")
    with folder.lock("a run"):
        (tmp_path / "artifacts" / ".lock").write_text("")
        assert "in use by another run" in refused(folder).cause


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("mine")
    error = refused(RunFolder(tmp_path / "artifacts"))
    assert error.cause == f"cannot write {tmp_path / 'artifacts'}: File exists"
    assert error.remedy.startswith("move away the file")
    assert (tmp_path / "artifacts").read_text() == "mine"


def test_no_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*given: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    error = refused(RunFolder(tmp_path / "artifacts"))
    assert error.cause == f"cannot write {tmp_path / 'artifacts'}: Permission denied"


def test_whoever_takes_the_lock_removes_what_a_killed_run_was_writing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "artifacts", Path("elsewhere/data"))
    left = [folder.resume_state, folder.curves, folder.timing("train")]
    left = [path.with_name(f".{path.stem}.123.partial{path.suffix}") for path in left]
    other = [tmp_path / ".mine.1.partial.txt", folder.root / "runs" / "0123" / ".x.1.partial.csv", folder.manifest]
    for path in (*left, *other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    with folder.lock("a run"):
        assert not any(path.exists() for path in left)
    assert all(path.exists() for path in other), "what belongs to others stays"


def test_every_file_has_a_name_of_its_own_below_the_root() -> None:
    folder = RunFolder(Path("elsewhere"), Path("images"))
    paths = [path for path in vars(folder).values() if path not in (folder.root, folder.data, False)]
    assert len(set(paths)) == len(paths) > 10
    assert all(path.is_relative_to("elsewhere") for path in paths)
    assert RunFolder().root == Path("artifacts")
    assert RunFolder().timing("train") == Path("artifacts/timing/train.json")
