from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import mite
import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.export import graph
from adaptformer.model import inference
from adaptformer.model.adapter_file import AdapterCard
from adaptformer.model.classifier import Classifier
from adaptformer.prediction.model_file import weights_of

ADAPTER = "a" * 64


def test_the_batch_is_symbolic_and_every_size_gives_the_models_logits(
    model: Classifier, onnx_file: Path, images: np.ndarray
) -> None:
    proto = onnx.load(onnx_file)
    (given,), (returned,) = proto.graph.input, proto.graph.output
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    sizes = [dim.dim_value or dim.dim_param for dim in given.type.tensor_type.shape.dim]
    assert sizes == ["batch", mite.SIDE, mite.SIDE, 3]
    assert [dim.dim_value or dim.dim_param for dim in returned.type.tensor_type.shape.dim] == ["batch", 3]
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    for size in (1, 3, 8):
        expected = inference.logits(
            model, images[:size], mite.CONTRACT, batch_size=size, device=torch.device("cpu")
        ).numpy()
        (logits,) = session.run(["logits"], {"images": images[:size]})
        np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def test_the_metadata_tell_all_that_the_predictor_needs(onnx_file: Path) -> None:
    entry, checksum = onnx.load(onnx_file).metadata_props
    assert (entry.key, checksum.key) == ("adaptformer", "adaptformer.sha256")
    card = mite.backbone_card()
    assert json.loads(entry.value) == {
        "classes": ["amber", "blue", "coral"],
        "image": json.loads(json.dumps(dataclasses.asdict(mite.CONTRACT))),
        "adapter": {**mite.SETTINGS, "bottlenecks": [4, 2], "scale": "learned", "layernorm": "in"},
        "backbone": {"model": mite.MODEL, "sha256": card.sha256, "licence": "MIT"},
        "adapter_sha256": ADAPTER,
        "format": 3,
    }


def test_the_bytes_are_the_same_from_another_folder_and_hold_no_path(
    onnx_file: Path, large_file: Path, elsewhere: tuple[Path, Path], tmp_path: Path
) -> None:
    for again, before in zip(elsewhere, (onnx_file, large_file), strict=True):
        for path, expected in ((again, before), (weights_of(again), weights_of(before))):
            assert path.read_bytes() == expected.read_bytes()
            for trace in (str(Path(graph.__file__).parents[2]), "site-packages", ".py", str(tmp_path), "elsewhere"):
                assert trace.encode() not in path.read_bytes(), trace


def test_weights_lie_inside_up_to_the_threshold(onnx_file: Path) -> None:
    assert weights_of(onnx_file).read_bytes() == b""
    assert not [tensor for tensor in onnx.load(onnx_file).graph.initializer if tensor.external_data]
    assert "weights" not in json.loads(onnx.load(onnx_file).metadata_props[0].value)


def test_weights_from_the_threshold_on_are_in_a_second_file_whose_hash_is_in_the_metadata(
    onnx_file: Path, large_file: Path
) -> None:
    weights = weights_of(large_file)
    assert sorted(path.name for path in large_file.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    proto = onnx.load(large_file, load_external_data=False)
    outside = [tensor for tensor in proto.graph.initializer if tensor.external_data]
    assert {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"} == {
        "model.onnx.data"
    }
    assert sum(int(entry.value) for t in outside for entry in t.external_data if entry.key == "length") == (
        weights.stat().st_size
    )
    inside = onnx.load(onnx_file)
    described = json.loads(proto.metadata_props[0].value)
    assert described.pop("weights") == {"bytes": weights.stat().st_size, "sha256": files.sha256_file(weights)}
    assert described == json.loads(inside.metadata_props[0].value)
    whole = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(large_file).graph.initializer}
    assert whole.keys() == {tensor.name for tensor in inside.graph.initializer}
    for tensor in inside.graph.initializer:
        np.testing.assert_array_equal(whole[tensor.name], onnx.numpy_helper.to_array(tensor))


def made(floats: int) -> onnx_ir.Model:
    """A graph that answers with the first of `floats` numbers, kept in two tensors."""
    halves = [onnx.numpy_helper.from_array(np.zeros(floats // 2, np.float32), name) for name in "ab"]
    out = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [floats // 2])
    node = onnx.helper.make_node("Add", ["a", "b"], ["logits"])
    proto = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [out], halves), ir_version=9)
    return onnx_ir.from_proto(proto)


def test_the_threshold_is_in_megabytes_of_all_weights_together(
    card: AdapterCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for floats, outside in ((499_998, False), (500_000, True)):
        monkeypatch.setattr(graph, "exported", lambda *_, count=floats: made(count))
        graph.write(tmp_path / "model.onnx", mite.model(), card, 20, 2, ADAPTER)
        assert (weights_of(tmp_path / "model.onnx").stat().st_size > 0) is outside


def test_what_the_system_refuses_is_one_error(
    model: Classifier, card: AdapterCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(graph, "exported", lambda *_: made(4))
    monkeypatch.setattr(onnx_ir.external_data, "unload_from_model", full)
    with pytest.raises(UserError, match=r"cannot write .*model\.onnx: No space left"):
        graph.write(tmp_path / "model.onnx", model, card, 20, 0, ADAPTER)


@pytest.mark.parametrize("which", ["onnx_file", "large_file"])
def test_nothing_of_the_exporter_is_left_anywhere(which: str, request: pytest.FixtureRequest) -> None:
    proto = onnx.load(request.getfixturevalue(which))
    whole = proto.graph
    items = [*whole.node, *whole.value_info, *whole.initializer, *whole.input, *whole.output, whole, *proto.functions]
    assert items
    assert all(not item.metadata_props and not item.doc_string for item in items)
    assert not proto.doc_string


def test_the_opset_is_the_one_asked_for(onnx_file: Path, tmp_path: Path) -> None:
    older = tmp_path / "model.onnx"
    graph.write(older, mite.model().eval(), mite.adapter_card(), 18, 1, ADAPTER)
    for path, opset in ((older, 18), (onnx_file, 20)):
        assert [entry.version for entry in onnx.load(path).opset_import if not entry.domain] == [opset]


def test_exporting_says_nothing_and_leaves_the_logger_as_it_was(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("torch.onnx")

    def export(*_: object, **__: object) -> SimpleNamespace:
        print("progress of the exporter")
        logger.warning("a remark on its dependencies")
        return SimpleNamespace(model="the graph")

    monkeypatch.setattr(torch.onnx, "export", export)
    logger.setLevel(logging.INFO)
    try:
        assert graph.exported(mite.model(), mite.adapter_card(), 20) == "the graph"
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(logging.NOTSET)
    assert capsys.readouterr() == ("", "")
    assert not caplog.messages
