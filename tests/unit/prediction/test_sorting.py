"""Copies of images by class, beside what is there already."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptformer.base.errors import UserError
from adaptformer.prediction.predictor import Prediction
from adaptformer.prediction.sorting import require_apart, sorted_into


def image(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_each_image_goes_to_its_class_and_none_replaces_another(tmp_path: Path) -> None:
    out = tmp_path / "out"
    predictions = [
        Prediction(image(tmp_path / "a/1.png", b"one"), ("cat",), (0.9,)),
        Prediction(image(tmp_path / "b/1.png", b"two"), ("cat",), (0.8,)),
        Prediction(image(tmp_path / "c/1.png", b"three"), ("dog",), (0.5,)),
        Prediction(tmp_path / "gone.png", fault="cannot be read"),
    ]
    image(out / "cat/1.png", b"there before")
    for _ in range(2):  # the same again adds nothing
        assert list(sorted_into(out, predictions, 0.6)) == predictions
    found = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.png")}
    assert found == {
        "cat/1.png": b"there before", "cat/1-2.png": b"one", "cat/1-3.png": b"two", "unsure/1.png": b"three",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["../../x", "..", "/x", "a/b", "", ".hidden", "a\x1b[2J"])
def test_nothing_is_written_outside_the_folder_whatever_a_class_is_called(tmp_path: Path, name: str) -> None:
    photo = image(tmp_path / "photos/1.png", b"one")
    with pytest.raises(UserError, match="the class name "):
        list(sorted_into(tmp_path / "deep/er/out", [Prediction(photo, (name,), (0.9,))], 0.0))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [photo]


@pytest.mark.parametrize("name", ["unsure", "Unsure"])
def test_a_class_never_shares_its_folder_with_unsure_answers(name: str) -> None:
    require_apart(["cat", name], 0.0)
    require_apart(["cat", "not sure"], 0.6)
    with pytest.raises(UserError, match=f"the model has a class {name}") as caught:
        require_apart(["cat", name], 0.6)
    assert "without --min-confidence" in caught.value.remedy
