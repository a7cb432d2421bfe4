"""What is kept while MLflow does not answer, and how it gets there: by the next run, by a command, once."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
import urllib.request

import clones
import mlflow
import pytest
from crafted import kept, row, run_folder

from adaptformer.params import load
from adaptformer.tracking import mlflow_store, outbox, run_files
from adaptformer.tracking.project import ROOT
from adaptformer.tracking.tracker import Tracker
from flows import __main__ as command
from flows import backlog

NOWHERE = "http://127.0.0.1:9"
pytestmark = pytest.mark.filterwarnings("ignore:Logger.*without a flow run id")


def begin(folder, name="test"):
    return Tracker(name, load(ROOT / "params.yaml"), {"git.commit": "0" * 40, "data.dvc": "d" * 36}, folder)


@pytest.fixture
def client(database):
    return mlflow.MlflowClient(f"sqlite:///{database}")


@pytest.fixture
def folder(tmp_path):
    return run_folder(tmp_path / "run", images=(("train/a/1.png", "train", "one"),))


@pytest.fixture
def keep(unsent, monkeypatch):
    """Track a run while there is no server, so that all of it is kept."""

    def keep(folder, status="FINISHED", name="test"):
        with monkeypatch.context() as context:
            context.setenv("MLFLOW_TRACKING_URI", NOWHERE)
            tracker = begin(folder, name)
            tracker.log_epoch(row(1))
            tracker.log_results(folder)
            tracker.finish(status)

    return keep


def all_runs(client):
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def check_whole(client, run, folder, record):
    """The MLflow run says what the kept record says, each number once."""
    assert run.info.status == record["status"]
    assert (run.info.start_time, run.info.end_time) == (record["start"], record["end"])
    assert run.data.params == record["params"]
    assert record["tags"].items() <= run.data.tags.items()
    assert [item.dataset.digest for item in run.inputs.dataset_inputs] == ["d" * 36]
    points = {
        (key, point.value, point.timestamp, point.step)
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
    }
    assert sorted(points) == sorted(map(tuple, record["points"]))
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 1
    top = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"manifest.csv", "predictions.csv", "adapter.safetensors", "plots"} <= top
    assert len(client.list_artifacts(run.info.run_id, "plots")) == 5
    assert run_files.run_of(folder) == run.info.run_id


class DiedError(BaseException):
    """What a killed process does: no handler runs after it."""


@pytest.mark.parametrize(
    ("place", "call"),
    [
        ("before", "create_run"), ("after", "create_run"), ("after", "log_inputs"), ("after", "log_batch"),
        ("after", "set_tag"), ("after", "log_artifact"), ("before", "set_terminated"), ("after", "set_terminated"),
    ],
)  # fmt: skip
def test_being_killed_while_sending_doubles_nothing(client, keep, unsent, folder, monkeypatch, place, call):
    keep(folder)
    (record,) = kept(unsent)
    real = getattr(client, call)

    def dying(*arguments, **options):
        if place == "after":
            real(*arguments, **options)
        raise DiedError

    with monkeypatch.context() as context:
        context.setattr(client, call, dying)
        with pytest.raises(DiedError):
            list(outbox.send_all(client))
    assert len(kept(unsent)) == 1
    assert len(list(outbox.send_all(client))) == 1
    (run,) = all_runs(client)
    check_whole(client, run, folder, record)
    assert outbox.is_empty()


def test_being_killed_before_what_is_sent_is_removed_doubles_nothing(client, keep, unsent, folder, tmp_path):
    keep(folder)
    (record,) = kept(unsent)
    shutil.copytree(unsent, tmp_path / "copy")
    list(outbox.send_all(client))
    shutil.copytree(tmp_path / "copy", unsent, dirs_exist_ok=True)
    list(outbox.send_all(client))
    (run,) = all_runs(client)
    check_whole(client, run, folder, record)


def test_all_is_sent_the_oldest_first_with_its_status(client, keep, tmp_path):
    folders = [run_folder(tmp_path / name, top1=top1) for name, top1 in (("one", 0.5), ("two", 0.6))]
    keep(folders[0], "FAILED", "one")
    keep(folders[1], "KILLED", "two")
    assert [(sent.name, sent.status) for sent in outbox.send_all(client)] == [("one", "FAILED"), ("two", "KILLED")]
    assert {run.info.run_name: run.info.status for run in all_runs(client)} == {"one": "FAILED", "two": "KILLED"}


def test_a_folder_with_other_results_by_now_is_not_called_tracked(client, keep, folder):
    keep(folder)
    folder.model.write_text("another model\n")
    list(outbox.send_all(client))
    assert run_files.run_of(folder) is None


def test_a_rest_that_a_killed_process_left_is_removed(client, keep, unsent, folder):
    keep(folder)
    for record in unsent.rglob("local.json"):
        record.unlink()
    assert list(outbox.send_all(client)) == []
    assert outbox.is_empty()
    assert all_runs(client) == []


ALONE = """
import sys, time
from pathlib import Path
sys.path.insert(0, "tests/pipeline")
import crafted
from adaptformer.params import load
from adaptformer.run_folder import RunFolder
from adaptformer.tracking import outbox
from adaptformer.tracking.tracker import Tracker
outbox.FOLDER = Path(sys.argv[1])
tracker = Tracker("alone", load(), {}, RunFolder(Path(sys.argv[2])))
tracker.log_epoch(crafted.row(1))
print("kept", flush=True)
time.sleep(300)
"""


def test_a_living_run_is_let_be_and_a_killed_one_is_sent_as_killed(client, unsent, folder):
    process = subprocess.Popen(
        [sys.executable, "-c", ALONE, str(unsent), str(folder.root)], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "MLFLOW_TRACKING_URI": NOWHERE}, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "kept\n"
        assert list(outbox.send_all(client)) == []
        assert not outbox.is_empty()
    finally:
        clones.kill_group(process)
    (sent,) = outbox.send_all(client)
    assert sent.status == "KILLED"
    run = client.get_run(sent.run_id)
    assert run.info.end_time == client.get_metric_history(sent.run_id, "train_loss")[0].timestamp


def test_the_next_run_sends_it_before_its_own(client, keep, folder, monkeypatch, caplog):
    from flows import flow_run

    keep(folder)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(flow_run, "flow_run", types.SimpleNamespace(id="0", name="next"))
    with flow_run.tracked(load(ROOT / "params.yaml"), folder):
        assert outbox.is_empty()
        assert [run.info.run_name for run in all_runs(client)] == ["test"]
    assert len(all_runs(client)) == 1


def test_a_next_run_that_cannot_send_says_so_once_and_goes_on(keep, unsent, folder, monkeypatch, caplog):
    keep(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    caplog.set_level(logging.WARNING, "adaptformer")
    caplog.clear()
    tracker = begin(folder, "second")
    tracker.send_kept()
    tracker.log_epoch(row(1))
    tracker.finish("FINISHED")
    assert len([record for record in caplog.records if record.name == "adaptformer.tracking"]) == 1
    assert [record["name"] for record in kept(unsent)] == ["test", "second"]


def test_what_fails_to_be_sent_keeps_the_next_run_from_nothing(client, keep, unsent, folder, monkeypatch, caplog):
    keep(folder)
    caplog.set_level(logging.WARNING, "adaptformer")
    caplog.clear()
    monkeypatch.setattr(outbox.tracking, "send", lambda *_: 1 / 0)
    tracker = begin(folder, "second")
    tracker.send_kept()
    tracker.log_epoch(row(1))
    tracker.finish("FINISHED")
    assert [record.message.split(":")[0] for record in caplog.records if record.name == "adaptformer.tracking"] == [
        "What earlier runs had to keep was not sent"
    ]
    assert [run.info.run_name for run in all_runs(client)] == ["second"]
    assert [record["name"] for record in kept(unsent)] == ["test"]


def test_a_next_run_with_nothing_to_do_sends_it_too(client, keep, folder, monkeypatch, capsys):
    from flows import local

    monkeypatch.chdir(ROOT)
    for name, answer in (("check_data", None), ("is_clean", True)):
        monkeypatch.setattr(local.versioning, name, lambda answer=answer: answer)
    for name in ("make_sample_if_wanted", "present", "_shown"):
        monkeypatch.setattr(local, name, lambda *_: "shown")
    monkeypatch.setattr(local, "is_due", lambda *_: False)
    keep(folder)
    with monkeypatch.context() as context:
        context.setenv("MLFLOW_TRACKING_URI", NOWHERE)
        assert local.run([], {}, None) == 0
        assert "warning: MLflow at" in capsys.readouterr().out
    assert local.run([], {}, None) == 0
    assert "sent test, finished, as run" in capsys.readouterr().out
    assert outbox.is_empty()


def sync(monkeypatch):
    monkeypatch.chdir(ROOT)  # the command goes there, and the test must come back
    return command.main(["sync"])


def test_the_command_sends_and_says_what(client, keep, folder, monkeypatch, capsys):
    assert sync(monkeypatch) == 0
    assert capsys.readouterr().out.startswith("Nothing is kept")
    keep(folder, "FAILED")
    assert sync(monkeypatch) == 0
    (run,) = all_runs(client)
    assert capsys.readouterr().out == f"sent test, failed, as run {run.info.run_id}\n"


def test_the_command_fails_with_cause_and_remedy_while_nobody_answers(keep, unsent, folder, monkeypatch, capsys):
    keep(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    assert sync(monkeypatch) == 1
    cause, remedy = capsys.readouterr().err.splitlines()
    assert cause.startswith(f"error: MLflow at {NOWHERE} fails: ")
    assert "run the same command again" in remedy
    assert backlog.NOTHING_LOST in remedy
    assert len(kept(unsent)) == 1


class Server:
    """A real MLflow server that can be killed and started again."""

    def __init__(self, root):
        self.root = root
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        command = (
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.root}/mlflow.db",
            "--artifacts-destination", str(self.root / "files"), "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "1",
        )  # fmt: skip
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(
            command, cwd=self.root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        until = time.monotonic() + 90
        while not self._answers():
            assert self.process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)

    def kill(self):
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _answers(self):
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as reply:  # noqa: S310
                return reply.status == 200
        except OSError:
            return False


@pytest.fixture
def server(database):
    server = Server(database.parent)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def test_a_server_that_dies_in_the_middle_of_a_run_gets_the_rest_later(server, unsent, folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    tracker = begin(folder)
    tracker.log_epoch(row(1))
    begun = tracker.run_id
    assert begun
    server.kill()
    began = time.monotonic()
    tracker.log_epoch(row(2))
    tracker.log_results(folder)
    tracker.finish("FINISHED")
    assert time.monotonic() - began < 30
    assert len(kept(unsent)) == 1
    server.start()
    client = mlflow_store.connect()
    assert client.get_run(begun).info.status == "RUNNING"
    (sent,) = outbox.send_all(client)
    assert sent.run_id == begun
    (run,) = all_runs(client)
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(begun, "train_loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]
    assert "predictions.csv" in {file.path for file in client.list_artifacts(begun)}
    assert run_files.run_of(folder) == begun
