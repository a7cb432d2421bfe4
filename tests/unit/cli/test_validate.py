"""`adaptformer validate`: the data that it refuses, and what it leaves behind."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_project
from PIL import Image
from small_project import failure, run_stages, snapshot

from adaptformer.config.run_folder import RunFolder


def large() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


BAD_FILES = {
    "corrupt": (large()[:200] + b"\x00" * 400 + large()[600:1200], r"unreadable file"),
    "truncated": (large()[:900], r"truncated"),
    "zero-byte": (b"", r"empty file"),
    "not an image": (b"<html>404 Not Found</html>", r"not an image"),
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_image_stops_validation_and_is_listed(
    project: Path, capsys: pytest.CaptureFixture[str], content: tuple[bytes, str]
) -> None:
    (project / "data/train/blue/bad.jpg").write_bytes(content[0])
    before = snapshot(project)
    cause, remedy = failure(capsys, "validate")
    assert re.match(r"data/ has 1 fault: 1 x unreadable file; first: 'train/blue/bad\.jpg'", cause)
    assert "artifacts/data_faults.csv" in remedy
    after = snapshot(project)
    (line,) = csv.DictReader(io.StringIO(after.pop("artifacts/data_faults.csv").decode()))
    assert line["path"] == "train/blue/bad.jpg"
    assert re.search(content[1], f"{line['fault']} {line['detail']}")
    assert after == before


def test_the_list_of_faults_is_removed_when_they_are_mended(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "data/train/blue/bad.jpg").write_bytes(b"")
    failure(capsys, "validate")
    (project / "data/train/blue/bad.jpg").unlink()
    run_stages("validate")
    assert not RunFolder().faults.exists()


def missing_in_train(data: Path) -> None:
    shutil.rmtree(data / "train/coral")


def one_image(data: Path) -> None:
    for path in sorted((data / "train/coral").iterdir())[1:]:
        path.unlink()


def no_train(data: Path) -> None:
    shutil.rmtree(data / "train")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (missing_in_train, r"1 x class missing in train; first: 'test/coral'"),
        (one_image, r"1 x class with one image; first: 'train/coral'"),
        (no_train, r"data/ has no train split"),
        (shutil.rmtree, r"there are no images in data/"),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None], expected: str
) -> None:
    spoil(project / "data")
    before = snapshot(project)
    assert re.search(expected, failure(capsys, "validate")[0])
    after = snapshot(project)
    after.pop("artifacts/data_faults.csv", None)
    assert after == before


def test_a_manifest_from_before_survives_a_failed_validation(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_stages("validate")
    before = (project / "artifacts/manifest.csv").read_bytes()
    (project / "data/train/blue/bad.jpg").write_bytes(b"")
    failure(capsys, "validate")
    assert (project / "artifacts/manifest.csv").read_bytes() == before


def test_a_second_validation_reads_only_what_has_changed(project: Path) -> None:
    images = sorted((project / "data").rglob("*.png"))
    for path in images:
        os.utime(path, (1_600_000_000, 1_600_000_000))  # what was written just now is not trusted
    for known in (0, len(images), len(images) - 1):
        if known:
            small_project.forget("validate")
        run_stages("validate")
        timing = json.loads((project / "artifacts/timing/validate.json").read_text())
        assert (timing["known_before"], timing["images"]) == (known, len(images))
        if known:
            images[0].write_bytes(images[0].read_bytes())
