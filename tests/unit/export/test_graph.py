from __future__ import annotations

import json
import logging
from pathlib import Path

import mite
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from adaptformer.export import graph
from adaptformer.model import inference
from adaptformer.model.classifier import Classifier


def test_the_batch_is_symbolic_and_every_size_gives_the_models_logits(
    model: Classifier, onnx_file: bytes, images: np.ndarray
) -> None:
    proto = onnx.load_from_string(onnx_file)
    (given,), (returned,) = proto.graph.input, proto.graph.output
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    sizes = [dim.dim_value or dim.dim_param for dim in given.type.tensor_type.shape.dim]
    assert sizes == ["batch", mite.SIDE, mite.SIDE, 3]
    assert [dim.dim_value or dim.dim_param for dim in returned.type.tensor_type.shape.dim] == ["batch", 3]
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    for size in (1, 3, 8):
        expected = inference.logits(
            model, images[:size], mite.CONTRACT, batch_size=size, device=torch.device("cpu")
        ).numpy()
        (logits,) = session.run(["logits"], {"images": images[:size]})
        np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def test_the_metadata_tell_all_that_the_predictor_needs(onnx_file: bytes) -> None:
    (entry,) = onnx.load_from_string(onnx_file).metadata_props
    assert entry.key == "adaptformer"
    card = mite.backbone_card()
    assert json.loads(entry.value) == {
        "classes": ["amber", "blue", "coral"],
        "image": mite.CONTRACT.to_dict(),
        "adapter": {**mite.SETTINGS, "bottlenecks": [4, 2], "scale": "learned", "layernorm": "in"},
        "backbone": {"model": mite.MODEL, "sha256": card.sha256, "licence": "MIT"},
        "format": 1,
    }


def test_the_bytes_are_the_same_from_another_folder_and_hold_no_path(
    model: Classifier, onnx_file: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    card = mite.adapter_card(bottlenecks=(4, 2), scale="learned", layernorm="in")
    assert graph.build(model, card, opset=20) == onnx_file
    for trace in (str(Path(graph.__file__).parents[2]), "site-packages", ".py", str(tmp_path)):
        assert trace.encode() not in onnx_file, trace


def test_nothing_of_the_exporter_is_left_anywhere(onnx_file: bytes) -> None:
    proto = onnx.load_from_string(onnx_file)
    whole = proto.graph
    items = [*whole.node, *whole.value_info, *whole.initializer, *whole.input, *whole.output, whole, *proto.functions]
    assert items
    assert all(not item.metadata_props and not item.doc_string for item in items)
    assert not proto.doc_string


def test_the_opset_is_the_one_asked_for(onnx_file: bytes) -> None:
    older = graph.build(mite.model().eval(), mite.adapter_card(), opset=18)
    for content, opset in ((older, 18), (onnx_file, 20)):
        proto = onnx.load_from_string(content)
        assert [entry.version for entry in proto.opset_import if not entry.domain] == [opset]


def test_exporting_says_nothing_and_leaves_the_logger_as_it_was(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("torch.onnx")
    logger.setLevel(logging.INFO)
    try:
        with graph._quiet():
            print("progress of the exporter")
            logger.warning("a remark on its dependencies")
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(logging.NOTSET)
    assert capsys.readouterr() == ("", "")
    assert not caplog.messages
