"""Clones of the working tree with few images and few epochs, and commands that run in them."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 5
TINY = {"epochs": EPOCHS, "warmup_fraction": 0, "batch_size": 32, "parity_images": 16}
TRAIN, TEST = 120, 60
IDENTITY = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "Test"), ("EMAIL", "test@example.org"))
}
"""Who commits, for `dvc exp run`, which makes commits."""

FLOWS = """
import json, sys, traceback
from adaptformer.config import params
read, reads = params.read, []
params.read = lambda *path: reads.append(path) or read(*path)
from flows.__main__ import main
for line in sys.stdin:
    try:
        code = main(json.loads(line))
    except BaseException:
        traceback.print_exc()
        code = 99
    print(f"ended with {code}, having read params.yaml {len(reads)} times", flush=True)
    reads.clear()
"""
"""`python -m flows …`, again and again: each line that comes in is the arguments of a run, in JSON."""


@dataclass(frozen=True)
class Clone:
    """A folder like a fresh `git clone` of the working tree."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """The user's environment as `make` sets it, without what would lead out of the clone."""
        ours = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("PREFECT_", "MLFLOW_", "DVC_", "ADAPTFORMER_", "PYTHONPATH"))
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**ours, "PATH": path, "PREFECT_HOME": str(self.root / ".prefect"), "DO_NOT_TRACK": "true"}

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command as the leader of a process group, both outputs in one pipe."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env={**self.environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, code: int = 0, timeout: float = 1200, **environment: str) -> str:
        """Run a command to its end and return its output; its exit code must be `code`."""
        process = self.start(*command, **environment)
        try:
            output, _ = process.communicate(timeout=timeout)
        finally:
            kill_group(process)
        assert process.returncode == code, f"{command} ended with {process.returncode}:\n{output}"
        return output

    def python(self, code: str, **options) -> str:
        return self.run(sys.executable, "-c", code, **options)

    def adaptformer(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """What `adaptformer …` prints here. It runs in this process, which has imported already what takes seconds."""
        from adaptformer.__main__ import main

        printed = io.StringIO()
        log, handler = logging.getLogger("adaptformer"), logging.StreamHandler(printed)
        level = log.level
        log.addHandler(handler)
        try:
            with (
                mock.patch.dict(os.environ, {**self.environment, **environment}, clear=True),
                contextlib.chdir(self.root),
                contextlib.redirect_stdout(printed),
                contextlib.redirect_stderr(printed),
            ):
                ended = main(arguments)
        finally:
            log.removeHandler(handler)
            log.setLevel(level)
        assert ended == code, f"{arguments} ended with {ended}:\n{printed.getvalue()}"
        return printed.getvalue()

    @contextlib.contextmanager
    def flow_process(self) -> Iterator[FlowProcess]:
        """A process for `python -m flows …` with different arguments: Prefect and its server start once."""
        process = self.start(sys.executable, "-c", FLOWS)
        try:
            yield FlowProcess(process)
        finally:
            kill_group(process)

    def flow(self, **options) -> str:
        """What `make run` does once the environment is there."""
        return self.run(sys.executable, "-m", "flows", "run", **options)

    def set_params(self, **values: object) -> None:
        """Change values in params.yaml by their last key, comments and all else kept."""
        path = self.root / "params.yaml"
        text = path.read_text()
        for key, value in values.items():
            text, count = re.subn(rf"^(  {key}:) *[^ #\n]+", rf"\1 {value}", text, flags=re.MULTILINE)
            assert count, key
        path.write_text(text)


@dataclass
class FlowProcess:
    """A process that runs flows, one after the other."""

    process: subprocess.Popen[str]
    reads: int = 0
    """How often the last one read params.yaml."""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What `python -m flows …` prints; its exit code must be `code`."""
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        printed = ""
        for line in self.process.stdout:
            if ended := re.fullmatch(r"ended with (\d+), having read params.yaml (\d+) times\n", line):
                assert int(ended[1]) == code, f"{arguments} ended with {ended[1]}:\n{printed}"
                self.reads = int(ended[2])
                return printed
            printed += line
        raise AssertionError(f"{arguments} ended the process:\n{printed}")


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill a process with all that it has started in its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(condition, process: subprocess.Popen[str], seconds: float) -> None:
    """Wait until `condition()` holds while the process lives."""
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended early:\n{process.communicate()[0]}"
        assert time.monotonic() < until, "took too long"
        time.sleep(0.05)


def make(root: Path) -> Clone:
    """Copy what git knows or would take, make it a repository, make its params small and give it a few real digits."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in listed:
        # dvc.lock and data.dvc speak of other data.
        if name and (ROOT / name).is_file() and name not in {"dvc.lock", "data.dvc"}:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    clone = Clone(root)
    clone.set_params(**TINY)
    write_digits(root / "data")
    clone.run("git", "init", "--quiet")
    clone.run("dvc", "add", "--quiet", "data")
    clone.run("git", "add", "--all")
    clone.run("git", "-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "--quiet", "-m", "clone")
    return clone


def copy(clone: Clone, folder: Path) -> Clone:
    """Copy a clone, with its DVC cache, to a new one in `folder`."""
    root = folder / "clone"
    shutil.copytree(clone.root, root, symlinks=True)
    return Clone(root)


def write_digits(data: Path) -> None:
    digits = load_digits()
    for index in range(TRAIN + TEST):
        folder = data / ("train" if index < TRAIN else "test") / str(digits.target[index])
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.kron(digits.images[index] * 15, np.ones((4, 4))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


def answers(url):
    """Whether a server says that it is well."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310
            return reply.status == 200
    except OSError:
        return False


def free_port():
    """A port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tracked_runs(clone, status):
    """The ids of the runs in a clone's MLflow database that have a status."""
    database = clone.root / "mlflow.db"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute("select run_uuid from runs where status = ?", (status,)).fetchall()
    except sqlite3.OperationalError:  # not there yet, or without tables
        return []
