"""A model takes paths, bytes, opened images and arrays, and says of each what it sees, without torch."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import adaptformer as af
from adaptformer.model import adapter_file, inference
from adaptformer.prediction.predictor import NO_ANSWER, Predictor


@pytest.fixture
def photo(fitted: af.Run) -> Path:
    return fitted.folder.parent / "squares/blue/0.png"


def test_all_forms_of_an_image_have_one_answer(fitted: af.Run, photo: Path) -> None:
    pixels = np.array(Image.open(photo))
    forms: list[Any] = [str(photo), photo, photo.read_bytes(), Image.open(photo), pixels]
    answers = fitted.model.predict(forms, top_k=3)
    assert answers[0].label == "blue"
    assert len(answers[0].classes) == 3
    assert {(answer.classes, answer.probabilities) for answer in answers} == {
        (answers[0].classes, answers[0].probabilities)
    }
    assert [answer.image for answer in answers] == [str(photo), str(photo), "image 2", "image 3", "image 4"]


def test_grey_transparent_and_turned_images_are_converted_as_their_files_are(fitted: af.Run, photo: Path) -> None:
    image = Image.open(photo).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    exif = Image.Exif()
    exif[0x0112] = 6
    for form, options in ((image, {}), (image.convert("L"), {}), (image.convert("RGB"), {"exif": exif})):
        file = io.BytesIO()
        form.save(file, "PNG", **options)
        of_file, of_image = fitted.model.predict([file.getvalue(), Image.open(file)], top_k=3)
        assert of_file.probabilities == of_image.probabilities
    rgba, grey = np.array(image), np.array(image.convert("L"))
    answers = fitted.model.predict([image, rgba, image.convert("L"), grey])
    assert answers[0].probability == answers[1].probability
    assert answers[2].probability == answers[3].probability


def test_a_batch_of_arrays_and_the_probabilities_agree(fitted: af.Run, photo: Path) -> None:
    batch = np.stack([np.array(Image.open(photo))] * 2)
    found = fitted.model.probabilities(batch)
    answer = fitted.model.predict(batch, top_k=3)[1]
    assert found.shape == (2, 3)
    assert sorted(found[1], reverse=True) == list(answer.probabilities)
    assert fitted.model.probabilities([]).shape == (0, 3)


def test_an_image_that_cannot_be_read_has_a_fault_and_stops_no_other(fitted: af.Run, photo: Path) -> None:
    missing, bad, good = fitted.model.predict(["missing.png", b"no image", photo])
    assert missing.fault == "No such file or directory"
    assert "not an image" in bad.fault
    assert good.label == "blue"
    with pytest.raises(af.UserError, match=r"missing\.png: No such file"):
        _ = missing.label
    with pytest.raises(af.UserError, match="image 1: not an image"):
        fitted.model.probabilities([photo, b"no image"])


def test_an_answer_that_is_no_number_is_a_fault(fitted: af.Run, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictor, "logits", lambda _, images: np.full((len(images), 3), np.nan, np.float32))
    assert fitted.model.predict([photo])[0].fault == NO_ANSWER


@pytest.mark.parametrize(
    ("images", "cause"),
    [
        ("photo.png", "one str was given"),
        (b"content", "one bytes was given"),
        (np.zeros((4, 4, 3), np.uint8), "one array was given"),
        ([np.zeros((4, 4, 3), np.float32)], r"an array of float32 \[4, 4, 3\]"),
        ([np.zeros((4, 4, 2), np.uint8)], r"an array of uint8 \[4, 4, 2\]"),
        ([np.zeros((0, 4, 3), np.uint8)], r"an array of uint8 \[0, 4, 3\]"),
        ([3], "int is no kind of image"),
    ],
)
def test_what_is_no_list_of_images_is_refused(fitted: af.Run, images: Any, cause: str) -> None:
    with pytest.raises(af.UserError, match=cause):
        fitted.model.predict(images)


def test_no_class_at_all_cannot_be_asked_for(fitted: af.Run, photo: Path) -> None:
    with pytest.raises(af.UserError, match="top_k is 0"):
        fitted.model.predict([photo], top_k=0)


def test_a_model_is_loaded_by_its_folder_or_its_file(fitted: af.Run, tmp_path: Path) -> None:
    assert af.load(fitted.folder).classes == af.load(str(fitted.files.model)).classes == fitted.model.classes
    for missing in (tmp_path, tmp_path / "model.onnx"):
        with pytest.raises(af.UserError, match=r"model\.onnx does not exist"):
            af.load(missing)


def test_predicting_loads_no_torch(fitted: af.Run, photo: Path) -> None:
    code = (
        f"import adaptformer as af, sys; print(af.load({str(fitted.folder)!r}).predict([{str(photo)!r}])[0].label, "
        "sorted({'torch', 'timm', 'pandas', 'sklearn', 'mlflow'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "blue []\n"


def test_features_are_those_that_the_trained_model_gives_its_head(fitted: af.Run, photo: Path) -> None:
    other = photo.with_name("1.png")
    trained, card = adapter_file.load(fitted.files.adapter, fitted.files.backbone)
    stored = np.stack([np.array(Image.open(path).resize((8, 8), Image.Resampling.BICUBIC)) for path in (photo, other)])
    (batch,) = inference.prepared(stored, np.arange(2), card.image, batch_size=2, device=torch.device("cpu"))
    with torch.no_grad():
        expected = trained.pooled(batch)[0].numpy()
    found = fitted.model.embed([photo, other])
    assert np.array_equal(found, expected)
    assert np.allclose(fitted.model.embed([photo] * 33 + [other])[-1], expected[1], atol=1e-5)
    with pytest.raises(af.UserError, match="image 1 of the list"):
        fitted.model.embed([photo, b"no image"])


def test_features_need_the_adapter_and_the_backbone_of_the_model(fitted: af.Run, photo: Path, tmp_path: Path) -> None:
    shutil.copy(fitted.files.model, tmp_path)
    alone = af.load(tmp_path / "model.onnx")
    with pytest.raises(af.UserError, match=r"adapter\.safetensors is missing"):
        alone.embed([photo])
    for path in (fitted.files.adapter, fitted.files.backbone):
        shutil.copy(path, tmp_path)
    assert alone.embed([photo]).shape == (1, 12)
    shutil.copy(fitted.files.backbone, tmp_path / "adapter.safetensors")
    with pytest.raises(af.UserError, match="was not exported from"):
        alone.embed([photo])
