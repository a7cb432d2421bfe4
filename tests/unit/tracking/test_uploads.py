"""Runs that MLflow missed, logged later from their run folders: by the next run, by a command, once."""

import json
import logging
import os
import shutil
import types

import pytest
from clones import ROOT
from crafted import CALLS, files_of, row, run_folder, runs, steps

from adaptformer.__main__ import main
from adaptformer.config.params import load
from adaptformer.config.run_folder import RUNS
from adaptformer.pipeline import run
from adaptformer.tracking import run_files, uploads
from adaptformer.tracking.mlflow_run import Description
from adaptformer.tracking.tracker import Tracker, tracked

NOWHERE = "http://127.0.0.1:9"
pytestmark = pytest.mark.filterwarnings("ignore:Logger.*without a flow run id")


def begin(folder, name="test"):
    return Tracker(name, load(ROOT / "params.yaml"), {"git.commit": "0" * 40, "data.dvc": "d" * 36}, folder)


def waiting(folder):
    """The runs that wait in a folder, the oldest first."""
    return [Description(**json.loads(note.read_text())) for note in sorted(folder.root.glob("upload-*.json"))]


@pytest.fixture
def miss(outage):
    """Track a run, which MLflow misses from the first epoch on."""

    def miss(folder, status="FINISHED", name="test", results=True):
        with outage():
            tracker = begin(folder, name)
            tracker.log_epoch(row(1))
            if results:
                tracker.log_results(folder)
            if status:
                tracker.finish(status)
        (note,) = [note for note in waiting(folder) if note.name == name]
        return note

    return miss


def check_whole(client, run, folder, description):
    """The MLflow run is the described one, with the folder's results, each number once."""
    assert run.info.status == description.status
    assert (run.info.start_time, run.info.end_time) == (description.start, description.end)
    assert run.data.params == description.params
    assert description.tags.items() <= run.data.tags.items()
    assert [item.dataset.digest for item in run.inputs.dataset_inputs] == ["d" * 36]
    assert steps(client, run.info.run_id) == [(1, 2.0), (2, 1.0)]
    assert steps(client, run.info.run_id, "test_top1") == [(0, 0.75)]
    assert {"manifest.csv", "predictions.csv", "adapter.safetensors", "plots/curves.png"} <= files_of(
        client, run.info.run_id
    )
    assert run_files.run_of(folder) == run.info.run_id


class KilledError(BaseException):
    """What stands for SIGKILL: nothing handles it."""


@pytest.mark.parametrize(
    ("place", "call"), [("before", "create_run"), *(("after", call) for call in CALLS if call != "set_tag")]
)
def test_an_upload_that_is_killed_is_completed_and_doubles_nothing(client, miss, folder, monkeypatch, place, call):
    description = miss(folder)
    real = getattr(client, call)

    def dying(*arguments, **options):
        if place == "after":
            real(*arguments, **options)
        raise KilledError

    with monkeypatch.context() as context:
        context.setattr(client, call, dying)
        with pytest.raises(KilledError):
            list(uploads.upload_waiting(client))
    assert uploads.waiting()
    assert len(list(uploads.upload_waiting(client))) == 1
    (run,) = runs(client)
    check_whole(client, run, folder, description)
    assert uploads.waiting() == []


def test_an_upload_that_is_killed_at_its_very_end_doubles_nothing(client, miss, folder, tmp_path):
    description = miss(folder)
    (note,) = folder.root.glob("upload-*.json")
    shutil.copy2(note, tmp_path)
    list(uploads.upload_waiting(client))
    shutil.copy2(tmp_path / note.name, folder.root)
    list(uploads.upload_waiting(client))
    (run,) = runs(client)
    check_whole(client, run, folder, description)


def test_an_outage_at_the_end_of_a_run_is_made_good_in_the_same_mlflow_run(client, folder, outage):
    tracker = begin(folder)
    tracker.log_epoch(row(1))
    with outage():
        tracker.log_results(folder)
        tracker.finish("FINISHED")
    assert client.get_run(tracker.run_id).info.status == "RUNNING"
    (uploaded,) = uploads.upload_waiting(client)
    assert (uploaded.run_id, uploaded.complete) == (tracker.run_id, True)
    (run,) = runs(client)
    assert run.info.status == "FINISHED"
    assert steps(client, tracker.run_id) == [(1, 2.0), (2, 1.0)]
    assert run_files.run_of(folder) == tracker.run_id


def test_a_run_that_failed_during_the_outage_is_logged_without_metrics_and_says_so(client, folder, miss):
    miss(folder, "FAILED", results=False)
    (uploaded,) = uploads.upload_waiting(client)
    (run,) = runs(client)
    assert (run.info.status, run.data.metrics) == ("FAILED", {})
    assert run.data.params["training.seed"]
    assert uploaded.sentence == (
        f"uploaded test, failed, as run {run.info.run_id}, without metrics: its run folder does not hold its results"
    )
    assert not run_files.is_tracked(folder)


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_results_that_are_no_longer_there_are_not_logged_as_the_runs(client, folder, miss, change):
    miss(folder)
    if change == "replaced":
        folder.model.write_text("another model\n")
    else:
        folder.metrics.unlink()
    (uploaded,) = uploads.upload_waiting(client)
    assert not uploaded.complete
    assert client.get_run(uploaded.run_id).data.metrics == {}
    assert not run_files.is_tracked(folder)
    assert uploads.waiting() == []


def test_a_killed_run_ends_when_it_was_last_heard_of(client, folder, miss):
    description = miss(folder, status="")
    (note,) = folder.root.glob("upload-*.json")
    os.utime(note, (description.start / 1000 + 60, description.start / 1000 + 60))
    (uploaded,) = uploads.upload_waiting(client)
    run = client.get_run(uploaded.run_id)
    assert (uploaded.status, run.info.status) == ("KILLED", "KILLED")
    assert abs(run.info.end_time - description.start - 60_000) <= 1


def test_a_living_run_is_left_alone(client, folder, miss):
    miss(folder, status="", results=False)
    with folder.lock("a run"):
        assert list(uploads.upload_waiting(client)) == []
        assert runs(client) == []
        assert uploads.waiting()
        assert len(list(uploads.upload_waiting(client, held=folder))) == 1


def test_runs_wait_in_every_run_folder_and_all_are_uploaded(client, folder, miss):
    overridden = run_folder(RUNS / "0123456789ab", top1=0.5)
    miss(overridden, "KILLED", "overridden")
    miss(folder, "FAILED", "first", results=False)
    miss(folder, "FINISHED", "second")
    assert [one.root for one in uploads.waiting()] == [folder.root, overridden.root]
    assert [one.name for one in uploads.upload_waiting(client)] == ["first", "second", "overridden"]
    assert {run.info.run_name: run.info.status for run in runs(client)} == {
        "first": "FAILED", "second": "FINISHED", "overridden": "KILLED",
    }  # fmt: skip
    assert uploads.waiting() == []
    assert run_files.is_tracked(folder)
    assert run_files.is_unfinished(overridden)  # killed: the next run in the folder finishes it


def test_the_next_run_uploads_before_its_own_start(client, folder, miss):
    miss(folder)
    with folder.lock("next"), tracked(load(), {}, folder, {}) as tracker:
        assert uploads.waiting() == []
        assert [run.info.run_name for run in runs(client)] == ["test"]
        tracker.log_results(folder)
    assert len(runs(client)) == 1


def warnings(caplog):
    return [record.message.split(":")[0] for record in caplog.records if record.name == "adaptformer.tracking"]


def test_a_next_run_without_mlflow_says_so_once_and_goes_on(folder, miss, outage, caplog):
    miss(folder)
    caplog.set_level(logging.WARNING, "adaptformer")
    caplog.clear()
    with outage():
        tracker = begin(folder, "second")
        tracker.upload_waiting()
        tracker.log_epoch(row(1))
        tracker.finish("FINISHED")
    assert len(warnings(caplog)) == 1
    assert [note.name for note in waiting(folder)] == ["test", "second"]


def test_a_run_that_cannot_be_uploaded_does_not_stop_the_tracking_of_the_next(
    client, folder, miss, monkeypatch, caplog
):
    miss(folder)
    caplog.set_level(logging.WARNING, "adaptformer")
    caplog.clear()
    monkeypatch.setattr(uploads.mlflow_run, "upload", lambda *_: 1 / 0)
    tracker = begin(folder, "second")
    tracker.upload_waiting()
    tracker.log_epoch(row(1))
    tracker.finish("FINISHED")
    assert warnings(caplog) == ["Runs that wait for upload were not uploaded"]
    assert [run.info.run_name for run in runs(client)] == ["second"]
    assert [note.name for note in waiting(folder)] == ["test"]


def test_a_next_run_with_nothing_to_do_uploads_waiting_runs(folder, miss, outage, monkeypatch, capsys):
    monkeypatch.setattr(run, "unchanged", lambda _request: "the summary of an earlier run")
    monkeypatch.setattr(run.summary, "text", lambda *_: "shown")
    request = types.SimpleNamespace(folder=folder)
    miss(folder)
    with outage():
        run.show(request, pytest.fail)
    assert "warning: MLflow at" in capsys.readouterr().out
    run.show(request, pytest.fail)
    assert "uploaded test, finished, as run" in capsys.readouterr().out
    assert uploads.waiting() == []


def test_the_sync_command_lists_the_runs_that_it_uploaded(client, folder, miss, capsys):
    assert main(["sync"]) == 0
    assert capsys.readouterr().out.startswith("Nothing new: ")
    miss(folder, "FAILED")
    with folder.lock("a run"):
        assert main(["sync"]) == 0
        assert capsys.readouterr().out == "artifacts/ is in use: what waits there is uploaded afterwards\n"
    assert main(["sync"]) == 0
    (run,) = runs(client)
    assert capsys.readouterr().out == f"uploaded test, failed, as run {run.info.run_id}\n"


def test_the_sync_command_fails_with_cause_and_remedy_while_mlflow_does_not_answer(folder, miss, monkeypatch, capsys):
    miss(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    assert main(["sync"]) == 1
    cause, remedy = capsys.readouterr().err.splitlines()
    assert cause.startswith(f"error: MLflow at {NOWHERE} does not run: ")
    assert "run the same command again; nothing is logged twice, and runs that are not uploaded still wait" in remedy
    assert len(uploads.waiting()) == 1
