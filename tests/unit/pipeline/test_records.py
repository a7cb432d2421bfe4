"""Which record a run folder has, and what the command line does by it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import small_project
from small_project import adaptformer

from adaptformer.base.errors import UserError
from adaptformer.config import params, run_folder
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline import records
from adaptformer.pipeline.folder_record import FolderRecord
from adaptformer.pipeline.records import Unrecorded
from adaptformer.tracking.dvc_record import DvcRecord


@pytest.fixture
def checkout(project: Path) -> Path:
    """The project as a checkout with DVC; no command here gets as far as to open it."""
    (project / ".dvc").mkdir()
    (project / "dvc.yaml").write_text("stages: {}\n")
    return project


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))


def kinds(folder: RunFolder) -> tuple[type, type]:
    present = params.load()
    return type(records.of_run(present, folder)), type(records.of_stage("train", present, folder))


def test_without_dvc_every_folder_records_itself(project: Path) -> None:
    assert kinds(RunFolder()) == (FolderRecord, FolderRecord)
    assert kinds(run_folder.isolated_folder(params.load())) == (FolderRecord, FolderRecord)


def test_dvc_records_the_default_folder_of_a_checkout_alone(checkout: Path) -> None:
    assert kinds(RunFolder()) == (DvcRecord, Unrecorded)
    assert kinds(run_folder.isolated_folder(params.load())) == (FolderRecord, FolderRecord)


def test_without_dvc_the_default_folder_skips_what_is_current(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        assert adaptformer("validate") == 0
    assert [line for line in caplog.messages if line in {"validate begins", "validate is current"}] == [
        "validate begins",
        "validate is current",
    ]


def test_a_stage_that_dvc_may_have_started_always_runs_and_records_nothing(
    checkout: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert adaptformer("validate") == 0
    assert caplog.messages.count("validate begins") == 2
    assert not RunFolder().done("validate").exists()


def test_a_run_takes_over_an_equal_stage_of_the_default_folder(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert adaptformer("validate") == 0
    caplog.clear()
    assert adaptformer("validate", "training.epochs=3") == 0
    assert "validate was done in artifacts/ from the same inputs" in caplog.messages
    assert "validate begins" not in caplog.messages


def test_a_stage_that_fails_leaves_the_record_of_the_results_that_are_still_there(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert adaptformer("fetch") == 0
    small_project.write_params(project, backbone__checkpoint="nowhere.safetensors")
    assert adaptformer("fetch") == 1
    small_project.write_params(project)
    caplog.clear()
    assert adaptformer("fetch") == 0
    assert "fetch is current" in caplog.messages


def test_a_record_of_other_outputs_is_not_believed(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert adaptformer("fetch") == 0
    card = RunFolder().backbone_card
    card.write_text(json.dumps({**json.loads(card.read_text()), "licence": "another"}))
    caplog.clear()
    assert adaptformer("fetch") == 0
    assert "fetch begins" in caplog.messages


def test_a_run_without_mlflow_names_the_run_that_needs_none(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, "mlflow")
    assert adaptformer("run") == 1
    assert capsys.readouterr().err == (
        "error: mlflow is not installed, so the run can be neither tracked nor registered\n"
        "  fix: pip install 'adaptformer[pipeline]', or run the stages alone: `adaptformer run --stages-only`\n"
    )
    assert not RunFolder().manifest.exists()


def test_without_the_dvc_that_records_a_folder_nothing_runs_there(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "dvc")
    with pytest.raises(UserError, match="dvc is not installed, and in this project it records the results") as caught:
        records.of_run(params.load(), RunFolder())
    assert caught.value.remedy.endswith("--own-folder")
    records.of_run(params.load(), run_folder.isolated_folder(params.load()))


def test_stages_alone_register_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        adaptformer("run", "--stages-only", "--register")
    assert ended.value.code == 1
    assert "not allowed with argument" in capsys.readouterr().err
