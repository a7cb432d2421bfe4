"""The flow with overrides: its own folder, DVC's records untouched, tracked, registered only when asked."""

import json
import re

import clones
import mlflow
import pytest

pytestmark = pytest.mark.e2e

OVERRIDES = ("training.epochs=1", "adapter.bottlenecks=[2]")


@pytest.fixture(scope="module")
def clone(pristine, tmp_path_factory):
    """A clone in which only runs with overrides take place."""
    return clones.copy(pristine, tmp_path_factory.mktemp("overrides"))


@pytest.fixture(scope="module")
def flow(clone):
    with clone.flow_process() as flow:
        yield flow


@pytest.fixture(scope="module")
def overridden(clone, flow):
    """The clone after its first run; what that printed; how often it read params.yaml."""
    return clone, flow("run", *OVERRIDES), flow.reads


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


def test_a_run_with_overrides_has_its_own_folder_and_leaves_dvc_alone(overridden):
    clone, output, _ = overridden
    assert "epoch 1/1:" in output
    assert re.search(r"trained +vit_nano_patch4_32: adapters \(width 2, .*\) and the head, 1 epoch in \d+ s\n", output)
    assert f"{folder(clone).relative_to(clone.root)}/model.onnx" in output
    assert json.loads((folder(clone) / "params.json").read_text())["training"]["epochs"] == 1
    assert not (clone.root / "dvc.lock").exists()
    assert {path.name for path in (clone.root / "artifacts").iterdir()} == {"cache", "runs"}
    assert clone.run("git", "status", "--porcelain") == ""


def test_params_yaml_is_read_once(overridden):
    assert overridden[2] == 1


def test_a_run_with_overrides_is_tracked_with_its_params_and_not_registered(overridden, client):
    (run,) = mlflow_runs(client)
    assert (run.data.params["training.epochs"], run.data.params["adapter.bottlenecks"]) == ("1", "[2]")
    assert json.loads(run.data.tags["overrides"]) == {"training.epochs": 1, "adapter.bottlenecks": [2]}
    assert run.info.status == "FINISHED"
    assert client.search_registered_models() == []
    assert not (folder(overridden[0]) / "registration.json").exists()


def test_changed_data_are_refused(overridden, flow):
    clone = overridden[0]
    added = clone.root / "data/test/0/added.png"
    added.write_bytes(next((clone.root / "data/test/0").iterdir()).read_bytes())
    try:
        assert "data/ has changed since it was recorded" in flow("run", *OVERRIDES, code=1)
    finally:
        added.unlink()


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [(["training.epoch=1"], "did you mean training.epochs?"), (["--preset", "cifar"], "did you mean cifar100?")],
)
def test_a_misspelt_override_or_preset_is_refused_at_once(flow, arguments, remedy):
    output = flow("run", *arguments, code=1)
    assert output.splitlines()[-1] == f"  fix: {remedy}"
    assert len(output.splitlines()) == 2


def test_a_repeated_run_with_overrides_skips_all_stages_and_registers_if_asked(overridden, flow, client):
    output = flow("run", *reversed(OVERRIDES), "--register")
    assert "ran nothing" in output
    assert [str(version.version) for version in client.search_model_versions("name = 'digits'")] == ["1"]
    (version,) = client.search_model_versions("name = 'digits'")
    assert json.loads(version.tags["overrides"])["training.epochs"] == 1
    before = len(mlflow_runs(client))
    flow("run", *OVERRIDES)
    assert len(mlflow_runs(client)) == before, "with nothing to do, nothing is tracked"


def test_the_command_line_continues_in_the_folder_of_a_run_with_overrides(overridden):
    clone = overridden[0]
    assert "export is current" in clone.adaptformer("export", *OVERRIDES)
