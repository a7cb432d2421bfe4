"""The tracker alone: against a database of its own, and with one that stops answering."""

import contextlib
import logging
import sqlite3
import time

import mlflow
import pytest
from crafted import ROW, kept, row, run_folder

from adaptformer.params import load
from adaptformer.run_folder import RunFolder
from adaptformer.tracking import mlflow_store, outbox, run_files
from adaptformer.tracking.project import ROOT
from adaptformer.tracking.tracker import Tracker

NOWHERE = "http://127.0.0.1:9"
LINEAGE = {"git.commit": "0" * 40, "data.dvc": "d" * 32 + ".dir"}
pytestmark = pytest.mark.filterwarnings("ignore:Logger.*without a flow run id")


def begin(folder=None, name="test"):
    return Tracker(name, load(ROOT / "params.yaml"), LINEAGE, folder or RunFolder())


@pytest.fixture
def tracker(unsent):
    return begin()


@pytest.fixture
def client(database):
    return mlflow.MlflowClient(f"sqlite:///{database}")


@pytest.fixture
def warned(caplog):
    caplog.set_level(logging.WARNING, "adaptformer")
    return lambda: [record.message.split(":")[0] for record in caplog.records if record.name == "adaptformer.tracking"]


@contextlib.contextmanager
def locked(database):
    """Have another connection lock the whole database."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("begin exclusive")
        yield
        connection.execute("rollback")


def all_runs(client):
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def steps(client, run_id, name="train_loss"):
    return [(point.step, point.value) for point in client.get_metric_history(run_id, name)]


def test_nothing_is_made_before_something_is_logged(tracker, unsent, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'new.db'}")
    tracker.send_kept()
    tracker.finish("FINISHED")
    assert not any(tmp_path.rglob("*.db"))
    assert outbox.is_empty()


def test_an_epoch_told_twice_is_logged_once(tracker, client):
    for told in (row(1), row(1), row(2), row(1)):
        tracker.log_epoch(told)
    tracker.finish("FINISHED")
    assert steps(client, tracker.run_id) == [(1, 2.0), (2, 1.0)]
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    assert outbox.is_empty()


def test_each_epoch_sends_its_own_numbers_only(tracker, database, monkeypatch):
    sent = []
    monkeypatch.setattr(
        mlflow_store, "log_points", lambda _client, _run_id, points: sent.append({p[3] for p in points})
    )
    for epoch in (1, 2, 3):
        tracker.log_epoch(row(epoch))
    assert sent == [{1}, {2}, {3}]


def test_a_run_of_the_same_folder_that_was_killed_is_closed(tracker, client):
    dead, elsewhere = begin(), begin(RunFolder(ROOT / "elsewhere"))
    for one in (dead, elsewhere, tracker):
        one.log_epoch(ROW)
    found = [client.get_run(one.run_id).info.status for one in (dead, elsewhere, tracker)]
    assert found == ["KILLED", "RUNNING", "RUNNING"]


def test_files_lie_beside_the_database(tracker, client, database):
    tracker.log_epoch(ROW)
    run = client.get_run(tracker.run_id)
    assert run.info.artifact_uri.startswith((database.parent / "mlartifacts").as_uri())


def test_results_are_logged_with_all_their_files(client, unsent, tmp_path):
    folder = run_folder(tmp_path / "run")
    tracker = begin(folder)
    tracker.log_results(folder)
    tracker.finish("FINISHED")
    run = client.get_run(tracker.run_id)
    assert steps(client, tracker.run_id) == [(1, 2.0), (2, 1.0)]
    assert {"test_top1": 0.75, "timing.train.seconds": 1.5}.items() <= run.data.metrics.items()
    assert {"backbone.licence": "mit", "git.commit": "0" * 40}.items() <= run.data.tags.items()
    assert run.data.params["adapter.bottlenecks"] == "[16]"
    top = {file.path for file in client.list_artifacts(tracker.run_id)}
    assert {"predictions.csv", "model_card.md", "manifest.csv", "plots"} <= top
    assert "plots/calibration.png" in {file.path for file in client.list_artifacts(tracker.run_id, "plots")}
    assert run_files.run_of(folder) == tracker.run_id


def test_other_results_in_the_folder_are_not_tracked(client, unsent, tmp_path):
    folder = run_folder(tmp_path / "run")
    begin(folder).log_results(folder)
    assert run_files.is_tracked(folder)
    folder.predictions.write_text("others\n")
    assert not run_files.is_tracked(folder)


def test_the_same_results_stay_one_run_which_is_finished_then(client, unsent, tmp_path):
    folder = run_folder(tmp_path / "run")
    first, second = begin(folder), begin(folder)
    first.log_results(folder)
    first.finish("FAILED")
    second.log_results(folder)
    second.finish("FINISHED")
    assert second.run_id == first.run_id
    assert [run.info.status for run in all_runs(client)] == ["FINISHED"]


def test_results_whose_run_was_deleted_get_another_one(client, unsent, tmp_path):
    folder = run_folder(tmp_path / "run")
    first, second = begin(folder), begin(folder)
    first.log_results(folder)
    client.delete_run(first.run_id)
    second.log_results(folder)
    assert second.run_id not in {first.run_id, None}
    assert run_files.run_of(folder) == second.run_id


def test_a_server_that_is_not_there_is_told_once_and_stops_nothing(tracker, unsent, monkeypatch, warned):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    began = time.monotonic()
    for epoch in (1, 2, 3):
        tracker.log_epoch(row(epoch))
    tracker.finish("FAILED")
    assert time.monotonic() - began < 30
    assert warned() == ["Tracking stopped, the run goes on without; what MLflow misses is kept for the next run"]
    (content,) = kept(unsent)
    assert content["status"] == "FAILED"
    assert [step for key, _, _, step in content["points"] if key == "train_loss"] == [1, 2, 3]


def test_a_server_that_never_answers_delays_a_run_by_seconds(tracker, unsent, monkeypatch, warned, silent):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent)
    began = time.monotonic()
    for epoch in (1, 2, 3):
        tracker.log_epoch(row(epoch))
    tracker.finish("FINISHED")
    assert time.monotonic() - began < 15
    assert len(warned()) == 1
    assert len(kept(unsent)) == 1


def test_a_locked_database_stops_nothing_and_misses_nothing(tracker, client, database, unsent, warned):
    tracker.log_epoch(row(1))
    with locked(database):
        tracker.log_epoch(row(2))
        tracker.log_epoch(row(3))
        tracker.finish("FINISHED")
    assert len(warned()) == 1
    assert steps(client, tracker.run_id) == [(1, 2.0)]
    (content,) = kept(unsent)
    (sent,) = outbox.send_all(client)
    assert sent.run_id == tracker.run_id
    assert steps(client, tracker.run_id) == [(1, 2.0), (2, 1.0), (3, 0.0)]
    run = client.get_run(tracker.run_id)
    assert (run.info.status, run.info.end_time) == ("FINISHED", content["end"])
    when = {step: moment for key, _, moment, step in content["points"] if key == "train_loss"}
    history = client.get_metric_history(tracker.run_id, "train_loss")
    assert {point.step: point.timestamp for point in history} == when
    assert outbox.is_empty()


def test_a_server_that_answers_again_gets_all_when_results_are_logged(
    client, unsent, tmp_path, warned, monkeypatch, database
):
    folder = run_folder(tmp_path / "run")
    tracker = begin(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    tracker.log_epoch(row(1))
    assert len(kept(unsent)) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    tracker.log_epoch(row(2))
    tracker.log_results(folder)
    tracker.finish("FINISHED")
    assert len(warned()) == 1
    assert outbox.is_empty()
    assert steps(client, tracker.run_id) == [(1, 2.0), (2, 1.0)]
    assert client.get_run(tracker.run_id).info.status == "FINISHED"


def test_results_that_are_kept_already_are_not_kept_twice(unsent, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    folder = run_folder(tmp_path / "run")
    for _ in range(2):
        tracker = begin(folder)
        tracker.log_results(folder)
        tracker.finish("FAILED")
    assert len(kept(unsent)) == 1
    copies = {path.relative_to(unsent).as_posix().partition("/")[2] for path in unsent.rglob("*") if path.is_file()}
    assert {"run.json", "files/predictions.csv", "files/plots/calibration.png"} <= copies


def test_a_full_disk_is_told_once_and_stops_nothing(tracker, unsent, tmp_path, monkeypatch, warned):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    unsent.write_text("where the folder ought to be\n")
    for epoch in (1, 2):
        tracker.log_epoch(row(epoch))
    tracker.finish("FINISHED")
    assert warned()[1:] == ["What MLflow misses cannot be kept either"]


def test_a_result_that_another_process_removed_stops_nothing(client, unsent, tmp_path, warned):
    folder = run_folder(tmp_path / "run")
    folder.metrics.unlink()
    begin(folder).log_results(folder)
    assert len(warned()) == 1
