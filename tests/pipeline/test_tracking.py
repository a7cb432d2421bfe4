"""What MLflow and Prefect know after the flow; the first run was killed, the second went through."""

import hashlib
import json
import re
import sqlite3
import subprocess

import mlflow
import numpy as np
import pytest
import yaml
from clones import EPOCHS

NOWHERE = "http://127.0.0.1:9"
pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def client(flown):
    uri = f"sqlite:///{flown[0].root / 'mlflow.db'}"
    return mlflow.MlflowClient(uri, uri)


@pytest.fixture(scope="module")
def runs(client):
    (experiment,) = [e for e in client.search_experiments() if e.name == "adaptformer"]
    return {run.info.status: run for run in client.search_runs([experiment.experiment_id])}


@pytest.fixture(scope="module")
def finished(runs):
    return runs["FINISHED"]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_killed_run_is_the_one_that_finished_later(client, runs):
    assert sorted(runs) == ["FINISHED"]
    assert len(client.search_runs([runs["FINISHED"].info.experiment_id])) == 1


def test_each_epoch_is_one_step_those_before_the_kill_included(client, finished):
    for name in ("train_loss", "val_top1", "lr"):
        assert [value.step for value in client.get_metric_history(finished.info.run_id, name)] == list(
            range(1, EPOCHS + 1)
        )


def test_params_are_flat(finished):
    assert finished.data.params["training.epochs"] == str(EPOCHS)
    assert finished.data.params["registry.model"] == "digits"


def test_results_and_files_are_there(client, finished, flown):
    assert 0 <= finished.data.metrics["test_top1"] <= 1
    assert finished.data.metrics["timing.train.seconds"] > 0
    names = {file.path for file in client.list_artifacts(finished.info.run_id)}
    assert {"report.html", "manifest.csv", "adapter.safetensors", "parity.json", "plots"} <= names
    assert len(client.list_artifacts(finished.info.run_id, "plots")) == 5


def test_the_run_is_found_by_the_digest_of_its_data(client, finished, flown):
    digest = yaml.safe_load((flown[0].root / "data.dvc").read_text())["outs"][0]["md5"]
    found = client.search_runs([finished.info.experiment_id], f"dataset.digest = '{digest}' and status = 'FINISHED'")
    assert [run.info.run_id for run in found] == [finished.info.run_id]


def test_lineage_is_on_the_run_and_on_the_version(client, finished, flown):
    clone, _ = flown
    artifacts = clone.root / "artifacts"
    (version,) = client.search_model_versions("name = 'digits'")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=clone.root, capture_output=True, text=True, check=True)
    wanted = {
        "git.commit": commit.stdout.strip(),
        "git.dirty": "false",
        "manifest.sha256": sha256(artifacts / "manifest.csv"),
        "model.sha256": sha256(artifacts / "model.onnx"),
    }
    for tags in (finished.data.tags, version.tags):
        assert wanted.items() <= tags.items()
        assert {"backbone.sha256", "backbone.source_sha256", "backbone.licence", "prefect.flow_run_id"} <= set(tags)
    assert version.run_id == finished.info.run_id


def test_the_first_version_passed_the_gate_and_is_champion(client, flown):
    assert {name: str(v) for name, v in client.get_registered_model("digits").aliases.items()} == {"champion": "1"}
    sentence = client.get_model_version("digits", "1").tags["gate.sentence"]
    assert sentence.startswith("Version 1 becomes the first champion")
    assert f"gate       {sentence}" in flown[1]
    (move,) = client.search_model_versions("name = 'digits-history'")
    assert move.tags["kind"] == "promotion"


def test_the_registered_model_is_the_file_and_runs(flown, finished, monkeypatch):
    clone, _ = flown
    uri = f"sqlite:///{clone.root / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    model = mlflow.pyfunc.load_model("models:/digits@champion")
    answer = model.predict({"images": np.zeros((3, 32, 32, 3), np.uint8)})
    assert answer["logits"].shape == (3, 10)
    signature = model.metadata.signature
    assert signature.inputs is None  # the version itself refuses what does not fit (test_pyfunc_model.py)
    assert {"class", "probability", "logits"} <= {spec.name for spec in signature.outputs}


def test_prefect_knows_the_dead_run_as_crashed(flown):
    with sqlite3.connect(f"file:{flown[0].root / '.prefect/prefect.db'}?mode=ro", uri=True) as database:
        rows = database.execute("select state_type, name, tags from flow_run order by created").fetchall()
    assert [state for state, _, _ in rows] == ["CRASHED", "COMPLETED"]
    assert all(name.startswith("digits-") and "make-run" in tags for _, name, tags in rows)


def test_one_command_shows_the_origin_of_a_version_and_the_versions_of_an_image(flown):
    clone, _ = flown

    def ask(*what, code=0, **environment):
        return clone.adaptformer("lineage", *what, code=code, **environment)

    image = next((clone.root / "data/test").rglob("*.png"))
    out = ask(str(image.relative_to(clone.root)))
    assert re.search(r"digits +1 +.*champion.* +test +only judged +\d +test/", out)
    assert re.search(r"images +\d+ train, \d+ validation, 60 test", ask("champion"))
    assert "no version of digits has seen it" in ask("params.yaml", "--all")
    error = ask("champion", code=1, MLFLOW_TRACKING_URI=NOWHERE)
    assert f"error: MLflow at {NOWHERE} does not run" in error
    assert "Traceback" not in error


@pytest.fixture(scope="module")
def flow(flown):
    with flown[0].flow_process() as flow:
        yield flow


def test_the_same_bytes_registered_twice_are_one_version(client, flown, flow):
    clone, _ = flown
    (clone.root / "artifacts/registration.json").unlink()
    assert "ran nothing: all stages are current" in flow("run")
    assert len(client.search_model_versions("name = 'digits'")) == 1
    assert {name: str(v) for name, v in client.get_registered_model("digits").aliases.items()} == {"champion": "1"}
    assert json.loads((clone.root / "artifacts/registration.json").read_text())["judged"]


def test_a_version_that_was_registered_but_not_judged_is_judged_by_the_next_run(client, flown, flow):
    clone, _ = flown
    path = clone.root / "artifacts/registration.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"judged": False}))  # as a kill before the gate leaves it
    for alias in ("champion", "previous"):
        client.delete_registered_model_alias("digits", alias)
    assert "Nothing has changed" not in flow("run")
    assert json.loads(path.read_text())["judged"]
    assert "Nothing has changed" in flow("run")
