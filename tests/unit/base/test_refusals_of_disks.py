"""Disks that are full, read-only or failing, and outputs that take no more: two lines, and what was there stays."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import small_project
from safetensors import SafetensorError

from adaptformer.backbones import download
from adaptformer.base import files, progress
from adaptformer.base.errors import UserError
from adaptformer.cli import exit_code
from adaptformer.config.run_folder import RunFolder
from adaptformer.curation.importing import replacement
from adaptformer.sharding import job_folder
from adaptformer.sweeps.space import Range
from adaptformer.sweeps.study import Settings, Study

FULL = "free space on its disk"
READ_ONLY = "its file system is read-only"


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    """The error as if it had been raised because of another one."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "told", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space"), "No space left on device", FULL),
        (OSError(errno.EDQUOT, "x"), "Disk quota exceeded", "free space: your quota"),
        (OSError(errno.EROFS, "x"), "Read-only file system", READ_ONLY),
        (PermissionError(errno.EACCES, "x"), "Permission denied", "make it readable and writable for you"),
        (OSError(errno.EIO, "x"), "Input/output error", "the disk fails"),
        (OSError(errno.EMFILE, "x"), "Too many open files", "allow more open files"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "No space left on device", FULL),
        (sqlite3.OperationalError("database or disk is full"), "No space left on device", FULL),
        (sqlite3.OperationalError("attempt to write a readonly database"), "Read-only file system", READ_ONLY),
        (RuntimeError("ERROR: unexpected error - [Errno 28] No space"), "No space left on device", FULL),
        (raised(RuntimeError("failed"), OSError(errno.ENOSPC, "x")), "No space left on device", FULL),
        (raised(ValueError("x"), raised(KeyError("y"), OSError(errno.EROFS, "x"))), "Read-only file system", READ_ONLY),
    ],
)
def test_whatever_a_library_raises_the_reason_of_the_system_is_told(error: Exception, told: str, remedy: str) -> None:
    refused = files.refusal(error, Path("results/x"))
    assert refused is not None
    assert refused.cause == f"cannot write results/x: {told}"
    assert refused.remedy.startswith(remedy)
    assert refused.remedy.endswith("then run the same command again")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"), FileNotFoundError(2, "x"), ConnectionRefusedError(111, "x"), FileExistsError(17, "x"),
        SafetensorError("Error while deserializing header"), sqlite3.OperationalError("no such table"),
    ],
)  # fmt: skip
def test_other_failures_are_no_refusals(error: Exception) -> None:
    assert files.refusal(error) is None


def test_a_full_folder_for_temporary_files_has_its_own_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "gone")])
    with pytest.raises(FileNotFoundError) as caught:
        tempfile.gettempdir()
    refused = files.refusal(caught.value)
    assert refused is not None
    assert refused.cause.startswith("no folder for temporary files can be written")
    assert "TMPDIR" in refused.remedy


@pytest.mark.parametrize("name", ["write", "fsync", "replace"])
def test_a_disk_that_is_full_at_any_step_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = {"write": (Path, "write_bytes"), "fsync": (os, "fsync"), "replace": (Path, "replace")}[name]
    monkeypatch.setattr(*target, full)
    with pytest.raises(UserError, match=r"cannot write .*x\.txt: No space left"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["x.txt"]


@contextlib.contextmanager
def limit_of_file_size(size: int) -> Iterator[None]:
    """Files grow to `size` bytes at most, as on a disk that is full, but for every user."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_tensors(path: Path) -> None:
    import torch

    from adaptformer.model import tensor_file

    tensor_file.write(path, {"a": torch.zeros(10_000)}, {})


def write_numpy_tensors(path: Path) -> None:
    with files.replacing(path) as beside:
        safetensors.numpy.save_file({"a": np.zeros(10_000)}, beside)


WRITERS: list[Callable[[Path], None]] = [
    write_tensors,
    write_numpy_tensors,
    lambda path: files.write_bytes(path, bytes(10_000)),
    lambda path: files.write_json(path, ["x" * 10_000]),
]


@pytest.mark.parametrize("write", WRITERS)
def test_no_writer_leaves_a_traceback_or_half_a_file(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with limit_of_file_size(5000), pytest.raises(UserError, match=r"cannot write .*x: File too large") as caught:
        write(path)
    assert caught.value.remedy.startswith("allow larger files")
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_does_not_keep_a_run_from_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = RunFolder(tmp_path / "artifacts")
    monkeypatch.setattr(Path, "write_text", full)
    with folder.lock("adaptformer validate"), pytest.raises(UserError, match="in use by another run"):
        folder.lock("adaptformer train").__enter__()


def sweep(place: Path) -> Study:
    settings = Settings(trials=1, sampler="random", pruner="none", metric="top1", seed=0)
    return Study(place, None, [Range("training.base_lr", 0.1, 1.0, log=True)], settings)


TAKERS: dict[str, Callable[[Path], object]] = {
    "results": lambda place: RunFolder(place).lock("adaptformer train").__enter__(),
    "many images": lambda place: job_folder.alone(str(place)).__enter__(),
    "sweep": sweep,
    "worker": lambda place: sweep(place).working().__enter__(),
    "data": lambda place: replacement.exclusive(place / "data").__enter__(),
    "download": lambda place: download.fetch("https://example.org/x.pth", "0" * 64),
}


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_a_folder_that_takes_no_lock_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, name: str
) -> None:
    place, real = tmp_path / "place", os.open
    monkeypatch.setenv("ADAPTFORMER_CACHE", str(place))

    def refuse(path: object, *given: object, **options: object) -> int:
        lock = Path(str(path)).name
        if ".worker-" in lock or (lock.endswith(("lock", ".data.lock")) and name != "worker"):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError) as caught:
        TAKERS[name](place)
    told = place / "data" if name == "data" else place
    assert caught.value.cause == f"cannot write {told}: {os.strerror(number)}"
    expected = READ_ONLY if number == errno.EROFS else FULL
    assert expected in caught.value.remedy


def test_a_command_that_meets_a_full_disk_anywhere_ends_in_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/.lock")

    assert exit_code.run_command(body) == 1
    told = capsys.readouterr()
    assert re.fullmatch(r"error: cannot write /somewhere/\.lock: No space .*\n  fix: free space .*\n", told.err)
    with pytest.raises(OSError, match="No space"):
        exit_code.run_command(body, traceback=True)


FULL_OUTPUT = [["--help"], ["predict", "--help"], ["params"], ["backbones"]]


@pytest.mark.parametrize("arguments", FULL_OUTPUT)
def test_a_full_standard_output_is_a_failure(tmp_path: Path, arguments: list[str]) -> None:
    small_project.write_params(tmp_path)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "adaptformer", *arguments], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE,
            text=True, check=False, env={**os.environ, "PYTHONPATH": str(small_project.ROOT)},
        )  # fmt: skip
    assert done.returncode == 1
    cause, remedy = done.stderr.splitlines()
    assert cause == "error: standard output cannot be written: No space left on device"
    assert remedy.startswith("  fix: free space where it goes")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_error_changes_no_exit_code(tmp_path: Path, unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(small_project.ROOT), "PYTHONUNBUFFERED": unbuffered}
    small_project.write_params(tmp_path)
    with Path("/dev/full").open("wb") as full:
        codes = [
            subprocess.run(
                [sys.executable, "-m", "adaptformer", "params", *words], cwd=tmp_path, stderr=full, check=False,
                stdout=subprocess.DEVNULL, env=environment,
            ).returncode
            for words in ([], ["training.epochs=none"], ["--bogus"])
        ]  # fmt: skip
    assert codes == [0, 1, 1]


def test_a_log_line_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        progress.Lines().emit(logging.makeLogRecord({"msg": "a line"}))
        with contextlib.suppress(OSError):
            full.close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here ({mounted.stderr.strip()}): it takes root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_each_first_stage_on_a_full_disk_is_two_lines(
    tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = small_project.write(tiny_disk / "project")
    monkeypatch.chdir(root)
    (root / "artifacts").mkdir()
    filler = tiny_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    for stage in ("validate", "fetch"):
        capsys.readouterr()
        assert small_project.adaptformer(stage) == 1
        told = capsys.readouterr().err.splitlines()
        assert told[-2].startswith("error: cannot write artifacts/")
        assert "No space left on device" in told[-2]
        assert told[-1].startswith(f"  fix: {FULL}")
    filler.unlink()
    small_project.run_stages("validate", "fetch")


def test_what_only_reads_works_on_a_read_only_disk(
    tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = small_project.write(tiny_disk / "project")
    monkeypatch.chdir(root)
    small_project.run_stages("validate", "fetch")
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    assert small_project.adaptformer("params") == 0
    assert small_project.adaptformer("plan") == 0
    capsys.readouterr()
    assert small_project.adaptformer("train") == 1
    cause, remedy = capsys.readouterr().err.splitlines()
    assert cause == "error: cannot write artifacts: Read-only file system"
    assert remedy.startswith(f"  fix: {READ_ONLY}")
