"""`adaptformer predict --output` killed as a whole, at random moments: the same command ends with the same files."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[3]


def command(photos: Path, model: Path, out: Path, engine: str) -> list[str]:
    return [
        sys.executable, "-m", "adaptformer", "predict", str(photos), "--model", str(model), "--device", "cpu",
        "--output", str(out), "--engine", engine, "--workers", "2", "--shard-size", "1",
    ]  # fmt: skip


def outputs(folder: Path) -> dict[str, bytes]:
    names = ("predictions/*.parquet", "manifest.csv", "job.json")
    return {str(path.relative_to(folder)): path.read_bytes() for name in names for path in sorted(folder.glob(name))}


@pytest.mark.parametrize("engine", ["local", "dask"])
def test_a_killed_command_continues_and_ends_its_processes(
    engine: str, photos: Path, model: Path, tmp_path: Path
) -> None:
    for number in range(6):
        shutil.copytree(photos, photos / f"more{number}", ignore=shutil.ignore_patterns("more*"))
    dice, out = random.Random(engine), tmp_path / "job"
    moments = 0
    while moments < 2:
        process = subprocess.Popen(command(photos, model, out, engine), cwd=ROOT, start_new_session=True,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        done = len(list(out.glob("predictions/*")))
        deadline = time.monotonic() + 60
        while len(list(out.glob("predictions/*.parquet"))) == done and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.05))
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        moments += 1
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive
    assert not (out / "manifest.csv").exists()
    subprocess.run(command(photos, model, out, engine), cwd=ROOT, check=True, capture_output=True, timeout=120)
    undisturbed = tmp_path / "undisturbed"
    done = subprocess.run(
        command(photos, model, undisturbed, "local"), cwd=ROOT, check=True, capture_output=True, timeout=120
    )
    assert b"77 images are in" in done.stdout
    assert outputs(out) == outputs(undisturbed)


@pytest.fixture
def dashboard() -> Iterator[socket.socket]:
    """For the port that Dask would like for its pages."""
    with socket.socket() as found:
        yield found


@pytest.mark.parametrize("engine", ["local", "dask", "ray"])
def test_ctrl_c_is_one_line(engine: str, photos: Path, model: Path, tmp_path: Path, dashboard: socket.socket) -> None:
    for number in range(30):  # enough to be in the middle of the work
        shutil.copytree(photos, photos / f"more{number}", ignore=shutil.ignore_patterns("more*"))
    out = tmp_path / "job"
    with contextlib.suppress(OSError):  # as another cluster does, whose warning would be a second line
        dashboard.bind(("127.0.0.1", 8787))
        dashboard.listen()
    process = subprocess.Popen(command(photos, model, out, engine), cwd=ROOT, start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(out.glob("predictions/*.parquet")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    printed, _ = process.communicate(timeout=60)
    answering, *lines = printed.splitlines()
    assert answering == f"{model}, not registered here"
    told = (f"left out in {photos}: ", "predicting: ")  # before it was stopped; the second by a slow machine alone
    # Python's resource tracker, a process of its own, warns if a busy machine left no time to release semaphores.
    lines = [line for line in lines if not line.startswith(told) and "resource_tracker" not in line]
    lines = [line for line in lines if not line.startswith("  warnings.warn(")]
    assert (process.returncode, lines) == (130, ["stopped; run the same command again to continue"])
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
