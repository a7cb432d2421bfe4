"""The tracker alone: against a database of its own, and with an MLflow that does not answer."""

import logging

import pytest
from clones import ROOT
from crafted import ROW, files_of, row, runs, steps

from adaptformer.base.errors import UserError
from adaptformer.config.params import load
from adaptformer.config.run_folder import RunFolder
from adaptformer.tracking import mlflow_store, run_files, uploads
from adaptformer.tracking.tracker import Tracker

NOWHERE = "http://127.0.0.1:9"
LINEAGE = {"git.commit": "0" * 40, "data.dvc": "d" * 36}
STOPPED = "Tracking stopped, the run continues; the next run uploads what MLflow misses"
pytestmark = pytest.mark.filterwarnings("ignore:Logger.*without a flow run id")


def begin(folder, name="test", **lineage):
    return Tracker(name, load(ROOT / "params.yaml"), LINEAGE | lineage, folder)


@pytest.fixture
def tracker(folder):
    return begin(folder)


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, "adaptformer")
    return lambda: [record.message.split(":")[0] for record in caplog.records if record.name == "adaptformer.tracking"]


def test_nothing_is_created_before_something_is_logged(tracker, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'new.db'}")
    tracker.upload_waiting()
    tracker.finish("FINISHED")
    assert not (tmp_path / "new.db").exists()
    assert uploads.waiting() == []


def test_an_epoch_that_comes_twice_is_logged_once(client, tracker):
    for epoch in (1, 1, 2, 1):
        tracker.log_epoch(row(epoch))
    tracker.finish("FINISHED")
    assert steps(client, tracker.run_id) == [(1, 2.0), (2, 1.0)]
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    assert uploads.waiting() == []


def test_a_killed_run_of_the_same_folder_is_marked_as_killed(client, folder):
    killed, elsewhere = begin(folder), begin(RunFolder(folder.root / "elsewhere"))
    present = begin(folder, **{"git.commit": "1" * 40})  # another one: it continues none
    for one in (killed, elsewhere, present):
        one.log_epoch(ROW)
    found = [client.get_run(one.run_id).info.status for one in (killed, elsewhere, present)]
    assert found == ["KILLED", "RUNNING", "RUNNING"]


@pytest.mark.parametrize("ended", [None, "KILLED"])
def test_a_run_that_was_stopped_and_finished_later_is_one_run_that_is_finished(client, folder, ended):
    first = begin(folder)
    first.log_epoch(row(1))
    if ended:  # by SIGTERM or Ctrl-C; SIGKILL leaves it running
        first.finish(ended)
        assert client.get_run(first.run_id).info.status == ended
    second = begin(folder, **{"prefect.flow_run_id": "another"})
    for epoch in (1, 2):
        second.log_epoch(row(epoch))
    assert client.get_run(first.run_id).info.status == "RUNNING"
    second.log_results(folder)
    second.finish("FINISHED")
    (run,) = runs(client)
    assert (run.info.run_id, run.info.status) == (first.run_id, "FINISHED")
    assert steps(client, run.info.run_id) == [(1, 2.0), (2, 1.0)]


@pytest.mark.parametrize("ended", ["FINISHED", "FAILED"])
def test_a_run_that_ended_itself_is_not_continued(client, folder, ended):
    first = begin(folder)
    first.log_epoch(row(1))
    first.finish(ended)
    second = begin(folder)
    second.log_epoch(row(1))
    assert second.run_id != first.run_id
    assert client.get_run(first.run_id).info.status == ended


def test_a_run_that_is_stopped_after_its_results_ends_as_the_next_one_does(client, folder):
    first = begin(folder)
    first.log_results(folder)
    first.finish("KILLED")
    assert run_files.is_unfinished(folder)
    assert not run_files.is_tracked(folder)
    for ended in ("KILLED", "FINISHED"):
        again = begin(folder)
        again.log_results(folder)
        assert client.get_run(first.run_id).info.status == "RUNNING"
        again.finish(ended)
        assert [(run.info.run_id, run.info.status) for run in runs(client)] == [(first.run_id, ended)]
    assert run_files.is_tracked(folder)


def test_files_lie_beside_the_database(client, tracker, database):
    tracker.log_epoch(ROW)
    run = client.get_run(tracker.run_id)
    assert run.info.artifact_uri.startswith((database.parent / "mlartifacts").as_uri())


def test_results_are_logged_with_all_their_files(client, folder, tracker):
    tracker.log_results(folder)
    tracker.finish("FINISHED")
    run = client.get_run(tracker.run_id)
    assert steps(client, tracker.run_id) == [(1, 2.0), (2, 1.0)]
    assert {"test_top1": 0.75, "timing.train.seconds": 1.5}.items() <= run.data.metrics.items()
    assert {"backbone.licence": "mit", "git.commit": "0" * 40}.items() <= run.data.tags.items()
    assert run.data.params["adapter.bottlenecks"] == "[16]"
    assert [one.dataset.digest for one in run.inputs.dataset_inputs] == ["d" * 36]
    assert {"predictions.csv", "model_card.md", "manifest.csv", "plots/calibration.png"} <= files_of(
        client, tracker.run_id
    )
    assert run_files.run_of(folder) == tracker.run_id


def test_epochs_that_are_logged_already_are_not_logged_again_with_the_results(client, folder, tracker):
    tracker.log_epoch(row(1))
    tracker.log_results(folder)
    assert steps(client, tracker.run_id) == [(1, 2.0), (2, 1.0)]
    assert "epoch" not in client.get_run(tracker.run_id).data.metrics


def test_other_results_in_the_folder_are_not_tracked(client, folder, tracker):
    tracker.log_results(folder)
    tracker.finish("FINISHED")
    assert run_files.is_tracked(folder)
    folder.predictions.write_text("others\n")
    assert not run_files.is_tracked(folder)


def test_the_same_results_stay_one_run_which_is_then_finished(client, folder, tracker):
    tracker.log_results(folder)
    tracker.finish("FAILED")
    second = begin(folder)
    second.log_results(folder)
    second.finish("FINISHED")
    assert second.run_id == tracker.run_id
    assert [run.info.status for run in runs(client)] == ["FINISHED"]


def test_results_whose_run_was_deleted_get_another_one(client, folder, tracker):
    tracker.log_results(folder)
    client.delete_run(tracker.run_id)
    second = begin(folder)
    second.log_results(folder)
    assert second.run_id not in {tracker.run_id, None}
    assert run_files.run_of(folder) == second.run_id


def test_a_dead_server_gives_one_warning_and_stops_nothing(folder, tracker, monkeypatch, warnings):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    for epoch in (1, 2, 3):
        tracker.log_epoch(row(epoch))
    tracker.log_results(folder)
    tracker.finish("FINISHED")
    assert warnings() == [STOPPED]
    assert [one.root for one in uploads.waiting()] == [folder.root]


def test_a_server_that_never_answers_is_asked_once_during_the_epochs(tracker, silent, monkeypatch, warnings):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
    monkeypatch.setitem(mlflow_store.FIRST_TIMEOUTS, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    for epoch in (1, 2, 3):
        tracker.log_epoch(row(epoch))
    tracker.finish("FINISHED")
    silent.accept()[0].close()
    with pytest.raises(BlockingIOError):
        silent.accept()
    assert warnings() == [STOPPED]
    assert len(uploads.waiting()) == 1


def test_an_outage_during_the_epochs_loses_nothing_once_the_results_are_logged(
    client, folder, tracker, outage, warnings
):
    tracker.log_epoch(row(1))
    with outage():
        tracker.log_epoch(row(2))
    assert len(uploads.waiting()) == 1
    tracker.log_results(folder)
    tracker.finish("FINISHED")
    assert warnings() == [STOPPED]
    assert uploads.waiting() == []
    (run,) = runs(client)
    assert (run.info.run_id, run.info.status) == (tracker.run_id, "FINISHED")
    assert steps(client, tracker.run_id) == [(1, 2.0), (2, 1.0)]


def test_an_outage_in_the_middle_of_a_request_loses_nothing(client, folder, tracker, monkeypatch):
    real = type(client).log_batch

    def lost(*arguments, **options):
        real(*arguments, **options)
        if options.get("metrics"):
            raise ConnectionError("the answer is lost")

    with monkeypatch.context() as context:
        context.setattr(type(client), "log_batch", lost)
        tracker.log_epoch(row(1))
    tracker.log_results(folder)
    assert len(runs(client)) == 1
    assert steps(client, tracker.run_id) == [(1, 2.0), (2, 1.0)]


def test_results_that_wait_for_upload_do_not_wait_twice(folder, outage):
    with outage():
        for _ in range(2):
            tracker = begin(folder)
            tracker.log_results(folder)
            tracker.finish("FAILED")
    assert len(list(folder.root.glob("upload-*.json"))) == 1


def test_a_note_that_cannot_be_written_gives_one_more_warning_and_stops_nothing(tracker, outage, monkeypatch, warnings):
    def full(*_):
        raise UserError("no space left", "free some")

    monkeypatch.setattr(uploads, "keep", full)
    with outage():
        for epoch in (1, 2):
            tracker.log_epoch(row(epoch))
        tracker.finish("FINISHED")
    assert warnings() == [STOPPED, "What MLflow misses cannot be uploaded later either"]


def test_results_that_another_process_removed_stop_nothing(client, folder, tracker, warnings):
    tracker.log_epoch(row(1))
    folder.metrics.unlink()
    tracker.log_results(folder)
    tracker.finish("FINISHED")
    assert warnings() == ["The results are not logged"]
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    assert not run_files.is_tracked(folder)


def test_known_results_stop_nothing_while_mlflow_does_not_answer(client, folder, tracker, outage, warnings):
    tracker.log_results(folder)
    second = begin(folder)
    with outage():
        second.log_results(folder)
        second.finish("FINISHED")
    assert warnings() == [STOPPED]
    assert uploads.waiting() == []
