"""ONNX files whose metadata and graphs say anything at all: an answer, or one error of two lines."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from adaptformer.base.errors import UserError
from adaptformer.base.names import class_name_fault, unseen
from adaptformer.prediction import sorting
from adaptformer.prediction.predictor import Predictor

IMAGE = {
    "size": 8, "resize": "crop", "crop_fraction": 1.0, "interpolation": "bilinear", "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5], "jpeg_min_scale": 0,
}  # fmt: skip
RIGHT: dict[str, Any] = {"format": 1, "classes": ["a", "b", "c"], "image": IMAGE}

SIGNS = "aé日 ./\\\0\x1b\n\u202e\u200d\ud800"
NUMBERS = (
    st.sampled_from([0, 1, 8, -1, 2048, 2049, 20_000, 10**9, 10**400, 8.0, 0.5, 5e-324, 1e308])
    | st.integers()
    | st.floats()
)
NAMES = st.sampled_from(["a", "b", "..", "../../../../x", "/x", ".hidden", "", " ", "a\x1b[2J", "\ud800"]) | st.text(
    SIGNS, max_size=9
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
PARTS = ["format", "classes", "image", "weights", "adapter_sha256"]
SIDES = st.sampled_from([8, 8, 8, 9, 0, "h", 20_000])


@st.composite
def metadata(draw: st.DrawFn) -> bytes:
    """Metadata that are right but for a few values, or no JSON, or no text."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    content: Any = json.loads(json.dumps(RIGHT))
    for _ in range(draw(st.integers(0, 2))):
        kind = draw(st.integers(0, 3))
        if kind == 0:
            content[draw(st.sampled_from(PARTS))] = draw(ANYTHING)
        elif kind == 1 and isinstance(content["image"], dict):
            content["image"][draw(st.sampled_from([*IMAGE, "new"]))] = draw(ANYTHING)
        elif kind == 2 and isinstance(content["image"], dict):
            content["image"].pop(draw(st.sampled_from(sorted(IMAGE))), None)
        else:
            content["classes"] = draw(st.lists(NAMES, max_size=5))
    if draw(st.integers(0, 19)) == 0:
        content = draw(ANYTHING)
    text = json.dumps(content).encode()
    if draw(st.integers(0, 9)) == 0:
        text = text[: draw(st.integers(0, len(text)))]
    return text


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """An ONNX file that answers with the mean of each colour, or says that it does something else."""
    side, given_type = draw(SIDES), draw(st.sampled_from([TensorProto.UINT8] * 9 + [TensorProto.FLOAT]))
    returned = draw(st.sampled_from([TensorProto.FLOAT] * 9 + [TensorProto.INT32]))
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Div", ["means", "divisor"], ["scaled"]),  # by 0: infinite, and NaN for black
        helper.make_node("Cast", ["scaled"], ["logits"], to=returned),
    ]
    divisor = np.array([draw(st.sampled_from([1.0, 1.0, 0.0, np.nan]))], np.float32)
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("images", given_type, ["b", side, side, 3])],
        [helper.make_tensor_value_info("logits", returned, ["b", draw(st.sampled_from([3, 3, "many"]))])],
        [numpy_helper.from_array(np.array([1, 2]), "axes"), numpy_helper.from_array(divisor, "divisor")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    text = draw(metadata())
    placeholder = "\N{DIGIT ZERO}" * len(text)
    helper.set_model_props(model, {"adaptformer": placeholder})
    return model.SerializeToString().replace(placeholder.encode(), text) if text else model.SerializeToString()


def photo() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((12, 10, 3), 100, np.uint8)).save(out, "PNG")
    return out.getvalue()


PHOTO = photo()


@given(content=files())
def test_a_model_with_any_metadata_answers_or_is_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "deep")
        root.mkdir()
        (root / "model.onnx").write_bytes(content)
        (root / "photo.png").write_bytes(PHOTO)
        try:
            predictor = Predictor(root / "model.onnx", device="cpu", threads=1)
            found = list(sorting.sorted_into(root / "out", predictor.predict([root / "photo.png"], 3), 0.0))
        except UserError as error:
            told = str(error)
        else:
            told = ""
            assert all(class_name_fault(name) is None for name in predictor.classes)
            (prediction,) = found
            assert bool(prediction.fault) != bool(prediction.classes)
            assert all(np.isfinite(prediction.probabilities))
        assert not told or (len(told.splitlines()) == 2 and not unseen(told.replace("\n", "")))
        outside = [path for path in Path(place).rglob("*") if path.is_file() and not path.is_relative_to(root)]
        assert not outside
