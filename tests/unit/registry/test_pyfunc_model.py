"""A registered version in the hands of MLflow: what it answers, what it refuses in one sentence, and what it needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import clones
import mlflow
import numpy as np
import pytest
import registered
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server

from adaptformer.prediction.predictor import Predictor, softmax
from adaptformer.registry import versions
from adaptformer.tracking import mlflow_store

NAME = "served"
IMAGES = np.stack([np.full((8, 8, 3), registered.COLOURS[name], np.uint8) for name in registered.CLASSES])
WRONG = [
    pytest.param(IMAGES / 255, "of type float64: give whole numbers from 0 to 255 .uint8.", id="0-to-1"),
    pytest.param(IMAGES.astype(np.float32), "of type float32: give whole numbers", id="whole-floats"),
    pytest.param(IMAGES > 9, "of type bool: give whole numbers", id="bool"),
    pytest.param(IMAGES.astype(np.int64) - 300, "numbers from -280 to -80, not from 0 to 255", id="below"),
    pytest.param(IMAGES.astype(np.int64) + 100, "numbers from 120 to 320, not from 0 to 255", id="above"),
    pytest.param(IMAGES[:, :7], r"the shape \[3, 7, 8, 3\], not \[images, 8, 8, 3\]: .* resize to 8 x 8", id="size"),
    pytest.param(IMAGES[..., :1], r"the shape \[3, 8, 8, 1\], not", id="grey"),
    pytest.param(IMAGES.transpose(0, 3, 1, 2), r"the shape \[3, 3, 8, 8\], not .* channels last", id="channels-first"),
    pytest.param(IMAGES[0], r"the shape \[8, 8, 3\], not .* a single image as a batch of one", id="one"),
    pytest.param(IMAGES[:0], r"the shape \[0, 8, 8, 3\], not", id="none"),
    pytest.param({"pixels": IMAGES}, "called `images`, not pixels", id="name"),
    pytest.param({"images": IMAGES / 255}, "of type float64", id="0-to-1-by-name"),
    pytest.param([[1, 2], [3]], "not all of one size", id="ragged"),
]  # fmt: skip


@pytest.fixture
def client(own_client):
    return own_client


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> PyFuncModel:
    """A version, loaded as MLflow's server does. Tests only ask it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("served")
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        mlflow_store.connect()
        registered.register(folder, NAME, set())
        return mlflow.pyfunc.load_model(f"models:/{NAME}/1")


def asked(model: PyFuncModel, **request: object) -> dict[str, object]:
    """What the server answers to a request, as JSON."""
    schema = model.metadata.get_input_schema()
    answer = scoring_server.invocations(json.dumps(request), "application/json", model, schema)
    assert answer.status == 200
    return json.loads(answer.response)["predictions"]


@pytest.mark.parametrize("given", [IMAGES, {"images": IMAGES}, IMAGES.tolist(), IMAGES.astype(np.int64)])
def test_the_answers_carry_class_names_and_are_the_models(served, given, tmp_path):
    answer = served.predict(given)
    registered.write_model(tmp_path / "model.onnx", 0.1)
    logits = Predictor(tmp_path / "model.onnx", device="cpu").logits(IMAGES)
    np.testing.assert_array_equal(answer["logits"], logits)
    np.testing.assert_allclose(answer["probabilities"], softmax(logits))
    np.testing.assert_array_equal(answer["probability"], answer["probabilities"].max(axis=1))
    assert answer["class"].tolist() == answer["classes"].tolist() == list(registered.CLASSES)


@pytest.mark.parametrize("key", ["inputs", "instances"])
@pytest.mark.parametrize("given", [IMAGES.tolist(), {"images": IMAGES.tolist()}])
def test_the_servers_answers_carry_class_names(served, key, given):
    if key == "instances" and isinstance(given, dict):
        given = [{"images": image} for image in given["images"]]
    assert asked(served, **{key: given})["class"] == list(registered.CLASSES)


@pytest.mark.parametrize(("given", "told"), WRONG)
def test_input_that_would_be_answered_wrongly_is_refused_in_one_sentence(served, given, told):
    with pytest.raises(MlflowException, match=told) as raised:
        served.predict(given)
    assert len(raised.value.message) < 250
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(("given", "told"), [p for p in WRONG if p.id in {"0-to-1", "size", "0-to-1-by-name", "name"}])
def test_the_server_refuses_wrong_input_without_the_pixels_and_as_the_clients_fault(served, given, told):
    plain = {name: value.tolist() for name, value in given.items()} if isinstance(given, dict) else given.tolist()
    with pytest.raises(MlflowException) as raised:
        asked(served, inputs=plain)
    assert raised.value.get_http_status_code() == 400
    said = json.loads(raised.value.serialize_as_json())
    assert re.match(f"the (images|input) .*{told}", said["message"])
    assert len(json.dumps(said)) < 400


@pytest.mark.e2e
def test_mlflows_server_answers_over_http_with_class_names_and_refuses_other_input(client, tmp_path):
    registered.register(tmp_path, NAME, set())
    port = str(clones.free_port())
    command = ["models", "serve", "--model-uri", f"models:/{NAME}/1", "--env-manager", "local", "--port", port]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        clones.wait_for(lambda: clones.answers(f"http://127.0.0.1:{port}/ping"), process, 120)
        status, answer = posted(port, IMAGES)
        assert (status, answer["predictions"]["class"]) == (200, list(registered.CLASSES))
        for given, sentence in ((IMAGES / 255, "are of type float64: give whole"), (IMAGES[:, :7], "have the shape")):
            status, answer = posted(port, given)
            assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
            assert answer["message"].startswith(f"the images {sentence}")
            assert len(answer["message"]) < 250
    finally:
        clones.kill_group(process)


def posted(port, images):
    """The status and the answer of MLflow's server to images."""
    body = json.dumps({"inputs": images.tolist()}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_model_that_gives_no_numbers_says_so(client, tmp_path):
    registered.register(tmp_path, NAME, set(), sharpness=float("nan"))
    with pytest.raises(MlflowException, match="the model's answer to image 0 is no number") as raised:
        mlflow.pyfunc.load_model(f"models:/{NAME}/1").predict(IMAGES)
    assert raised.value.get_http_status_code() == 500


def test_the_signature_names_what_comes_back(served):
    assert served.metadata.get_input_schema() is None
    shapes = {spec.name: (str(spec.type), spec.shape) for spec in served.metadata.get_output_schema()}
    answer = served.predict(IMAGES[:2])
    assert list(shapes) == list(answer)
    for name, (kind, shape) in shapes.items():
        assert [len(answer[name]) if side == -1 else side for side in shape] == list(answer[name].shape)
        assert answer[name].dtype.kind == np.dtype(kind).kind


def test_a_version_needs_no_gpu_package_and_holds_no_pickle(client, tmp_path):
    registered.register(Path(), NAME, set())
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/1", dst_path=str(tmp_path / "version")))
    needed = {line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()}
    assert needed == {"mlflow", "numpy", "onnxruntime"}
    assert "onnxruntime-gpu" not in (folder / "conda.yaml").read_text()
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files >= {"MLmodel", "pyfunc_model.py", "artifacts/model.onnx"}
    assert not [name for name in files if name.endswith(".pkl")]
    assert versions.fetch_model(client, NAME, "1", tmp_path / "fetched").name == "model.onnx"


def test_a_versions_program_imports_nothing_of_this_package_and_silences_onnxruntime_before_it_is_imported():
    text = versions.SERVED.read_text()
    assert not re.search(r"^\s*(from|import) adaptformer", text, re.MULTILINE)
    assert text.index("ORT_DISABLE_TELEMETRY") < text.index("import onnxruntime")
