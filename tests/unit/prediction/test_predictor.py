from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mite
import numpy as np
import onnxruntime
import pytest
import torch

from adaptformer.__main__ import main
from adaptformer.base.errors import UserError
from adaptformer.data import image_files
from adaptformer.data.resizing import prepare
from adaptformer.model.classifier import Classifier
from adaptformer.prediction import model_file
from adaptformer.prediction.predictor import Predictor, images_below


@pytest.fixture(params=["onnx_file", "large_file"])
def predictor(request: pytest.FixtureRequest) -> Predictor:
    return Predictor(request.getfixturevalue(request.param), device="cpu")


def test_the_predictor_reads_classes_and_contract_from_the_file(predictor: Predictor) -> None:
    assert predictor.classes == mite.CLASSES
    assert predictor.contract == mite.CONTRACT
    assert predictor.provider == "CPUExecutionProvider"


def test_probabilities_are_those_of_the_trained_model(
    predictor: Predictor, model: Classifier, photos: list[Path]
) -> None:
    pixels = np.stack([prepare(path.read_bytes(), mite.CONTRACT) for path in photos]).astype(np.float32)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mite.CONTRACT.mean, mite.CONTRACT.std))
    with torch.no_grad():
        logits = model((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std)
    expected = logits.softmax(1).sort(descending=True)
    for batch_size in (5, 100):
        given = list(predictor.predict(photos, top=3, batch_size=batch_size))
        assert [prediction.path for prediction in given] == photos
        np.testing.assert_allclose([p.probabilities for p in given], expected.values.numpy(), atol=1e-5)
        assert [p.classes for p in given] == [tuple(mite.CLASSES[i] for i in row) for row in expected.indices]
        assert not any(prediction.fault for prediction in given)


def test_the_best_few_are_given(predictor: Predictor, photos: list[Path]) -> None:
    (whole,), (best,) = (list(predictor.predict(photos[:1], top=top)) for top in (99, 2))
    assert len(whole.classes) == 3
    assert sum(whole.probabilities) == pytest.approx(1)
    assert (best.classes, best.probabilities) == (whole.classes[:2], whole.probabilities[:2])


def test_faulty_files_get_their_reason_and_disturb_no_other(
    predictor: Predictor, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, page, secret = (tmp_path / name for name in ("empty.png", "page.png", "secret.png"))
    empty.write_bytes(b"")
    page.write_bytes(b"<html>")
    secret.write_bytes(b"x")
    read = image_files.read

    def guarded(path: Path, limit: int | None = None) -> bytes:
        if path == secret:
            raise PermissionError(13, "Permission denied")
        return read(path, limit)

    monkeypatch.setattr(image_files, "read", guarded)
    asked = [empty, photos[0], page, photos[1], secret]
    alone = [*predictor.predict([photos[0]], top=1), *predictor.predict([photos[1]], top=1)]
    given = list(predictor.predict(asked, top=1))
    assert [prediction.path for prediction in given] == asked
    page_fault = "not an image (JPEG, PNG, GIF, BMP, WEBP, TIFF, PPM, AVIF): it is a web page"
    faults = ["empty file", "", page_fault, "", "Permission denied"]
    assert [prediction.fault for prediction in given] == faults
    assert [p.classes for p in given if not p.fault] == [p.classes for p in alone]
    assert all(prediction.probabilities == () for prediction in given if prediction.fault)


def test_nothing_but_faulty_files_runs_no_model(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    assert [p.fault for p in predictor.predict([tmp_path / "a.png"] * 40, top=1)] == ["empty file"] * 40


def test_files_are_read_as_they_are_asked_for(predictor: Predictor, photos: list[Path]) -> None:
    asked: list[Path] = []

    def one_by_one() -> Iterator[Path]:
        for path in photos:
            asked.append(path)
            yield path

    given = predictor.predict(one_by_one(), top=1, batch_size=2)
    assert [next(given).path for _ in range(3)] == photos[:3]
    assert asked == photos[:4]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_image_without_finite_numbers_gets_a_fault_and_disturbs_no_other(
    predictor: Predictor, photos: list[Path], monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    expected, true = list(predictor.predict(photos, top=1)), predictor.logits

    def broken(images: np.ndarray) -> np.ndarray:
        logits = true(images)
        logits[1, 2] = bad
        return logits

    monkeypatch.setattr(predictor, "logits", broken)
    given = list(predictor.predict(photos, top=1))
    assert given[1].fault == "the model's answer is no number"
    assert given[1].classes == ()
    assert [given[0], *given[2:]] == [expected[0], *expected[2:]]
    (rows,) = predictor.probabilities(path.read_bytes() for path in photos)
    assert np.isnan(rows[1]).all()
    np.testing.assert_allclose(rows[[0, 2]].sum(axis=1), 1)


def test_the_command_shows_images_without_an_answer_and_ends_with_an_error(
    onnx_file: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    true = Predictor.logits

    def broken(self: Predictor, images: np.ndarray) -> np.ndarray:
        logits = true(self, images)
        logits[1] = np.nan
        return logits

    monkeypatch.setattr(Predictor, "logits", broken)
    assert main(["predict", str(photos[0].parent), "--model", str(onnx_file), "--device", "cpu"]) == 1
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[1].split("   ") == [str(photos[1]), "the model's answer is no number"]
    assert len(lines) == len(photos)
    assert "nan" not in said.out
    assert f"has no answer to 1 of {len(photos)} files" in said.err


def test_a_model_that_cannot_answer_is_one_error(predictor: Predictor) -> None:
    with pytest.raises(UserError, match="fails on a batch of 2: ") as caught:
        predictor.logits(np.zeros((2, 9, 9, 3), np.uint8))
    assert str(caught.value).count("\n") == 1


def test_folders_are_searched_in_order_without_litter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for name in ("b/2.png", "b/1.png", "a/x/y.jpg", "c.txt", ".hidden.png", "b/.git/z.png", "b/Thumbs.db"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    (tmp_path / ".asked.png").write_bytes(b"")
    found = images_below([tmp_path / "in", tmp_path / ".asked.png"])
    expected = ["in/c.txt", "in/a/x/y.jpg", "in/b/1.png", "in/b/2.png", ".asked.png"]
    assert [path.relative_to(tmp_path).as_posix() for path in found] == expected
    (told,) = caplog.messages
    assert told == (
        f"left out in {tmp_path}/in: hidden files and folders, or litter of other programs: 3, the first is "
        f"{tmp_path}/in/.hidden.png"
    )


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.png does not exist"):
        images_below([tmp_path / "nothing.png"])


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_what_is_no_onnx_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.onnx cannot be opened") as caught:
        Predictor(tmp_path / "model.onnx")
    assert str(caught.value).count("\n") == 1


class TestWeightsBeside:
    """A model with its weights in a file beside it."""

    @pytest.fixture
    def copied(self, large_file: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(large_file.parent, tmp_path / "copied")) / "model.onnx"

    def refused(self, path: Path) -> str:
        with pytest.raises(UserError) as caught:
            Predictor(path, device="cpu")
        assert "copy model.onnx and model.onnx.data from the same run into one folder" in caught.value.remedy
        assert str(caught.value).count("\n") == 1
        return caught.value.cause

    def test_missing_weights_are_refused(self, copied: Path) -> None:
        weights = model_file.weights_of(copied)
        weights.unlink()
        assert self.refused(copied) == f"{copied} needs {weights}, which does not exist"

    @pytest.mark.parametrize("kept", [0, 1000])
    def test_empty_or_truncated_weights_are_refused(self, copied: Path, kept: int) -> None:
        weights = model_file.weights_of(copied)
        weights.write_bytes(weights.read_bytes()[:kept])
        assert f"{copied} cannot be opened with the weights in {weights}: " in self.refused(copied)

    def test_of_another_model_of_the_same_size_are_told(self, copied: Path) -> None:
        weights = model_file.weights_of(copied)
        content = bytearray(weights.read_bytes())
        content[100] ^= 1
        weights.write_bytes(content)
        assert self.refused(copied) == f"{weights} does not hold the weights of {copied}"

    def test_are_found_by_their_name_whatever_the_model_is_called(self, copied: Path) -> None:
        renamed = copied.rename(copied.with_name("flowers.onnx"))
        assert Predictor(renamed, device="cpu").classes == mite.CLASSES


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    session = onnxruntime.InferenceSession

    def on_cpu(model: object, options: object, providers: list[str]) -> object:
        return session(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", on_cpu)


def test_cuda_asked_for_in_vain_is_told(onnx_file: Path, without_cuda: None) -> None:
    with pytest.raises(UserError, match="CUDA was asked for, but onnxruntime could not load it") as caught:
        Predictor(onnx_file, device="cuda")
    assert "--device cpu" in caught.value.remedy
    assert Predictor(onnx_file, device="auto").provider == "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        ("auto", ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ("cpu", ["CPUExecutionProvider"]),
    ],
)
def test_cuda_is_tried_first_unless_cpu_is_asked_for(
    onnx_file: Path, monkeypatch: pytest.MonkeyPatch, device: Any, wanted: list[str]
) -> None:
    session, asked = onnxruntime.InferenceSession, list[list[str]]()

    def noting(model: object, options: object, providers: list[str]) -> object:
        asked.append(providers)
        return session(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", noting)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    Predictor(onnx_file, device=device)
    assert asked == [wanted]


def test_predicting_imports_no_torch(onnx_file: Path, photos: list[Path]) -> None:
    code = (
        "import sys; from adaptformer.__main__ import main;"
        "code = main(['predict', '--device', 'cpu', '--model', sys.argv[1], sys.argv[2]]);"
        "print(code, [name for name in ('torch', 'timm', 'torchvision', 'pandas') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(onnx_file), str(photos[0].parent)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "0 []"
    assert len(result.stdout.splitlines()) == len(photos) + 1
