"""DVC's record of `artifacts/`: results that are gone come back from its cache, and nothing else is touched."""

import shutil

import pytest

from adaptformer.config.params import load
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline import stage_runner
from adaptformer.pipeline.stage_runner import Runner
from adaptformer.pipeline.stages import STAGES
from adaptformer.tracking.dvc_record import DvcRecord


@pytest.fixture
def validated(project, monkeypatch):
    """A checkout whose data DVC has seen validated, and its manifest as it was then."""
    monkeypatch.chdir(project.root)
    assert bring_up_to_date()
    return RunFolder().manifest.read_bytes()


def bring_up_to_date():
    record = DvcRecord(tuple(STAGES))
    with record.exclusive():
        return Runner(load(), RunFolder(), record).bring_up_to_date("validate")


def test_a_lost_result_comes_back_from_the_cache(validated, monkeypatch):
    RunFolder().manifest.unlink()
    monkeypatch.setattr(stage_runner, "run", pytest.fail)
    assert not bring_up_to_date()
    assert RunFolder().manifest.read_bytes() == validated


@pytest.mark.parametrize("otherwise", ["another result is changed", "the cache is gone", "params are changed"])
def test_a_lost_result_is_made_again_if_the_cache_has_none_for_these_inputs(validated, project, otherwise):
    RunFolder().manifest.unlink()
    if otherwise == "another result is changed":
        RunFolder().data_report.write_text("changed by hand")
    elif otherwise == "the cache is gone":
        shutil.rmtree(".dvc/cache/files/md5")
        project.run("dvc", "commit", "--force", "data.dvc")
    else:
        project.set_params(max_file_mb=499)
    assert bring_up_to_date()
    assert RunFolder().manifest.read_bytes() == validated
