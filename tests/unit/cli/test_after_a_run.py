"""Commands that look at a finished run: `data label-errors`, `data relabel`, `monitor`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mite
import pandas as pd
import pytest
from PIL import Image
from small_project import adaptformer

from adaptformer.monitoring import expected_accuracy, monitor
from adaptformer.monitoring.monitor import MonitoredModel

RESULTS = Path("artifacts/monitor")
LOCAL = ("--model", "artifacts/model.onnx")


@pytest.fixture(scope="module")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished project, which the tests of this file share."""
    return Path(shutil.copytree(finished, tmp_path_factory.mktemp("after_a_run") / "project"))


@pytest.fixture(autouse=True)
def _inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(expected_accuracy, "DRAWS", 50)


def new_images(folder: Path, per_class: int = 8, side: int = 10, dark: bool = False) -> Path:
    folder.mkdir(parents=True)
    for i, pixels in enumerate(mite.pixels_and_labels(per_class, 7, side)[0]):
        Image.fromarray(pixels // 8 if dark else pixels).save(folder / f"{i:02}.png")
    return folder


def test_images_like_the_models_own_are_no_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = new_images(tmp_path / "new")
    (folder / "notes.txt").write_text("no image")
    assert adaptformer("monitor", str(folder), *LOCAL, "--label", "5") == 0
    said = capsys.readouterr().out
    assert "the model in artifacts/ on 24 new images: expected accuracy" in said
    assert said.count("unlike what it learned from") == 0
    assert said.count("like what it learned from") == 3
    assert "left out 1 files" in said
    table = pd.read_csv(RESULTS / "images.csv")
    assert len(table) == 24
    assert sorted(table["label_next"])[-5:] == [1, 2, 3, 4, 5]
    assert table["margin"].is_monotonic_increasing
    page = (RESULTS / "monitor.html").read_text()
    assert page.count("<img") == 5
    listed = pd.read_csv(RESULTS / "label_next.csv")
    assert list(listed["path"]) == [
        str(folder / path) for path in table[table["label_next"] > 0].sort_values("label_next")["path"]
    ]


def test_other_images_are_an_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("monitor", str(new_images(tmp_path / "new", side=40, dark=True)), *LOCAL) == 2
    said = capsys.readouterr().out
    assert "image sizes: unlike what it learned from" in said
    assert "colours: unlike what it learned from" in said
    assert said.startswith(
        "the model in artifacts/ on 24 new images: they differ from what it learned from in image sizes"
    )
    assert "no accuracy can be promised" in said
    assert "expected accuracy" not in said


def test_an_accuracy_that_may_be_too_low_is_an_alarm_only_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = new_images(tmp_path / "new")
    assert adaptformer("monitor", str(folder), *LOCAL, "--at-least", "0.9999") == 2
    assert "the expected accuracy may be below 100.0%" in capsys.readouterr().out
    assert adaptformer("monitor", str(folder), *LOCAL, "--at-least", "0.01") == 0


def test_the_models_own_images_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    adaptformer("monitor", "data/test/amber", *LOCAL)
    assert "3 of the images are in the model's own data" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda folder: None, "is no folder"),
        (lambda folder: folder.mkdir(), "holds no files"),
        (lambda folder: (folder.mkdir(), (folder / "a.txt").write_text("x")), "holds no image"),
    ],
)
def test_a_folder_without_images_is_two_lines(
    make: Callable[[Path], object], cause: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "new")
    assert adaptformer("monitor", str(tmp_path / "new"), *LOCAL) == 1
    answering, *error = capsys.readouterr().err.splitlines()
    assert answering == "the model in artifacts/, not registered here"
    assert cause in error[0]
    assert error[1].startswith("  fix: ")


def test_validation_images_that_changed_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv("artifacts/manifest.csv")
    path = Path("data", table.loc[table["split"] == "validation", "path"].iloc[0])
    content = path.read_bytes()
    path.write_bytes(b"other")
    try:
        assert adaptformer("monitor", str(new_images(tmp_path / "new")), *LOCAL) == 1
    finally:
        path.write_bytes(content)
    assert f"{path} is not the validation image" in capsys.readouterr().err


def test_without_the_backbone_the_command_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_backbone(*results: Any) -> MonitoredModel:
        return replace(MonitoredModel(*results), backbone=Path("none"))

    monkeypatch.setattr(monitor, "MonitoredModel", without_backbone)
    assert adaptformer("monitor", str(new_images(tmp_path / "new")), *LOCAL, "--label", "3") == 1
    assert "run `adaptformer fetch` first" in capsys.readouterr().err


def test_labels_are_ranked_and_the_first_accuracies_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("data", "label-errors") == 0
    said = capsys.readouterr().out
    assert "before any training: " in said
    assert "linear probe " in said
    assert "of 30 labels are likely wrong" in said
    table = pd.read_csv("artifacts/labels.csv", keep_default_na=False)
    assert len(table) == 30
    assert Path("artifacts/labels.html").is_file()
    table.loc[4, "new_label"] = "blue"
    table.to_csv("artifacts/labels.csv", index=False)
    assert adaptformer("data", "label-errors") == 0
    assert "kept the 1 new labels" in capsys.readouterr().out
    again = pd.read_csv("artifacts/labels.csv", keep_default_na=False)
    assert list(again["path"][again["new_label"] == "blue"]) == [table["path"][4]]
    Path("artifacts/labels.csv").unlink()


def test_relabel_moves_an_image_and_undo_brings_it_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_ino for path in Path("data").rglob("*.png")}
    (tmp_path / "answers.csv").write_text("path,new_label\ntest/amber/00.png,blue\n")
    assert adaptformer("data", "relabel", str(tmp_path / "answers.csv")) == 0
    assert "amber -> blue: 1" in capsys.readouterr().out
    assert len(list(Path("data/test/blue").iterdir())) == 4
    assert len(list(Path("data/test/amber").iterdir())) == 2
    assert adaptformer("data", "relabel", "--undo") == 0
    assert {path: path.stat().st_ino for path in Path("data").rglob("*.png")} == before


@pytest.mark.parametrize("arguments", [(), ("answers.csv", "--undo")])
def test_relabel_takes_a_file_or_undo(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("data", "relabel", *arguments) == 1
    assert "error: relabel takes a file, or --undo" in capsys.readouterr().err
