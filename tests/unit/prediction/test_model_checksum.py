"""The checksum at the end of an ONNX file, and files whose bits have turned."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from adaptformer.__main__ import main
from adaptformer.base.errors import UserError
from adaptformer.prediction import model_checksum
from adaptformer.prediction.predictor import Predictor

FLIPS = 150


@pytest.fixture
def copied(onnx_file: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(onnx_file, tmp_path / "model.onnx"))


def older(path: Path) -> Path:
    """The file as an earlier version wrote it: format 1, without a checksum."""
    proto = onnx.load(path)
    del proto.metadata_props[1:]
    content = json.loads(proto.metadata_props[0].value)
    del content["adapter_sha256"]
    proto.metadata_props[0].value = json.dumps({**content, "format": 1})
    path.write_bytes(proto.SerializeToString())
    return path


def refused(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        Predictor(path, device="cpu")
    assert str(caught.value).count("\n") == 1
    return caught.value


def test_every_reader_takes_the_file_and_sha256sum_computes_the_same(onnx_file: Path, images: np.ndarray) -> None:
    onnx.checker.check_model(onnx.load(onnx_file))
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": images})
    assert logits.shape == (12, 3)
    told = session.get_modelmeta().custom_metadata_map["adaptformer.sha256"]
    head = subprocess.run(["head", "-c", "-88", str(onnx_file)], capture_output=True, check=True).stdout
    summed = subprocess.run(["sha256sum"], input=head, capture_output=True, check=True).stdout
    assert summed.decode().split()[0] == told
    assert model_checksum.matches(onnx_file) is True


@pytest.mark.parametrize("which", ["onnx_file", "large_file"])
def test_no_turned_bit_anywhere_gives_an_answer(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source: Path = request.getfixturevalue(which)
    path = Path(shutil.copytree(source.parent, tmp_path / "copied")) / "model.onnx"
    content, dice = path.read_bytes(), random.Random(0)
    end = len(content) - model_checksum.LENGTH
    places = [dice.randrange(len(content)) for _ in range(FLIPS)] + list(range(end, len(content), 4))
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << dice.randrange(8)
        path.write_bytes(flipped)
        refused(path)
    path.write_bytes(content)
    assert Predictor(path, device="cpu").classes


@pytest.mark.parametrize("kept", [0, 1, 100, -1, -model_checksum.LENGTH, -model_checksum.LENGTH - 1])
def test_a_file_that_was_cut_off_is_refused(copied: Path, kept: int) -> None:
    copied.write_bytes(copied.read_bytes()[:kept])
    refused(copied)


def test_a_file_of_before_opens_without_a_checksum(copied: Path, onnx_file: Path, images: np.ndarray) -> None:
    found = Predictor(older(copied), device="cpu").logits(images)
    np.testing.assert_array_equal(found, Predictor(onnx_file, device="cpu").logits(images))


@pytest.mark.parametrize("lost", [True, False])
def test_what_another_tool_rewrote_needs_a_word_and_the_error_tells_it(
    copied: Path, photos: list[Path], lost: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = onnx.load(copied)
    proto.graph.name = "rewritten"
    if lost:
        del proto.metadata_props[1:]
    onnx.save(proto, copied)
    error = refused(copied)
    assert ("has lost the checksum" if lost else "its checksum does not match") in error.cause
    assert "for a file that another tool rewrote on purpose, give --unverified" in error.remedy
    assert len(Predictor(copied, device="cpu", unverified=True).classes) == 3
    words = ["predict", str(photos[0]), "--model", str(copied), "--device", "cpu"]
    assert main(words) == 1
    assert main([*words, "--unverified"]) == 0
    capsys.readouterr()
    into = ["--output", str(copied.parent / "into"), "--workers", "1"]
    assert main([*words, *into]) == 1
    assert not (copied.parent / "into/job.json").exists()
    assert main([*words, *into, "--unverified"]) == 0


def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    refused(tmp_path / "gone.onnx")
    refused(tmp_path)
