"""library.yaml follows the installed package, so that DVC runs a project's stages again when their code changes."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.config.run_folder import RunFolder, isolated_folder
from adaptformer.pipeline import library_version, records

PRESENT = library_version.installed()
BEFORE = replace(
    PRESENT, version="0.0.1", code="ab", stages={**PRESENT.stages, "train": "1234e5", "export": "12"}, files={"a": "00"}
)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What decides that DVC keeps the record; no test here gets as far as to open it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return tmp_path


def test_a_run_after_an_upgrade_writes_the_code_of_the_stages_and_names_those_that_changed(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "adaptformer")
    library_version.FILE.write_text(BEFORE.text())
    assert library_version.read() == BEFORE
    records.of_run(params.load(), RunFolder())
    assert library_version.read() == replace(PRESENT, files=BEFORE.files)
    assert "before 0.0.1), with other code for train, export; `adaptformer init --update`" in caplog.text
    caplog.clear()
    records.of_run(params.load(), RunFolder())
    assert not caplog.text


def test_a_stage_that_dvc_starts_with_other_code_than_it_would_record_is_refused(project: Path) -> None:
    library_version.FILE.write_text(BEFORE.text())
    with pytest.raises(
        UserError, match=r"names the code of adaptformer 0\.0\.1, and the installed one has other code for train"
    ):
        records.of_stage("train", params.load(), RunFolder())
    records.of_stage("validate", params.load(), RunFolder())
    records.of_stage("train", params.load(), isolated_folder(params.load()))
    assert library_version.read() == BEFORE


def test_edited_comments_of_the_package_change_no_stage(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "adaptformer")
    library_version.FILE.write_text(replace(PRESENT, code="of other bytes").text())
    records.of_stage("train", params.load(), RunFolder())
    records.of_run(params.load(), RunFolder())
    assert library_version.read() == PRESENT
    assert not caplog.text


def test_a_checkout_of_the_library_has_no_such_file_and_gets_none(project: Path) -> None:
    records.of_run(params.load(), RunFolder())
    records.of_stage("train", params.load(), RunFolder())
    assert not library_version.FILE.exists()
