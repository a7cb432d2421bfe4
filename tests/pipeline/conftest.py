from __future__ import annotations

import os
import shutil
import subprocess
import sys

import clones
import psutil
import pytest


@pytest.fixture(scope="session")
def pristine(made_once, empty_prefect, empty_database):
    """A clone in which nothing has run, to be copied: making one takes seconds.

    Only the databases of Prefect and MLflow are there already, with nothing in them; tests/e2e/ begins without them.
    """

    def create(root):
        clones.make(root)
        shutil.copytree(empty_prefect, root / ".prefect")
        shutil.copy2(empty_database, root / "mlflow.db")

    return clones.Clone(made_once("pristine", create))


@pytest.fixture
def project(pristine, tmp_path):
    """A clone in which nothing has run yet."""
    return clones.copy(pristine, tmp_path)


@pytest.fixture(scope="session")
def killed(pristine, tmp_path_factory):
    """A clone whose flow was killed while it trained, its process alone; what lay there then; its Prefect server."""
    clone = clones.copy(pristine, tmp_path_factory.mktemp("flow"))
    process = clone.start(sys.executable, "-m", "flows", "run")
    try:
        # MLflow's run is made when the first epoch is done, and then the next one begins.
        clones.wait_for(lambda: clones.tracked_runs(clone, "RUNNING"), process, 120)
        children = psutil.Process(process.pid).children(recursive=True)
        servers = [child for child in children if "uvicorn" in child.cmdline()]
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(servers, timeout=60)
    finally:
        clones.kill_group(process)
    left = sorted(path.name for path in (clone.root / "artifacts").iterdir())
    return clone, left, (servers, alive)


@pytest.fixture(scope="session")
def flown(killed):
    """The same clone after the same command again, which went through; and what it printed."""
    clone = killed[0]
    return clone, clone.flow()


@pytest.fixture(scope="session")
def reproduced(pristine, tmp_path_factory):
    """Another clone, with its own DVC cache, in which `dvc repro` ran."""
    clone = clones.copy(pristine, tmp_path_factory.mktemp("dvc"))
    return clone, clone.run("dvc", "repro")


@pytest.fixture(scope="session")
def experimented(reproduced, tmp_path_factory):
    """A copy of that clone in which `dvc exp run` then trained for two epochs; and what it printed."""
    clone = clones.copy(reproduced[0], tmp_path_factory.mktemp("exp"))
    return clone, clone.run("dvc", "exp", "run", "--name", "short", "-S", "training.epochs=2", **clones.IDENTITY)


@pytest.fixture(scope="session")
def empty_prefect(made_once):
    """The files of Prefect with nothing in its database: its migrations take as long as many a test."""
    make = (
        "import asyncio\nfrom prefect.server.database import provide_database_interface\n"
        "asyncio.run(provide_database_interface().create_db())"
    )

    def create(path):
        environment = {**os.environ, "PREFECT_HOME": str(path), "DO_NOT_TRACK": "true"}
        subprocess.run([sys.executable, "-c", make], env=environment, check=True)

    return made_once("empty_prefect", create)
