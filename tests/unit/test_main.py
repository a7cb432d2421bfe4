"""The command line as a whole: what it imports, its exit codes, and the two lines of an error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import small_project
from small_project import adaptformer, failure

from adaptformer import __main__ as command_line
from adaptformer.base import yaml_text
from adaptformer.base.errors import UserError
from adaptformer.cli import stages
from adaptformer.pipeline import stage_runner


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = small_project.write(tmp_path / "project")
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize(
    "arguments",
    [
        ["training.epochs=7", "training.rounds=2", "--preset", "linear"],
        ["--preset", "linear", "training.epochs=7", "training.rounds=2"],
        ["training.epochs=7", "--preset", "linear", "training.rounds=2", "--quiet"],
    ],
)
def test_options_and_overrides_may_stand_in_any_order(
    arguments: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adaptformer("params", *arguments) == 0
    shown = yaml_text.parse(capsys.readouterr().out)
    assert isinstance(shown, dict)
    assert (shown["training"]["epochs"], shown["training"]["rounds"], shown["adapter"]["method"]) == (7, 2, "linear")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *([command, "--help"] for command in ("train", "run", "predict", "data", "fit", "promote", "sync", "compare")),
    ],
)
def test_help_imports_nothing_that_takes_its_time(arguments: list[str]) -> None:
    heavy = (
        "torch",
        "timm",
        "torchvision",
        "pandas",
        "numpy",
        "onnxruntime",
        "onnx",
        "pydantic",
        "yaml",
        "PIL",
        "sklearn",
        "filelock",
        "mlflow",
        "dvc",
    )
    code = (
        "import sys\nfrom adaptformer.__main__ import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n"
        f"    print(end.code, [name for name in {heavy!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[0].startswith("usage: adaptformer")
    assert result.stdout.splitlines()[-1] == "0 []"


def test_help_names_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        adaptformer("--help")
    assert end.value.code == 0
    told = capsys.readouterr().out
    for name, text in stages.STAGES.items():
        assert re.search(rf"\n +{name} +{text.split(';')[0][:20]}", told), name


WRONG_CALLS = [
    ["fly"], ["train", "extra"], ["predict"], ["predict", "x", "--top-k", "0"], ["rollback"], ["promote", "--bogus"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG_CALLS)
def test_a_wrong_call_exits_with_1_and_shows_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        adaptformer(*arguments)
    assert end.value.code == 1, "2 means that the gate refused a model"
    cause, remedy = capsys.readouterr().err.splitlines()
    assert cause.startswith("error: ")
    assert remedy.startswith("  fix: call it as adaptformer ")


def test_a_command_whose_packages_are_not_installed_says_what_to_install(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert failure(capsys, "history") == ("mlflow is not installed", "pip install 'adaptformer[pipeline]'")


def test_a_refused_model_exits_with_2(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from adaptformer.registry import promotion

    asked: list[Any] = []

    def promote(name: str, *_: object, **options: object) -> promotion.Outcome:
        asked.append((name, options))
        return promotion.Outcome(name, None, Path("page.html"), "", moved)  # type: ignore[arg-type]

    monkeypatch.setattr(promotion, "promote", promote)
    monkeypatch.setattr("adaptformer.gate.decision.table", lambda _: "the table")
    moved: Any = None
    assert adaptformer("promote", "--who", "Ada", "--why", "better") == 2
    assert capsys.readouterr().out == "the table\n\nthe decision, with images: page.html\n"
    moved = "a move"
    assert adaptformer("promote", "--version", "3", "--model", "other", "--who", "Ada") == 0
    assert asked == [
        ("squares", {"version": None, "who": "Ada", "why": "better"}),
        ("other", {"version": "3", "who": "Ada", "why": ""}),
    ]


def test_the_traceback_is_shown_on_request_only(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "params.yaml").unlink()
    assert failure(capsys, "validate")[0] == "there is no params.yaml"
    with pytest.raises(UserError, match=r"there is no params\.yaml"):
        adaptformer("--traceback", "validate")


def test_ctrl_c_says_how_to_go_on(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage_runner, "run", interrupted)
    assert adaptformer("validate") == 130
    assert capsys.readouterr().err == "stopped; run the same command again to continue\n"


def test_stages_print_their_progress_on_standard_error(project: Path) -> None:
    command = [sys.executable, "-m", "adaptformer", "validate"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment())
    assert re.fullmatch("`adaptformer fetch`, then .*\n", result.stdout)  # a result, not progress
    assert re.fullmatch(r"validate begins\nvalidate done in \d+\.\d s\n", result.stderr)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def test_in_a_real_process_the_error_is_two_lines_behind_the_log_and_no_traceback(project: Path) -> None:
    (project / "data/train/blue/bad.jpg").write_bytes(b"")
    result = subprocess.run(
        [sys.executable, "-m", "adaptformer", "validate"],
        capture_output=True, text=True, check=False, env=_environment(),
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "")
    begins, fault, cause, remedy = result.stderr.splitlines()
    assert begins == "validate begins"
    assert fault == "train/blue/bad.jpg: unreadable file (empty file)"
    assert cause.startswith("error: data/ has 1 fault")
    assert remedy.startswith("  fix: correct what")


def test_a_closed_pipe_is_no_error(project: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "adaptformer", "params"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(Path(command_line.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.close()  # before anything is written
    assert writer.stderr.read() == ""
    assert writer.wait(60) == 0
