"""Which result is which MLflow run, without any training: DVC's answers are made up."""

import contextlib

import pytest
from crafted import CARD, files_of, runs

from adaptformer.base import files
from adaptformer.config.params import load
from adaptformer.config.run_folder import RunFolder
from adaptformer.tracking import dvc_experiments, dvc_repository, run_files
from adaptformer.tracking.dvc_repository import Experiment
from adaptformer.tracking.tracker import Tracker
from adaptformer.training import history

SHORT = Experiment("short", "1" * 40, "2" * 40, 1_700_000_000_000, b"lock of short")


@pytest.fixture(autouse=True)
def experiment(folder, monkeypatch):
    """A checkout whose run folder holds what `dvc exp run` made under the name short."""
    monkeypatch.setattr(dvc_repository, "experiments", lambda: [SHORT])
    monkeypatch.setattr(dvc_repository, "lock_file", lambda: SHORT.lock)
    monkeypatch.setattr(dvc_repository, "exclusive", contextlib.nullcontext)
    monkeypatch.setattr(dvc_repository, "is_clean", lambda: True)
    monkeypatch.setattr(dvc_repository, "extract", extract)


def extract(_revision, paths, into):
    """Every revision is what lies here."""
    for path in paths:
        if (RunFolder().root.parent / path).is_file():
            files.write_bytes(into / path, (RunFolder().root.parent / path).read_bytes())


def track(folder):
    tracker = Tracker("flow", load(), {"prefect.flow_run_id": "0"}, folder)
    tracker.log_results(folder)
    tracker.finish("FINISHED")
    return tracker.run_id


def test_what_a_flow_has_tracked_is_only_named_after_its_experiment(client):
    run_id = track(RunFolder())
    (logged,) = dvc_experiments.log(client)
    assert (logged.name, logged.run_id, logged.top1) == ("short", run_id, 0.75)
    (run,) = runs(client)
    assert {"dvc.exp": "short", "dvc.rev": "1" * 40, "prefect.flow_run_id": "0"}.items() <= run.data.tags.items()
    assert list(dvc_experiments.log(client)) == []


def test_an_experiment_logged_from_its_revision_gets_the_rest_once_it_is_at_hand(client, monkeypatch):
    monkeypatch.setattr(dvc_repository, "lock_file", lambda: b"another lock")
    (logged,) = dvc_experiments.log(client, ["short"])
    assert "adapter.safetensors" not in files_of(client, logged.run_id)
    monkeypatch.setattr(dvc_repository, "lock_file", lambda: SHORT.lock)
    (again,) = dvc_experiments.log(client)
    assert again.run_id == logged.run_id == run_files.run_of(RunFolder())
    assert len(runs(client)) == 1
    assert "adapter.safetensors" in files_of(client, logged.run_id)
    points = client.get_metric_history(logged.run_id, "train_loss")
    assert [(point.step, point.timestamp) for point in points] == [(1, SHORT.when), (2, SHORT.when)]


def test_a_killed_logging_is_completed_and_not_doubled(client, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(client, "set_terminated", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(dvc_experiments.log(client, ["short"]))
    (logged,) = dvc_experiments.log(client, ["short"])
    (run,) = runs(client)
    assert (run.info.run_id, run.info.status) == (logged.run_id, "FINISHED")
    assert len(client.get_metric_history(logged.run_id, "train_loss")) == len(history.read(RunFolder().history))


def test_an_experiment_whose_results_are_gone_is_said_to_be(client, monkeypatch):
    monkeypatch.setattr(dvc_repository, "lock_file", lambda: b"another lock")
    monkeypatch.setattr(dvc_repository, "extract", lambda *_: None)
    (logged,) = dvc_experiments.log(client, ["short"])
    assert logged.run_id == ""
    assert "no longer has its metrics.json" in logged.why
    assert runs(client) == []


def test_params_that_were_valid_only_then_are_logged_as_they_were(client, monkeypatch):
    def old(_revision, paths, into):
        extract(_revision, paths, into)
        (into / "params.yaml").write_text("training:\n  epochs: 3\n  epsilon: 0.5\n")

    monkeypatch.setattr(dvc_repository, "lock_file", lambda: b"another lock")
    monkeypatch.setattr(dvc_repository, "extract", old)
    (logged,) = dvc_experiments.log(client, ["short"])
    run = client.get_run(logged.run_id)
    assert run.data.params == {"training.epochs": "3", "training.epsilon": "0.5"}
    assert run.data.tags["backbone.licence"] == CARD["licence"]
