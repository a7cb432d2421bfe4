"""The exported file in the hands of other makers' tools: each takes it, and gives the same answers.

onnxslim and OpenVINO are in the extra `dev`; onnxruntime-web is looked for in node_modules/ of the checkout and in
NODE_PATH.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from adaptformer.__main__ import main
from adaptformer.prediction.predictor import Predictor

Pixels = np.ndarray
ROOT = Path(__file__).resolve().parents[3]
IN_NODE = """
const ort = require("onnxruntime-web");
const { readFileSync } = require("fs");
const [model, pixels, ...shape] = process.argv.slice(1);
ort.env.wasm.numThreads = 1;
const images = new ort.Tensor("uint8", new Uint8Array(readFileSync(pixels)), shape.map(Number));
ort.InferenceSession.create(readFileSync(model))
  .then((session) => session.run({ images }))
  .then(({ logits }) => console.log(JSON.stringify({ dims: logits.dims, data: Array.from(logits.data) })));
"""


def quantised(model: Path, folder: Path) -> Path:
    quantize_dynamic(model, folder / "int8.onnx", per_channel=True, weight_type=QuantType.QInt8)
    return folder / "int8.onnx"


def slimmed(model: Path, images: Pixels, folder: Path) -> Pixels:
    onnxslim = pytest.importorskip("onnxslim", reason="pip install onnxslim")
    onnxslim.slim(str(model), str(folder / "slim.onnx"))
    return Predictor(folder / "slim.onnx", device="cpu", unverified=True).logits(images)


def in_openvino(model: Path, images: Pixels, folder: Path) -> Pixels:
    openvino = pytest.importorskip("openvino", reason="pip install openvino")
    # Without the hint a CPU with bf16 would compute in bf16.
    compiled = openvino.Core().compile_model(str(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled({"images": images})["logits"]


def in_node(model: Path, images: Pixels, folder: Path) -> Pixels:
    places = [str(ROOT / "node_modules"), *filter(None, [os.environ.get("NODE_PATH")])]
    node, there = shutil.which("node"), [place for place in places if (Path(place) / "onnxruntime-web").is_dir()]
    if not (node and there):
        pytest.skip("needs node and, in the checkout, `npm install --no-save onnxruntime-web`")
    (folder / "pixels").write_bytes(images.tobytes())
    command = [node, "-e", IN_NODE, str(model), str(folder / "pixels"), *map(str, images.shape)]
    answer = subprocess.run(
        command, env=os.environ | {"NODE_PATH": there[0]}, capture_output=True, text=True, check=True, cwd=folder
    )
    logits = json.loads(answer.stdout)
    return np.array(logits["data"]).reshape(logits["dims"])


@pytest.mark.parametrize("which", ["onnx_file", "large_file"])
def test_onnx_finds_no_fault_with_all_its_checks(which: str, request: pytest.FixtureRequest) -> None:
    onnx.checker.check_model(request.getfixturevalue(which), full_check=True)


@pytest.mark.parametrize("which", ["onnx_file", "large_file"])
def test_a_weight_is_listed_once(which: str, request: pytest.FixtureRequest) -> None:
    graph = onnx.load(request.getfixturevalue(which), load_external_data=False).graph
    assert graph.value_info
    assert not {value.name for value in graph.value_info} & {tensor.name for tensor in graph.initializer}


@pytest.mark.parametrize("answers", [slimmed, in_openvino, in_node])
def test_other_tools_give_the_same_answers(
    answers: Callable[[Path, Pixels, Path], Pixels], onnx_file: Path, images: Pixels, tmp_path: Path
) -> None:
    expected = Predictor(onnx_file, device="cpu").logits(images)
    np.testing.assert_allclose(answers(onnx_file, images, tmp_path), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("which", ["onnx_file", "large_file"])
def test_onnxruntimes_quantiser_takes_it_and_gives_the_same_classes(
    which: str, images: Pixels, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = request.getfixturevalue(which)
    small = quantised(file, tmp_path)
    kinds = {tensor.data_type for tensor in onnx.load(small).graph.initializer if len(tensor.dims) == 2}
    assert onnx.TensorProto.INT8 in kinds
    expected = Predictor(file, device="cpu").logits(images)
    found = Predictor(small, device="cpu", unverified=True).logits(images)
    # Eight bits of a model of width 12 that is as good as random: real ones are changed far less.
    np.testing.assert_allclose(found, expected, atol=0.25 * np.abs(expected).max())
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


def test_predict_takes_the_quantised_file_unverified(
    onnx_file: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = quantised(onnx_file, tmp_path)
    classes = {}
    for model in (onnx_file, small):
        words = ["predict", "--model", str(model), "--device", "cpu", "--unverified", "--csv"]
        assert main([*words, *map(str, photos)]) == 0
        classes[model] = [row["class1"] for row in csv.DictReader(capsys.readouterr().out.splitlines())]
    assert classes[small] == classes[onnx_file] != []
