"""The tracker alone: against a database of its own, and against a server that is not there."""

import dataclasses
import logging
import time

import mlflow
import pytest

from adaptformer.params import load
from adaptformer.run_folder import RunFolder
from adaptformer.tuning.history import EpochRow
from tasks import tracking
from tasks.checkout import ROOT

ROW = EpochRow(
    round=1, phase=1, epoch=1, lr=0.1, train_loss=2.0, train_top1=0.3, val_loss=2.1, val_top1=0.2,
    val_balanced_accuracy=0.2, val_macro_f1=0.1, rolled_back=0,
)  # fmt: skip


@pytest.fixture
def tracker():
    lineage = {"git.commit": "0" * 40, "data.dvc": "d" * 32 + ".dir"}
    return tracking.Tracker("test", load(ROOT / "params.yaml"), lineage, RunFolder())


@pytest.fixture
def uri(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'deep' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def test_nothing_is_made_before_something_is_logged(tracker, uri, tmp_path):
    tracker.finish("FINISHED")
    assert not any(tmp_path.rglob("*.db"))


def test_an_epoch_told_twice_is_logged_once(tracker, uri):
    for row in (ROW, ROW, dataclasses.replace(ROW, epoch=2, train_loss=1.0, val_loss=1.1), ROW):
        tracker.log_epoch(row)
    tracker.finish("FINISHED")
    client = mlflow.MlflowClient(uri)
    history = client.get_metric_history(tracker.run_id, "train_loss")
    assert [(value.step, value.value) for value in history] == [(1, 2.0), (2, 1.0)]
    assert client.get_run(tracker.run_id).info.status == "FINISHED"


def test_files_lie_beside_the_database(tracker, uri, tmp_path):
    tracker.log_epoch(ROW)
    run = mlflow.MlflowClient(uri).get_run(tracker.run_id)
    assert run.info.artifact_uri.startswith((tmp_path / "deep/mlartifacts").as_uri())


@pytest.mark.filterwarnings("ignore:Logger.*without a flow run id")
def test_a_server_that_is_not_there_is_told_once_and_stops_nothing(tracker, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "adaptformer"):
        for _ in range(3):
            tracker.log_epoch(ROW)
        tracker.finish("FINISHED")
    assert time.monotonic() - began < 60
    assert [record.message[:16] for record in caplog.records if record.name.startswith("adaptformer")] == [
        "Tracking stopped"
    ]
