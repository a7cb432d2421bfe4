"""`adaptformer data check` killed as a whole, at random moments: the same command ends with the same files."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from many_scenes import jpeg, png, scene, tar

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[4]


def written(folder: Path) -> dict[str, bytes]:
    names = ("check.json", "parts/*", "facts/*", "near_duplicates.parquet", "findings.csv")
    return {str(path.relative_to(folder)): path.read_bytes() for name in names for path in sorted(folder.glob(name))}


def test_a_killed_check_continues_and_ends_its_processes(tmp_path: Path) -> None:
    for number in range(12):
        images = {f"{'ab'[seed % 2]}/{seed}.png": png(scene(100 * number + seed)) for seed in range(60)}
        tar(tmp_path / f"s/train-{number:02}.tar", {**images, "a/copy.jpg": jpeg(scene(number))})
    dice = random.Random(0)
    command = [sys.executable, "-m", "adaptformer", "data", "check", str(tmp_path / "s/*.tar"), "--workers", "2"]
    tried = killed = 0
    while not (tmp_path / "check/findings.csv").is_file():
        process = subprocess.Popen([*command, "--output", str(tmp_path / "check")], cwd=ROOT, start_new_session=True,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        there = len(list(tmp_path.glob("check/*/*")))
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("check/*/*"))) == there and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.2))
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGKILL if tried < 4 else 0)
        killed += process.wait() == -signal.SIGKILL
        tried += 1
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive
    assert killed
    undisturbed = [*command, "--output", str(tmp_path / "undisturbed")]
    done = subprocess.run(undisturbed, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    assert "732 images of 2 classes" in done.stdout
    assert "label conflicts: " in done.stdout
    assert written(tmp_path / "check") == written(tmp_path / "undisturbed")
