"""The runs of a comparison: their values, and a process of their own whose lines and error come to the caller."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import cast

import pytest
import small_project

from adaptformer import presets
from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.config.params import ParamsFile
from adaptformer.config.run_folder import RunFolder
from adaptformer.evaluation.comparison import Trained
from adaptformer.pipeline import method_runs
from adaptformer.pipeline.method_runs import MethodRun

FOLDER = RunFolder(Path("artifacts/runs/0123"))
ROOT = Path(__file__).resolve().parents[3]
PARAMS = params.load(ROOT / "params.yaml")


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


def methods_run(file: ParamsFile, **overrides: object) -> list[params.Params]:
    """Return the params with which a comparison of two methods would run."""
    runs: list[params.Params] = []

    def stop_at_the_last(run: MethodRun) -> Trained:
        runs.append(run.params)
        if len(runs) == 2:
            raise StopIteration
        return cast(Trained, None)

    with pytest.raises(StopIteration):
        method_runs.compare(file, ["linear", "adaptformer-64 training.base_lr=0.5"], [0], overrides, stop_at_the_last)
    return runs


def test_a_comparison_takes_a_key_without_a_value_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(method_runs.dvc_repository, "check_data", lambda: None)
    keys = ["training.epochs", "training.base_lr", "adapter.pooling=token"]
    small_project.write_params(
        tmp_path, comparison__overrides=keys, training__epochs=7, training__base_lr=0.25, adapter__pooling="mean"
    )
    linear, adapters = methods_run(params.read())
    assert [run.training.epochs for run in (linear, adapters)] == [7, 7]
    assert [run.training.base_lr for run in (linear, adapters)] == [0.25, 0.5], "a method's own value counts more"
    assert [run.adapter.pooling for run in (linear, adapters)] == ["token", "token"]
    assert methods_run(params.read(), **{"training.epochs": 3})[0].training.epochs == 3


def test_a_key_of_a_comparison_that_does_not_exist_is_named(tmp_path: Path) -> None:
    small_project.write_params(tmp_path, comparison__overrides=["training.epoch"])
    with pytest.raises(UserError) as caught:
        method_runs.compare(params.read(tmp_path / "params.yaml"), ["linear"], [0], {})
    assert caught.value.cause == "the override training.epoch is no key of params.yaml"
    assert caught.value.remedy == "did you mean training.epochs?"


def test_methods_on_photos_train_with_the_values_for_photos() -> None:
    for name in ("photos", "photos-small", "dinov2"):
        wanted = params.load(ROOT / "params.yaml", presets.overlay([name]))
        assert "training.epochs" in wanted.comparison.overrides
        assert all("=" not in entry for entry in wanted.comparison.overrides)
