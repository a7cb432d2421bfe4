"""`adaptformer sweep` in a small checkout: trainings in this process, tracking left out."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import small_project
import yaml
from small_project import adaptformer

from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.pipeline import stage_runner, sweep_runs

pytestmark = pytest.mark.usefixtures("blank_pictures")
SEARCH = ("--search", "training.base_lr=0.5,4.0", "--search", "adapter.bottlenecks=[2],[4]")


@pytest.fixture
def tracked_runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def tracked(_params: Any, changed: Any, folder: Any, tags: Any) -> Iterator[Any]:
        epochs: list[int] = []
        tracker = SimpleNamespace(status="FINISHED", log_epoch=lambda row: epochs.append(row.epoch))
        yield tracker
        runs.append({"changed": changed, "folder": folder.root.name, "tags": tags, "epochs": epochs,
                     "status": tracker.status})  # fmt: skip

    monkeypatch.setattr(sweep_runs, "tracked", tracked)
    monkeypatch.setattr(sweep_runs.dvc_repository, "check_data", lambda: None)
    return runs


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_project.write(tmp_path, sweep__sampler="grid", sweep__pruner="none")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep_folder(project: Path) -> Path:
    (folder,) = (project / "artifacts/sweeps").iterdir()
    return folder


def test_each_trial_is_trained_with_its_values(
    project: Path, tracked_runs: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert adaptformer("sweep", *SEARCH, "training.epochs=1") == 0
    table = pd.read_csv(sweep_folder(project) / "sweep.csv")
    assert sorted(zip(table["training.base_lr"], table["adapter.bottlenecks"], strict=True)) == [
        (0.5, "[2]"), (0.5, "[4]"), (4.0, "[2]"), (4.0, "[4]")
    ]  # fmt: skip
    for trial, run in zip(table.itertuples(), tracked_runs, strict=True):
        used = json.loads((project / trial.folder / "params.json").read_text())
        assert used["training"]["base_lr"] == table["training.base_lr"][trial.Index]
        assert used["adapter"]["bottlenecks"] == yaml.safe_load(table["adapter.bottlenecks"][trial.Index])
        assert used["training"]["epochs"] == 1
        history = pd.read_csv(project / trial.folder / "history.csv")
        assert trial.score == history["val_top1"].max()
        assert not (project / trial.folder / "metrics.json").exists()  # the test split is not looked at
        assert run["tags"]["sweep"] == sweep_folder(project).name
        assert run["tags"]["sweep.trial"] == str(trial.trial)
        assert run["epochs"] == [1]
        assert run["status"] == "FINISHED"
    best = table.sort_values(["score", "trial"], ascending=[False, True]).iloc[0]
    values = yaml.safe_load((sweep_folder(project) / "best.yaml").read_text())
    assert values["training"].get("base_lr", 4.0) == best["training.base_lr"]
    printed = capsys.readouterr().out
    assert printed.startswith("the best trial: adaptformer params ")
    assert "training.epochs=1" in printed


def test_data_are_validated_once_for_all_trials(
    project: Path, tracked_runs: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    words = ("sweep", "--search", "training.base_lr=0.5,1.0,4.0", "training.epochs=1")
    assert adaptformer(*words) == 0
    assert [message for message in caplog.messages if message in {"validate begins", "fetch begins"}] == [
        "validate begins", "fetch begins"
    ]  # fmt: skip
    first, *others = [project / "artifacts/runs" / run["folder"] for run in tracked_runs]
    made = ("manifest.csv", "manifest.csv.sha256", "data_report.html", "validate.done.json", "backbone.safetensors")
    for name in made:
        assert all((other / name).read_bytes() == (first / name).read_bytes() for other in others)
    # Other data are validated anew.
    next((project / "data/train").rglob("*.png")).unlink()
    caplog.clear()
    assert adaptformer("train", "training.base_lr=2.0", "training.epochs=1") == 1
    assert adaptformer("validate", "training.base_lr=2.0", "training.epochs=1") == 0
    assert "validate begins" in caplog.messages


def test_a_second_call_trains_nothing_and_write_puts_the_best_into_params(
    project: Path,
    tracked_runs: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("sweep", *SEARCH[:2], "training.epochs=1")
    assert adaptformer(*words) == 0
    monkeypatch.setattr(stage_runner, "run", None)
    before = len(tracked_runs)
    capsys.readouterr()
    assert adaptformer(*words, "--write") == 0
    assert re.search(r"^ *training\.epochs +2 +-> +1$", capsys.readouterr().out, re.MULTILINE)
    assert len(tracked_runs) == before
    written = params.read(project / "params.yaml").params
    assert written.training.epochs == 1
    values = yaml.safe_load((sweep_folder(project) / "best.yaml").read_text())
    assert written.training.base_lr == values["training"].get("base_lr", 4.0)


def test_a_trial_that_fails_is_recorded_and_the_next_begins(
    project: Path, tracked_runs: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    # Micro-batches of one image: a fault that params alone do not show.
    assert adaptformer("sweep", "--search", "training.gradient_accumulation=6,1", "training.epochs=1") == 0
    table = pd.read_csv(sweep_folder(project) / "sweep.csv")
    assert table["state"].tolist() == ["failed", "complete"]
    assert "makes micro-batches of one image" in table["reason"][0]
    assert [run["status"] for run in tracked_runs] == ["FAILED", "FINISHED"]
    assert "trial 1: failed: training.gradient_accumulation = 6" in caplog.text


def test_faulty_data_end_the_sweep_and_cost_no_trial(
    project: Path, tracked_runs: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("sweep", "--search", "training.base_lr=0.5,4.0", "training.epochs=1")
    damaged = next((project / "data/train").rglob("*.png"))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:40])
    assert adaptformer(*words) == 1
    assert "error: " in capsys.readouterr().err
    damaged.write_bytes(content)
    assert adaptformer(*words) == 0
    table = pd.read_csv(sweep_folder(project) / "sweep.csv")
    assert table["state"].tolist() == ["complete", "complete"]


def test_a_sweep_without_a_complete_trial_is_an_error(
    project: Path, tracked_runs: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert adaptformer("sweep", "--search", "training.gradient_accumulation=6", "training.epochs=1") == 1
    assert "no trial of the sweep was completed: training.gradient_accumulation = 6" in capsys.readouterr().err
    assert not (sweep_folder(project) / "best.yaml").exists()
    assert [run["status"] for run in tracked_runs] == ["FAILED"]


def test_a_pruned_trial_ends_its_training(
    project: Path, tracked_runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptformer.sweeps import study

    def stop(trial: study.Trial, row: Any) -> None:
        trial._rows.append(row)
        if row.epoch == 2 and trial.number == 1:
            raise study.Pruned

    monkeypatch.setattr(study.Trial, "on_epoch", stop)
    assert adaptformer("sweep", "--search", "training.base_lr=0.5,4.0", "training.epochs=3") == 0
    table = pd.read_csv(sweep_folder(project) / "sweep.csv")
    assert table["state"].tolist() == ["stopped early", "complete"]
    assert table["epochs"].tolist() == [2, 3]
    assert [run["status"] for run in tracked_runs] == ["KILLED", "FINISHED"]


def test_an_interrupted_trial_resumes(
    project: Path, tracked_runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from adaptformer.sweeps import study

    words = ("sweep", "--search", "training.base_lr=0.5,4.0", "training.epochs=3")
    with monkeypatch.context() as patch:

        def kill(_trial: study.Trial, row: Any) -> None:
            if row.epoch == 2:
                raise KeyboardInterrupt

        patch.setattr(study.Trial, "on_epoch", kill)
        opened = sweep_runs.opened(params.read(), ["training.base_lr=0.5,4.0"], None, {"training.epochs": 3})
        with pytest.raises(KeyboardInterrupt):
            sweep_runs.work(opened)
    assert adaptformer(*words) == 0
    assert "training resumes after epoch 2" in caplog.text
    table = pd.read_csv(sweep_folder(project) / "sweep.csv")
    assert table["state"].tolist() == ["complete", "complete"]
    assert table["epochs"].tolist() == [3, 3]


def test_a_sweep_whose_only_trial_another_process_has_is_two_lines(
    project: Path, tracked_runs: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    other = sweep_runs.opened(params.read(), ["training.base_lr=0.5"], None, {})
    with other.study.working():
        assert other.study.next() is not None
        assert adaptformer("sweep", "--search", "training.base_lr=0.5") == 1
    assert "no trial of the sweep has ended yet" in capsys.readouterr().err


def test_more_trials_continue_the_same_sweep(project: Path, tracked_runs: list[dict[str, Any]]) -> None:
    small_project.write_params(project, sweep__sampler="random", sweep__pruner="none")
    search = ["training.base_lr=0.5..4.0"]
    roots = {sweep_runs.opened(params.read(), search, trials, {}).root for trials in (2, 5)}
    assert len(roots) == 1
    assert sweep_runs.opened(params.read(), search, 2, {"training.epochs": 1}).root not in roots
    assert sweep_runs.opened(params.read(), ["training.base_lr=0.5..3.0"], 2, {}).root not in roots


def test_a_range_is_refused_by_the_grid(project: Path, tracked_runs: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="the grid cannot try all"):
        sweep_runs.opened(params.read(), ["training.base_lr=0.5..4.0"], None, {})
