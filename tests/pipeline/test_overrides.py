"""The flow with overrides: its own folder, DVC's records untouched, tracked, registered only when asked."""

import json
import re
import sys

import clones
import mlflow
import pytest

OVERRIDES = ("tuning.epochs=1", "adapter.bottlenecks=[2]")


def flow(clone, *arguments, **options):
    return clone.run(sys.executable, "-m", "flows", "run", *arguments, **options)


@pytest.fixture(scope="module")
def overridden(pristine, tmp_path_factory):
    """A clone in which only a run with overrides took place; and what it printed."""
    clone = clones.copy(pristine, tmp_path_factory.mktemp("overrides"))
    return clone, clone.flow_counting_reads("run", *OVERRIDES)


@pytest.fixture(scope="module")
def client(overridden):
    uri = f"sqlite:///{overridden[0].root / 'mlflow.db'}"
    return mlflow.MlflowClient(uri, uri)


def folder(clone):
    (run,) = (clone.root / "artifacts/runs").iterdir()
    return run


def mlflow_runs(client):
    experiment = client.get_experiment_by_name("adaptformer")
    return client.search_runs([experiment.experiment_id], order_by=["start_time"])


def test_it_runs_in_its_own_folder_and_leaves_dvc_alone(overridden):
    clone, output = overridden
    assert "epoch 1/1:" in output
    assert re.search(r"trained +vit_nano_patch4_32: adapters \(width 2, .*\) and the head, 1 epoch in \d+ s\n", output)
    assert f"{folder(clone).relative_to(clone.root)}/model.onnx" in output
    assert json.loads((folder(clone) / "params.json").read_text())["tuning"]["epochs"] == 1
    assert not (clone.root / "dvc.lock").exists()
    assert [path.name for path in (clone.root / "artifacts").iterdir()] == ["runs"]
    assert clone.run("git", "status", "--porcelain") == ""


def test_params_yaml_is_read_once(overridden):
    assert "params.yaml was read 1 times" in overridden[1]


def test_it_is_tracked_with_what_it_ran_with_and_not_registered(overridden, client):
    (run,) = mlflow_runs(client)
    assert (run.data.params["tuning.epochs"], run.data.params["adapter.bottlenecks"]) == ("1", "[2]")
    assert json.loads(run.data.tags["overrides"]) == {"tuning.epochs": 1, "adapter.bottlenecks": [2]}
    assert run.info.status == "FINISHED"
    assert client.search_registered_models() == []
    assert not (folder(overridden[0]) / "registration.json").exists()


def test_changed_data_are_refused(overridden):
    clone, _ = overridden
    added = clone.root / "data/test/0/added.png"
    added.write_bytes(next((clone.root / "data/test/0").iterdir()).read_bytes())
    try:
        assert "data/ has changed since it was recorded" in flow(clone, *OVERRIDES, code=1)
    finally:
        added.unlink()


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [(["tuning.epoch=1"], "did you mean tuning.epochs?"), (["--preset", "cifar"], "did you mean cifar100?")],
)
def test_a_misspelt_override_or_preset_is_refused_at_once(overridden, arguments, remedy):
    output = flow(overridden[0], *arguments, code=1)
    assert output.splitlines()[-1] == f"  fix: {remedy}"
    assert len(output.splitlines()) == 2


def test_the_same_again_skips_all_and_registers_when_asked(overridden, client):
    clone, _ = overridden
    output = flow(clone, *reversed(OVERRIDES), "--register")
    assert "ran nothing" in output
    assert [str(version.version) for version in client.search_model_versions("name = 'digits'")] == ["1"]
    (version,) = client.search_model_versions("name = 'digits'")
    assert json.loads(version.tags["overrides"])["tuning.epochs"] == 1
    before = len(mlflow_runs(client))
    flow(clone, *OVERRIDES)
    assert len(mlflow_runs(client)) == before, "with nothing to do, nothing is tracked"


def test_the_command_line_goes_on_in_the_same_folder(overridden):
    clone, _ = overridden
    assert "export is current" in clone.run(sys.executable, "-m", "adaptformer", "export", *OVERRIDES)
