"""ONNX files that say what cannot be: one error each, and no answer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import mite
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adaptformer.base.errors import UserError
from adaptformer.prediction.predictor import Predictor

IMAGE = json.loads(json.dumps(dataclasses.asdict(mite.CONTRACT)))
RIGHT = {"classes": list(mite.CLASSES), "image": IMAGE}
MISSING = object()


def model(
    path: Path, text: str | None, *, given: tuple[int, list[Any]] = (TensorProto.UINT8, ["batch", 8, 8, 3]),
    classes: Any = 3, returned: int = TensorProto.FLOAT, more: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    """A file with these metadata and this graph: the mean of each colour."""
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Cast", ["means"], ["logits"], to=returned),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("images", *given)]
        + [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in more],
        [helper.make_tensor_value_info("logits", returned, ["batch", classes])],
        [numpy_helper.from_array(np.array([1, 2]), "axes")],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if text is not None:
        helper.set_model_props(proto, {"adaptformer": text})
    path.write_bytes(proto.SerializeToString())
    return path


def cause(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        Predictor(path, device="cpu")
    assert str(caught.value).count("\n") == 1
    assert "adaptformer export" in caught.value.remedy
    prefix = f"{path} is no model of adaptformer: "
    assert caught.value.cause.startswith(prefix)
    return caught.value.cause.removeprefix(prefix)


def test_what_is_right_opens(tmp_path: Path) -> None:
    found = Predictor(model(tmp_path / "m.onnx", json.dumps(RIGHT)), device="cpu")
    assert (found.classes, found.contract) == (mite.CLASSES, mite.CONTRACT)
    later = {**RIGHT, "image": {key: IMAGE[key] for key in IMAGE if key != "jpeg_min_scale"}, "new": 1}
    assert Predictor(model(tmp_path / "m.onnx", json.dumps(later)), device="cpu").contract == mite.CONTRACT


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "it has no metadata `adaptformer`"),
        ("", "its metadata `adaptformer` are no JSON"),
        ("{", "its metadata `adaptformer` are no JSON"),
        ("[" * 100_000, "its metadata `adaptformer` are no JSON"),
        ("1" * 5000, "its metadata `adaptformer` are no JSON"),
        ("null", "its metadata `adaptformer` are no JSON object"),
        ("[]", "its metadata `adaptformer` are no JSON object"),
        ("{}", "it names no classes"),
    ],
)
def test_what_is_no_json_object_is_told(tmp_path: Path, text: str | None, fault: str) -> None:
    assert cause(model(tmp_path / "m.onnx", text)) == fault


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"format": 4}, "its format is 4, not one of 1, 2, 3"),
        ({"format": 0}, "its format is 0, not one of 1, 2, 3"),
        ({"format": True}, "its format is True, not one of 1, 2, 3"),
        ({"format": "1"}, "its format is '1', not one of 1, 2, 3"),
        ({"classes": None}, "it names no classes"),
        ({"classes": []}, "it names no classes"),
        ({"classes": "abc"}, "it names no classes"),
        ({"classes": {"a": 1}}, "it names no classes"),
        ({"classes": ["a", 5, "c"]}, "the class name 5 is no text"),
        ({"classes": ["a", ["b"], "c"]}, "the class name ['b'] is no text"),
        ({"classes": ["a", "../../../../x", "c"]}, "the class name '../../../../x' has a slash"),
        ({"classes": ["a", "..", "c"]}, "the class name '..' begins with a dot, which hides folders"),
        ({"classes": ["a", "b\x1b[2J", "c"]}, "the class name 'b\\x1b[2J' has characters that cannot be shown"),
        ({"classes": ["a", "\ud800", "c"]}, "the class name '\\ud800' has characters that cannot be shown"),
        ({"classes": ["a", "b", "a"]}, "it names a class twice"),
        ({"classes": ["a", "b"]}, "its graph gives tensor(float) of ['batch', 3], not logits of 2 classes"),
        ({"classes": list("abcd")}, "its graph gives tensor(float) of ['batch', 3], not logits of 4 classes"),
        ({"image": None}, "it has no image contract"),
        ({"image": []}, "it has no image contract"),
        ({"image": {}}, "image.size is None, not a whole number from 1 to 2048"),
        ({"weights": "all"}, "weights names no sha256"),
        ({"weights": {"bytes": 5}}, "weights names no sha256"),
        ({"weights": {"sha256": "A" * 64}}, "weights names no sha256"),
        ({"adapter_sha256": 5}, "adapter_sha256 names no sha256"),
    ],
)
def test_values_that_cannot_be_are_told(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    assert cause(model(tmp_path / "m.onnx", json.dumps({**RIGHT, **changes}))) == fault


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("size", [None, "8", 8.0, True, 0, -8, 2049, 20_000, 10**9, 10**300, [8]]),
        ("resize", [None, "stretch", 1, ["crop"], {}]),
        ("crop_fraction", [None, 0, -1, 1.5, "1", True, float("nan"), float("inf")]),
        ("interpolation", [None, "nearest", 3]),
        ("mean", [None, 0.5, [0.5, 0.5], [0.5] * 4, ["0.5"] * 3, [float("nan")] * 3, [10**400] * 3]),
        ("std", [None, [0.0, 1.0, 1.0], [-1.0] * 3, [float("inf")] * 3]),
        ("jpeg_min_scale", [None, -1, "2", 1001, 0.5, True]),
    ],
)
def test_an_image_contract_that_cannot_be_is_told(tmp_path: Path, key: str, values: list[Any]) -> None:
    for value in values:
        text = json.dumps({**RIGHT, "image": {**IMAGE, key: value}})
        assert cause(model(tmp_path / "m.onnx", text)).startswith(f"image.{key} is "), value


def test_a_margin_that_would_take_all_memory_is_told(tmp_path: Path) -> None:
    for fraction in (8 / 8193, 1e-9, 5e-324):
        text = json.dumps({**RIGHT, "image": {**IMAGE, "crop_fraction": fraction}})
        assert cause(model(tmp_path / "m.onnx", text)) == (
            "image.crop_fraction is so small that images would be resized to more than 8192 pixels a side"
        )


@pytest.mark.parametrize(
    ("graph", "fault"),
    [
        ({"given": (TensorProto.UINT8, ["batch", 9, 9, 3])}, "its graph takes tensor(uint8) of ['batch', 9, 9, 3], "),
        ({"given": (TensorProto.FLOAT, ["batch", 8, 8, 3])}, "its graph takes tensor(float) of ['batch', 8, 8, 3], "),
        ({"given": (TensorProto.UINT8, ["batch", "h", "w", 3])}, "its graph takes tensor(uint8) of "),
        ({"returned": TensorProto.INT64}, "its graph gives tensor(int64) of ['batch', 3], not logits"),
        ({"more": ("x",)}, "its graph has 2 inputs and 1 outputs, not one of each"),
    ],
)
def test_a_graph_that_the_metadata_do_not_fit_is_told(tmp_path: Path, graph: dict[str, Any], fault: str) -> None:
    assert cause(model(tmp_path / "m.onnx", json.dumps(RIGHT), **graph)).startswith(fault)


def test_numbers_of_another_shape_than_was_announced_are_one_error(tmp_path: Path) -> None:
    found = Predictor(model(tmp_path / "m.onnx", json.dumps(RIGHT)), device="cpu")
    found.classes = ("a", "b")  # as where the graph leaves open how many it gives
    with pytest.raises(UserError, match=r"gives numbers of shape \(4, 3\), not 4 x 2"):
        found.logits(np.zeros((4, 8, 8, 3), np.uint8))


def test_metadata_that_are_no_utf8_are_told(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", json.dumps({**RIGHT, "note": "@@@@"}))
    path.write_bytes(path.read_bytes().replace(b"@@@@", b"\xff\xfe\xfd\xfc"))
    with pytest.raises(UserError):
        Predictor(path, device="cpu")


def test_onnx_itself_takes_these_files(tmp_path: Path) -> None:
    onnx.checker.check_model(onnx.load(model(tmp_path / "m.onnx", json.dumps(RIGHT))))
