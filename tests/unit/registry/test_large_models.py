"""Models whose weights lie outside of the ONNX file, through registration, gate and rollback; nothing is trained."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
import registered
import yaml

from adaptformer.base.errors import UserError
from adaptformer.config.params import GateParams
from adaptformer.config.run_folder import RunFolder
from adaptformer.prediction import model_file
from adaptformer.prediction.predictor import Predictor
from adaptformer.registry import promotion, version_evidence, versions

ROOT = Path(__file__).resolve().parents[3]
BOUNDS = GateParams(**(yaml.safe_load((ROOT / "params.yaml").read_text())["gate"] | {"max_latency_ratio": 1000.0}))
NAME = "large"


@pytest.fixture
def client(own_client):
    return own_client


@pytest.fixture
def folder(client, tmp_path):
    """The run folder of version 1."""
    assert registered.register(tmp_path, NAME, set(range(60)), outside=True) == "1"
    return RunFolder(tmp_path / f"{NAME}-0.1-60")


def test_a_model_and_its_file_of_weights_are_registered_unchanged(client, folder, tmp_path):
    fetched = versions.fetch_model(client, NAME, "1", tmp_path / "fetched")
    assert fetched.name == "model.onnx"
    assert model_file.weights_of(fetched).read_bytes() == folder.model_weights.read_bytes()
    assert client.get_model_version(NAME, "1").tags["model.sha256"] == model_file.sha256(folder.model)
    assert Predictor(fetched, device="cpu").classes == registered.CLASSES


def test_mlflows_own_loader_runs_the_version(folder):
    images = np.stack([np.full((8, 8, 3), registered.COLOURS[name], np.uint8) for name in registered.CLASSES])
    answers = mlflow.pyfunc.load_model(f"models:/{NAME}/1").predict({"images": images})["logits"]
    assert answers.argmax(axis=1).tolist() == [0, 1, 2]


def test_the_same_bytes_are_one_version_and_changed_weights_are_not_registered(folder, tmp_path):
    assert versions.present(folder, NAME).version == "1"
    assert registered.register(tmp_path, NAME, set(range(60)), outside=True) == "1"
    content = bytearray(folder.model_weights.read_bytes())
    content[-1] ^= 1
    folder.model_weights.write_bytes(content)
    assert versions.present(folder, NAME) is None


def test_a_model_in_one_file_registers_no_weights(client, tmp_path):
    registered.register(tmp_path, NAME, set())
    names = {path.name for path in versions.fetch_model(client, NAME, "1", tmp_path / "fetched").parent.iterdir()}
    assert "model.onnx" in names
    assert "model.onnx.data" not in names


def test_gate_and_rollback_run_both_files_and_count_the_size_of_both(client, folder, tmp_path, monkeypatch):
    assert promotion.promote(NAME, BOUNDS, version=None, who="Ada", why="first").promoted
    table = registered.manifest(tests=120)
    registered.write_data(tmp_path / "data", table)
    registered.register(tmp_path, NAME, set(range(20)), sharpness=0.2, table=table, outside=True)
    challenger, champion = (version_evidence.gather(client, NAME, version, tmp_path / "gate") for version in ("2", "1"))
    judged, other = version_evidence.judged(challenger, champion, tmp_path / "data", BOUNDS)
    assert (judged.predictions["predicted"] == judged.predictions["label"]).all(), "the models themselves were asked"
    assert other.megabytes == (folder.model.stat().st_size + folder.model_weights.stat().st_size) / 1e6
    bounds = BOUNDS.model_copy(update={"margin": -0.5})
    assert promotion.promote(NAME, bounds, version=None, who="Ada", why="as good").promoted
    monkeypatch.setattr(promotion, "DATA", tmp_path / "nowhere")
    assert promotion.rollback(NAME, to=None, who="Bob", why="back").after.champion == "1"


def test_weights_that_are_lost_in_the_registry_are_an_error(client, folder, tmp_path):
    fetched = version_evidence.gather(client, NAME, "1", tmp_path / "gate")
    model_file.weights_of(fetched.model).unlink()
    with pytest.raises(UserError, match=r"needs .*model\.onnx\.data, which does not exist"):
        version_evidence.require_running(fetched, tmp_path)
