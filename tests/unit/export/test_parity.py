from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import mite
import numpy as np
import onnx
import pytest

from adaptformer.base.errors import UserError
from adaptformer.export import parity
from adaptformer.export.parity import compare
from adaptformer.model.classifier import Classifier
from adaptformer.prediction import model_checksum
from adaptformer.prediction.predictor import Predictor

TOLERANCE = 1e-4


def logits(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def saved(proto: onnx.ModelProto, folder: Path) -> Path:
    """The changed model as export would have written it, with its checksum."""
    del proto.metadata_props[1:]
    (folder / "model.onnx").write_bytes(model_checksum.appended(proto.SerializeToString()))
    return folder / "model.onnx"


@pytest.mark.parametrize("which", ["onnx_file", "large_file"])
def test_the_exported_model_agrees_with_the_trained_one(
    model: Classifier, which: str, photos: list[Path], request: pytest.FixtureRequest
) -> None:
    agreement = parity.check(model, request.getfixturevalue(which), photos, mite.CONTRACT, TOLERANCE, 1)
    assert agreement.holds
    assert (agreement.images, agreement.top1_equal, agreement.top1_near_ties) == (12, 12, 0)
    assert 0 < agreement.relative < 1e-5
    assert json.loads(json.dumps(agreement.to_dict())) == {
        **dataclasses.asdict(agreement), "relative": agreement.relative, "holds": True,
    }  # fmt: skip


def test_a_weight_that_differs_a_little_is_found(
    model: Classifier, onnx_file: Path, photos: list[Path], tmp_path: Path
) -> None:
    proto = onnx.load(onnx_file)
    (bias,) = (tensor for tensor in proto.graph.initializer if tensor.name.endswith("head.linear.bias"))
    changed = onnx.numpy_helper.to_array(bias) + np.float32(0.01)
    bias.CopyFrom(onnx.numpy_helper.from_array(changed, bias.name))
    with pytest.raises(UserError, match="the ONNX file differs from the trained model") as caught:
        parity.check(model, saved(proto, tmp_path), photos, mite.CONTRACT, TOLERANCE, 1)
    assert "top-1 equal on 12 of 12 images" in caught.value.cause
    assert "nothing was exported" in caught.value.remedy
    assert parity.check(model, saved(proto, tmp_path), photos, mite.CONTRACT, 0.1, 1).holds


def test_another_image_contract_is_found(model: Classifier, onnx_file: Path, photos: list[Path]) -> None:
    other = dataclasses.replace(mite.CONTRACT, mean=(0.0, 0.0, 0.0))
    with pytest.raises(UserError, match="differs"):
        parity.check(model, onnx_file, photos, other, TOLERANCE, 1)


def test_the_centre_of_the_stored_image_is_compared(model: Classifier, onnx_file: Path, photos: list[Path]) -> None:
    assert parity.check(model, onnx_file, photos, dataclasses.replace(mite.CONTRACT, crop_fraction=0.8), TOLERANCE, 1)


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("change", [1.0, np.nan])
def test_a_graph_that_depends_on_the_batch_is_refused(
    model: Classifier, onnx_file: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch, size: int, change: float
) -> None:
    true = Predictor.logits
    monkeypatch.setattr(
        Predictor, "logits", lambda self, images: true(self, images) + (change if len(images) == size else 0)
    )
    with pytest.raises(UserError, match=f"other logits in a batch of {size}\n"):
        parity.check(model, onnx_file, photos[:5], mite.CONTRACT, TOLERANCE, 1)


def test_a_model_that_runs_on_a_single_batch_size_only_is_refused(
    model: Classifier, onnx_file: Path, photos: list[Path], tmp_path: Path
) -> None:
    proto = onnx.load(onnx_file)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 12
    with pytest.raises(UserError, match="does not run on a batch of 1") as caught:
        parity.check(model, saved(proto, tmp_path), photos, mite.CONTRACT, TOLERANCE, 1)
    assert "nothing was exported" in caught.value.remedy
    assert str(caught.value).count("\n") == 1


def test_the_bound_is_a_share_of_the_largest_logit() -> None:
    ours = logits([100.0, 0.0], [0.0, 50.0])
    assert compare(ours, ours + np.float32(0.0099), TOLERANCE).holds
    apart = compare(ours, ours + np.float32(0.011), TOLERANCE)
    assert not apart.holds
    assert apart.largest_logit == 100.0
    assert apart.relative == pytest.approx(0.011 / 100, rel=1e-2)


def test_another_best_class_holds_only_where_the_two_best_are_closer_than_the_bound() -> None:
    near = compare(logits([10.0, 10.0005, -20.0]), logits([10.001, 10.0, -20.0]), TOLERANCE)
    assert (near.top1_equal, near.top1_near_ties, near.holds) == (0, 1, True)
    clear = compare(logits([1.0, 1.0005, -2.0]), logits([1.001, 1.0, -2.0]), TOLERANCE)
    assert (clear.top1_equal, clear.top1_near_ties, clear.holds) == (0, 0, False)


def test_a_wrong_class_fails_even_within_the_bound() -> None:
    # The bound is met by a hair, but the trained model's two best lie further apart than it.
    ours, theirs = logits([1.0, 0.0]), logits([0.4, 0.5])
    assert compare(ours, theirs, 0.61).relative < 0.61
    assert not compare(ours, theirs, 0.61).holds


@pytest.mark.parametrize("fault", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_numbers_that_are_none_never_pass(fault: float, place: int) -> None:
    ours = logits([1.0, 0.0], [0.0, 1.0])
    theirs = ours.copy()
    theirs[1, place] = fault
    assert not compare(ours, theirs, TOLERANCE).holds
    assert not compare(theirs, ours, TOLERANCE).holds


def test_logits_of_zero_divide_nothing() -> None:
    zero = logits([0.0, 0.0])
    assert compare(zero, zero, TOLERANCE).holds
    assert compare(zero, zero, TOLERANCE).relative == 0.0
