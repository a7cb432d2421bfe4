"""A pipeline in a process of its own: its log lines and its error come to the caller."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline import method_runs
from adaptformer.pipeline.method_runs import MethodRun

FOLDER = RunFolder(Path("artifacts/runs/0123"))
PARAMS = params.load(Path(__file__).resolve().parents[3] / "params.yaml")


def bring_up_to_date(**changed: object) -> None:
    method_runs.bring_up_to_date(MethodRun("linear", 0, PARAMS, changed, FOLDER))


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `adaptformer` that the process finds in its current folder, in place of the real one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path / "adaptformer.py"


def test_a_method_run_gets_the_options_and_its_lines_are_logged(
    program: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program.write_text("import sys\nprint('noise')\nprint(*sys.argv[1:], file=sys.stderr)\n")
    caplog.set_level(logging.INFO, "adaptformer")
    bring_up_to_date(**{"training.epochs": 1, "adapter.bottlenecks": [2]})
    assert caplog.messages == ["run --stages-only --own-folder training.epochs=1 adapter.bottlenecks=[2]"]


def test_an_error_of_a_method_run_is_raised_in_the_caller(program: Path, caplog: pytest.LogCaptureFixture) -> None:
    program.write_text(
        "import sys\nprint('a line\\nerror: data/ is gone\\n  fix: run `dvc checkout`', file=sys.stderr)\nsys.exit(1)\n"
    )
    caplog.set_level(logging.INFO, "adaptformer")
    with pytest.raises(UserError) as caught:
        bring_up_to_date()
    assert (caught.value.cause, caught.value.remedy) == ("data/ is gone", "run `dvc checkout`")
    assert caplog.messages == ["a line"]


def test_a_line_that_only_looks_like_an_error_is_a_line(program: Path, caplog: pytest.LogCaptureFixture) -> None:
    program.write_text("import sys\nprint('error: of another kind\\nand on', file=sys.stderr)\n")
    caplog.set_level(logging.INFO, "adaptformer")
    bring_up_to_date()
    assert caplog.messages == ["error: of another kind", "and on"]


def test_a_killed_process_may_have_lacked_memory(program: Path) -> None:
    program.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(UserError) as caught:
        bring_up_to_date()
    assert caught.value.cause == (
        "the process that ran artifacts/runs/0123/ was killed, perhaps because memory ran out"
    )


def test_a_fault_of_the_program_is_no_user_error(program: Path, caplog: pytest.LogCaptureFixture) -> None:
    program.write_text("raise ValueError('a bug')\n")
    caplog.set_level(logging.INFO, "adaptformer")
    with pytest.raises(RuntimeError, match="ended with 1"):
        bring_up_to_date()
    assert caplog.messages[-1] == "ValueError: a bug"


def test_the_process_ends_when_the_caller_is_stopped(
    program: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program.write_text(
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('stopped').touch(), sys.exit()))\n"
        "print('ready', file=sys.stderr, flush=True)\ntime.sleep(300)\n"
    )

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(method_runs.log, "info", stop)
    with pytest.raises(KeyboardInterrupt):
        bring_up_to_date()
    assert (tmp_path / "stopped").exists()
