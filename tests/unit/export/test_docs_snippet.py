"""The program of docs/export.md that needs none of this package: from JPEG files to the answers of `predict`."""

from __future__ import annotations

import dataclasses
import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import mite
import numpy as np
import pytest
from PIL import Image

from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import prepare
from adaptformer.prediction.predictor import Predictor

PAGE = Path(__file__).resolve().parents[3] / "docs/export.md"


def write_photo(path: Path, width: int, height: int, orientation: int = 1, mode: str = "RGB") -> Path:
    """A JPEG of noise in the colours of the task, in blocks, so that an edge lies elsewhere after any other resize."""
    numbers = np.random.default_rng(width * height)
    blocks = np.kron(numbers.integers(0, 3, (height // 7 + 1, width // 7 + 1)), np.ones((7, 7), np.int64))
    pixels = mite.COLOURS[blocks[:height, :width]] + numbers.integers(-20, 21, (height, width, 1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).convert(mode)
    image.save(path, quality=90, exif=exif)
    return path


@pytest.fixture
def run(onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs the program with the names of files beside the model, and returns its globals."""
    (code,) = (found for found in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "def " in found)
    shutil.copy(onnx_file, tmp_path / "model.onnx")
    (tmp_path / "program.py").write_text(code)
    monkeypatch.chdir(tmp_path)

    def ran(*names: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["program.py", *names])
        return runpy.run_path("program.py")

    return ran


def test_the_docs_program_prints_the_answers_of_predict(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{i}.jpg" for i in range(8)]
    for i, name in enumerate(names):
        write_photo(tmp_path / name, 60 + 13 * i, 100 - 7 * i, orientation=i + 1)
    run(*names)
    printed = capsys.readouterr().out.splitlines()
    predictor = Predictor(tmp_path / "model.onnx", device="cpu")
    answers = predictor.predict([Path(name) for name in names], 1)
    assert printed == [f"{a.path}   {a.classes[0]}   {100 * a.probabilities[0]:.1f} %" for a in answers]
    assert len({line.split("   ", 1)[1] for line in printed}) > 4, "the photos have different answers"


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
@pytest.mark.parametrize("jpeg_min_scale", [0, 2])
def test_the_docs_program_has_the_pixels_of_the_predictor(
    run: Any, resize: Any, jpeg_min_scale: int, tmp_path: Path
) -> None:
    first = write_photo(tmp_path / "first.jpg", 30, 30).name
    prepared = run(first)["prepared"]
    contract = ImageContract(23, resize, 0.9, "bicubic", mite.CONTRACT.mean, mite.CONTRACT.std, jpeg_min_scale)
    for orientation in range(1, 9):
        for width, height, mode in ((403, 211, "RGB"), (99, 250, "L"), (9, 200, "RGB"), (207, 207, "CMYK")):
            path = write_photo(tmp_path / "photo.jpg", width, height, orientation, mode)
            found = prepared(path, dataclasses.asdict(contract))
            np.testing.assert_array_equal(found, prepare(path.read_bytes(), contract), f"{orientation} {width} {mode}")
