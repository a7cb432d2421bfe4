"""Results of `dvc exp run` and `dvc repro`, logged to MLflow after the fact: each one once."""

import json
import subprocess

import mlflow
import pytest

pytestmark = pytest.mark.e2e


def runs(clone, database="mlflow.db"):
    client = mlflow.MlflowClient(f"sqlite:///{clone.root / database}")
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return client, found


def git(clone, *arguments):
    return subprocess.run(
        ["git", *arguments], cwd=clone.root, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def logged(experimented):
    """The clone in which `dvc exp run` was the last to run, and what the command printed there."""
    clone, _ = experimented
    return clone, clone.adaptformer("sync")


@pytest.fixture(scope="module")
def logged_again(logged):
    """The same, after a `dvc repro` with other values, which the command then logged too."""
    clone, _ = logged
    clone.set_params(parity_images=12)  # the cheapest stage alone runs again
    undone = clone.adaptformer("sync")
    clone.run("dvc", "repro")
    return clone, undone, clone.adaptformer("sync")


def check(client, run, clone, revision):
    params = run.data.params
    assert (params["training.epochs"], params["adapter.bottlenecks"]) == ("2", "[16]")
    assert {"dvc.exp": "short", "dvc.rev": revision, "git.commit": git(clone, "rev-parse", "HEAD")}.items() <= (
        run.data.tags.items()
    )
    assert json.loads(run.data.tags["overrides"]) == {"training.epochs": 2}
    assert len(run.data.tags["data.dvc"]) == 36
    assert {"backbone.sha256", "backbone.licence", "manifest.sha256"} <= set(run.data.tags)
    assert 0 <= run.data.metrics["test_top1"] <= 1
    assert [point.step for point in client.get_metric_history(run.info.run_id, "val_loss")] == [1, 2]
    when = int(git(clone, "show", "-s", "--format=%ct", revision)) * 1000
    assert (run.info.status, run.info.start_time) == ("FINISHED", when)
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"report.html", "metrics.json", "history.csv", "predictions.csv", "manifest.csv"} <= files
    return files


def test_results_in_the_run_folder_are_logged_as_their_experiment_in_one_run(logged):
    clone, output = logged
    client, (run,) = runs(clone)
    assert output == f"short  top1 {run.data.metrics['test_top1']:.4f}  run {run.info.run_id}\n"
    revision = git(clone, "rev-parse", git(clone, "for-each-ref", "--format=%(refname)", "refs/exps/*/*/short"))
    files = check(client, run, clone, revision)
    assert "adapter.safetensors" in files
    assert "model.sha256" in run.data.tags


def test_a_result_that_is_logged_twice_is_one_run(logged):
    clone, _ = logged
    assert clone.adaptformer("sync").startswith("Nothing new")
    assert len(runs(clone)[1]) == 1


def test_an_experiment_alone_is_logged_from_its_revision(logged_again):
    clone, _, _ = logged_again
    options = {"MLFLOW_TRACKING_URI": f"sqlite:///{clone.root / 'other.db'}"}
    clone.adaptformer("sync", "--exp", "short", **options)
    assert "Nothing new" in clone.adaptformer("sync", "--exp", "short", **options)
    client, (run,) = runs(clone, "other.db")
    files = check(client, run, clone, run.data.tags["dvc.rev"])
    assert "adapter.safetensors" not in files


def test_results_of_a_later_dvc_repro_are_a_run_of_their_own(logged_again):
    clone, undone, output = logged_again
    assert undone == "artifacts/  not logged: `dvc status` is not clean: these results are not what DVC recorded\n"
    _, found = runs(clone)
    (new,) = [run for run in found if "dvc.exp" not in run.data.tags]
    assert len(found) == 2
    assert output.endswith(f"run {new.info.run_id}\n")
    assert new.data.params["export.parity_images"] == "12"
    assert new.data.tags["git.dirty"] == "true"


def test_a_lost_note_in_the_folder_makes_no_second_run(logged_again):
    clone, _, _ = logged_again
    (clone.root / "artifacts/tracking.json").unlink()
    assert clone.adaptformer("sync").startswith("Nothing new")
    assert len(runs(clone)[1]) == 2


def test_an_unknown_experiment_is_refused(logged):
    clone, _ = logged
    output = clone.adaptformer("sync", "--exp", "shirt", code=1)
    assert output == "error: there is no DVC experiment shirt\n  fix: `dvc exp list --all` shows them: short\n"


def test_a_dead_server_is_one_line_of_cause_and_one_of_what_to_do(logged):
    clone, _ = logged
    output = clone.adaptformer("sync", code=1, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert output.startswith("error: MLflow at http://127.0.0.1:9 does not run: ")
    assert "Traceback" not in output
