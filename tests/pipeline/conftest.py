from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys

import clones
import pytest


@pytest.fixture
def project(tmp_path):
    """A clone in which nothing has run yet."""
    return clones.make(tmp_path)


@pytest.fixture(scope="session")
def killed(tmp_path_factory):
    """A clone whose flow was killed, process group and all, while it trained; and what lay there then."""
    clone = clones.make(tmp_path_factory.mktemp("flow"))
    process = clone.start(sys.executable, "-m", "flows.run")
    try:
        # MLflow's run is made when the first epoch is done, and then the next one begins.
        clones.wait_for(lambda: tracked_runs(clone, "RUNNING"), process, 120)
        os.killpg(process.pid, signal.SIGKILL)
    finally:
        clones.kill_group(process)
    left = sorted(path.name for path in (clone.root / "artifacts").iterdir())
    return clone, left


@pytest.fixture(scope="session")
def flown(killed):
    """The same clone after the same command again, which went through; and what it printed."""
    clone, _ = killed
    return clone, clone.flow()


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory):
    """Another clone, with its own DVC cache, in which `dvc repro` ran."""
    clone = clones.make(tmp_path_factory.mktemp("dvc"))
    return clone, clone.run("dvc", "repro")


def tracked_runs(clone, status):
    database = clone.root / "mlflow.db"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute("select run_uuid from runs where status = ?", (status,)).fetchall()
    except sqlite3.OperationalError:  # not there yet, or without tables
        return []
