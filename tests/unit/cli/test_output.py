"""What commands print: help, version, completion, more or less of the log, and predictions of files with any name."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from small_project import adaptformer

from adaptformer.base import progress
from adaptformer.prediction.predictor import Prediction

ODD = "a\x1b[2J\n\u202eb\udcff.png"
SHOWN = "photos/a\\x1b[2J\\n\\u202eb\\udcff.png"


class Classifies:
    """Stands in for the predictor."""

    provider = "CPUExecutionProvider"
    asked: Path
    read: bytes

    def __init__(self, model: Path, device: str, unverified: bool = False) -> None:
        Classifies.asked = model

    def predict(self, paths: list[Path], top: int) -> Iterator[Prediction]:
        for path in paths:
            Classifies.read = path.read_bytes()
            yield Prediction(path, ("=cat",), (0.5,))


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(progress, "_quiet", False)
    yield
    root.handlers, root.level = handlers, level


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from adaptformer.prediction import predictor

    monkeypatch.setattr(predictor, "Predictor", Classifies)
    monkeypatch.chdir(tmp_path)
    for name in ("artifacts/model.onnx", f"photos/{ODD}"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "photos"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert adaptformer(*arguments) == 1
    return capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer() == 0
    assert capsys.readouterr().out.startswith("usage: adaptformer")


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        adaptformer("--version")
    assert (end.value.code, capsys.readouterr().out) == (0, f"adaptformer {metadata.version('adaptformer')}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_script_completes_commands_options_and_files(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("completion", shell) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("predict", "relabel", "sort-into"))
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script.encode(), check=True)
        assert "_shtab_adaptformer_predict_pos_0_COMPGEN=_shtab_compgen_files" in script


def test_completion_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert "adaptformer[completion]" in refused(capsys, "completion", "bash")


@pytest.mark.parametrize("words", [("--quiet", "backbones"), ("backbones", "--quiet")])
def test_quiet_leaves_results_and_warnings(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer(*words) == 0
    assert "mae_vit_base" in capsys.readouterr().out
    assert logging.getLogger("adaptformer").level == logging.WARNING
    assert progress.bar("x", 3, "y").__enter__().visible is False
    assert progress._quiet


def test_verbose_shows_the_lines_of_libraries_with_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert adaptformer("backbones", "--verbose") == 0
    root = logging.getLogger()
    assert root.level == logging.INFO
    assert "%(asctime)s" in str(root.handlers[0].formatter._fmt)  # type: ignore[union-attr]


@pytest.mark.parametrize("form", ["table", "--csv", "--json"])
def test_a_file_of_any_name_is_one_line(photos: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("predict", "photos", "--top-k", "1", *([] if form == "table" else [form])) == 0
    out = capsys.readouterr().out
    if form == "table":
        assert out == f"{SHOWN}   =cat 50.0 %\n"
    elif form == "--json":
        assert out.count("\n") == 1
        told = json.loads(out)
        assert (told["path"], told["classes"][0]["class"]) == (f"photos/{ODD}", "=cat")
        assert os.fsencode(told["path"]) == os.fsencode(f"photos/{ODD}")
    else:
        (row,) = csv.DictReader(io.StringIO(out, newline=""))
        assert row["path"] == f"photos/{ODD}".replace("\udcff", "\\udcff")
        assert row["class1"] == "'=cat"


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]])
def test_predictions_for_programs_are_utf_8_whatever_the_terminal(tmp_path: Path, form: list[str]) -> None:
    program = f"""
import sys
from pathlib import Path
from adaptformer.__main__ import main
from adaptformer.prediction import predictor
class Classifies:
    provider = "cpu"
    def __init__(self, model, device, unverified): pass
    def predict(self, paths, top): return [predictor.Prediction(path, ("猫é",), (1.0,)) for path in paths]
predictor.Predictor = Classifies
sys.exit(main(["predict", "x.png", "--model", "m.onnx", "--top-k", "1", *{form!r}]))
"""
    for name in ("m.onnx", "x.png"):
        (tmp_path / name).touch()
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert ("猫é".encode() if form else b"\\u732b\xe9") in done.stdout


def test_standard_input_is_an_image(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"an image")))
    assert adaptformer("predict", "-", "--top-k", "1") == 0
    assert capsys.readouterr().out == "-   =cat 50.0 %\n"
    assert Classifies.read == b"an image"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-", "-"], "standard input can be read only once"),
        (["-", "--sort-into", "x"], "standard input is not a file"),
        (["s3://bucket/a.png"], "give --output DIR"),
        (["photos", "--model", "s3://bucket/model.onnx"], "download it and give its path"),
        (["photos", "--model", "artifacts"], "name the file in it, such as artifacts/model.onnx"),
        (["photos", "--model", "gone.onnx"], "gone.onnx does not exist"),
        (["photos", "--model", "models:/name"], "write models:/NAME@champion"),
    ],
)
def test_predict_names_the_way_for_other_sources_and_models(
    photos: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refused(capsys, "predict", *arguments)
