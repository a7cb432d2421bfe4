"""What all tests share: their environment, how pytest-xdist deals them out, and an MLflow store of a test's own.

A file goes to one process, and so do files that share a costly clone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest
from filelock import FileLock

# There is a process for each core, and the models are so small that more threads of torch only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The library's logger reaches Prefect too; outside a flow run there is nowhere to send its lines, which is no fault.
os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
# A shell that starts pytest in the background has SIGINT ignored, and so would every process of a test be.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A write that reaches the disk costs milliseconds. No test cuts the power, and what a killed process has written is
# there all the same.
os.fsync = lambda _descriptor: None

ROOT = Path(__file__).resolve().parents[1]
SHARING = ("test_flow.py", "test_tracking.py", "test_log.py")
"""Files below tests/pipeline/ that use the same finished clones (see conftest.py there)."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling

    class BySharedClones(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "tests that share clones" if file.startswith("tests/pipeline/") and file.endswith(SHARING) else file

    # As collected, so that e2e/ and pipeline/ come first and the quick files fill up both processes at the end; xdist
    # itself would begin with the files that have many tests, and at the end one process would wait for the slow ones.
    config.option.loadscopereorder = False
    return BySharedClones(config, log)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory, worker_id):
    """Return `made_once(name, make)`: the path that `make` wrote to, which the workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    folder = base if worker_id == "master" else base.parent

    def made_once(name, make):
        path, begun = folder / name, folder / f"{name}.begun"
        with FileLock(folder / f"{name}.lock"):
            if not path.exists():
                make(begun)
                begun.rename(path)
        return path

    return made_once


@pytest.fixture(scope="session")
def empty_database(made_once):
    """MLflow's database with nothing in it: making one takes seconds."""
    import mlflow

    return made_once("empty.db", lambda path: mlflow.MlflowClient(f"sqlite:///{path}").search_experiments())


@pytest.fixture
def database(empty_database, tmp_path, monkeypatch):
    """A database of the test's own, where MLflow tracks."""
    path = tmp_path / "deep/mlflow.db"
    path.parent.mkdir()
    shutil.copy2(empty_database, path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    return path


@pytest.fixture
def client(database):
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{database}", f"sqlite:///{database}")


@pytest.fixture
def folder(tmp_path, database, monkeypatch):
    """The run folder of a checkout with nothing but params.yaml and results."""
    import crafted

    from adaptformer.config.run_folder import RunFolder

    shutil.copy2(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return crafted.run_folder(RunFolder().root)


@pytest.fixture
def blank_pictures(monkeypatch):
    """Let every figure be a file of one pixel."""
    import small_project

    small_project.leave_pictures_blank(monkeypatch)


@pytest.fixture(scope="session")
def stored_export(made_once):
    """The export of a model to a graph, which takes seconds: done once for equal models in all processes."""
    import onnx
    import onnx_ir

    from adaptformer.export import graph
    from adaptformer.model import tensor_file

    export = graph.exported

    def stored(model, card, opset):
        described = f"{tensor_file.content_hash(model.state_dict())} {card} {opset}"

        def write(path):
            proto = onnx_ir.to_proto(export(model, card, opset))
            path.write_bytes(proto.SerializeToString(deterministic=True))

        path = made_once(f"exported-{hashlib.sha256(described.encode()).hexdigest()}", write)
        return onnx_ir.from_proto(onnx.load_model_from_string(path.read_bytes()))

    return stored


@pytest.fixture
def exported_once(stored_export, monkeypatch):
    """Let equal models be exported once."""
    monkeypatch.setattr("adaptformer.export.graph.exported", stored_export)


@pytest.fixture
def outage(monkeypatch):
    """A context in which MLflow answers nothing."""
    import crafted
    import mlflow

    def refuse(*_arguments, **_options):
        raise ConnectionError("MLflow is down")

    @contextlib.contextmanager
    def outage():
        with monkeypatch.context() as context:
            for name in (*crafted.CALLS, "search_experiments", "get_experiment_by_name", "search_runs", "get_run"):
                context.setattr(mlflow.MlflowClient, name, refuse)
            yield

    return outage


@pytest.fixture
def silent():
    """A socket that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        yield listener
