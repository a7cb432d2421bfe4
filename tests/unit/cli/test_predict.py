"""`adaptformer predict` with a stand-in for the model: forms of output, sorting, files that are no images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_project import adaptformer, failure

from adaptformer.prediction.predictor import Prediction


class Classifies:
    """Stands in for the predictor: knows cats, and fails at files named bad."""

    provider = "CPUExecutionProvider"
    classes: tuple[str, ...] = ("cat", "dog")

    def __init__(self, model: Path, device: str, *, unverified: bool = False) -> None:
        self.asked = (model, device, unverified)

    def predict(self, paths: list[Path], top: int) -> list[Prediction]:
        return [
            Prediction(path, fault="empty file")
            if "bad" in path.name
            else Prediction(path, ("cat",) * top, (0.5,) * top)
            for path in paths
        ]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from adaptformer.prediction import predictor

    monkeypatch.setattr(predictor, "Predictor", Classifies)
    monkeypatch.chdir(tmp_path)
    for name in ("artifacts/model.onnx", "photos/a.png", "photos/bad.png", "photos/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "photos"


def test_predictions_are_a_table(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("predict", "photos/a.png", "photos/c.png", "--top-k", "2") == 0
    told = capsys.readouterr()
    assert told.out == "photos/a.png   cat 50.0 %   cat 50.0 %\nphotos/c.png   cat 50.0 %   cat 50.0 %\n"
    assert told.err == "the model in artifacts/, not registered here, on CPUExecutionProvider\n"


def test_csv_has_one_line_for_each_image_and_nothing_else_is_printed_there(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adaptformer("predict", "photos/a.png", "--csv", "--top-k", "1") == 0
    told = capsys.readouterr()
    assert told.out == "path,fault,class1,probability1\nphotos/a.png,,cat,0.500000\n"
    assert told.err == "the model in artifacts/, not registered here, on CPUExecutionProvider\n"


def test_json_has_one_line_for_each_image_and_marks_unsure_ones(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adaptformer("predict", "photos/a.png", "--json", "--top-k", "1", "--min-confidence", "0.6") == 0
    expected = {"path": "photos/a.png", "classes": [{"class": "cat", "probability": 0.5}], "unsure": True}
    assert json.loads(capsys.readouterr().out) == expected


def test_images_are_sorted_into_folders(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "a.png").write_bytes(b"a")
    assert adaptformer("predict", "photos", "--sort-into", "sorted") == 0
    assert adaptformer("predict", "photos/a.png", "--sort-into", "sorted", "--min-confidence", "0.6") == 0
    found = sorted(path.relative_to("sorted").as_posix() for path in Path("sorted").rglob("*.png"))
    assert found == ["cat/a.png", "cat/c.png", "unsure/a.png"]
    assert Path("sorted/cat/a.png").read_bytes() == b"a"


def test_a_class_named_unsure_is_refused_before_anything_is_sorted(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifies, "classes", ("cat", "unsure"))
    assert adaptformer("predict", "photos", "--sort-into", "sorted", "--min-confidence", "0.4") == 1
    assert "error: the model has a class unsure" in capsys.readouterr().err
    assert not Path("sorted").exists()


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]])
def test_files_in_a_folder_that_are_no_images_are_left_out_and_counted(
    photos: Path, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    assert adaptformer("predict", "photos", "--top-k", "1", *form) == 0
    told = capsys.readouterr()
    assert told.out.count("cat") == 2
    assert "bad" not in told.out
    assert told.err.endswith("left out 1 files in folders that are no images\n")


def test_a_folder_without_images_is_an_error(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "c.png"):
        (photos / name).unlink()
    assert adaptformer("predict", "photos") == 1
    assert "none of the files is an image" in capsys.readouterr().err
    (photos / "bad.png").unlink()
    assert "photos holds no files" in failure(capsys, "predict", "photos", "--csv")[0]


@pytest.mark.parametrize("share", ["0", "1.5", "-1"])
def test_a_probability_is_between_0_and_1(photos: Path, share: str) -> None:
    with pytest.raises(SystemExit, match="1"):
        adaptformer("predict", "photos", "--min-confidence", share)


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]])
def test_faulty_files_fail_the_command_after_the_others_are_classified(
    photos: Path, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    named = ("photos/a.png", "photos/bad.png", "photos/c.png")
    assert adaptformer("predict", *named, "--top-k", "1", *form) == 1
    told = capsys.readouterr()
    assert told.out.count("cat") == 2
    assert "empty file" in told.out
    assert told.err.endswith(
        "error: 1 of the files could not be read as images\n"
        "  fix: the others were classified; repair these, or move them away\n"
    )


def test_a_missing_model_or_path_is_an_error_that_names_it(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cause, remedy = failure(capsys, "predict", "photos", "--model", "nothing.onnx")
    assert cause == "nothing.onnx does not exist"
    assert "--model" in remedy
    assert failure(capsys, "predict", "nothing", "--csv")[0] == "nothing does not exist"
