"""`adaptformer run` without DVC and Prefect: stages, tracking, registration, gate, summary."""

import json
import re

import pytest
import small_project
from crafted import runs
from small_project import adaptformer

from adaptformer.config.run_folder import RUNS, RunFolder

pytestmark = pytest.mark.usefixtures("blank_pictures", "exported_once")


@pytest.fixture
def project(tmp_path, database, monkeypatch):
    root = small_project.write(tmp_path / "project", training__epochs=1)
    monkeypatch.chdir(root)
    return root


def test_a_run_is_tracked_registered_judged_and_done_once(project, client, capsys):
    assert adaptformer("run") == 0
    printed = capsys.readouterr().out
    assert "ran validate, fetch, train, evaluate, export." in printed
    assert re.search(r"model +squares version 1\n", printed)
    assert re.search(r"gate +Version 1 becomes the first champion", printed)
    assert "the only epoch was the best on the validation split; train longer: training.epochs=2\n" in printed
    (tracked,) = runs(client)
    assert (tracked.info.status, tracked.data.tags["data.dvc"]) == ("FINISHED", "none")
    assert json.loads(RunFolder().registration.read_text())["judged"]

    assert adaptformer("run") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Nothing has changed since the last run")
    assert "squares version 1" in printed
    assert len(runs(client)) == 1

    RunFolder().parity.unlink()
    assert adaptformer("run") == 0
    assert "ran export." in capsys.readouterr().out
    assert len(client.search_model_versions("name = 'squares'")) == 1

    assert adaptformer("run", "training.epochs=2") == 0
    printed = capsys.readouterr().out
    (folder,) = RUNS.iterdir()
    assert "ran train, evaluate, export." in printed
    assert "not asked: this model is not registered; --register registers it" in printed
    assert f"{folder}/model.onnx" in printed
    assert adaptformer("run", "training.epochs=2") == 0
    assert "Nothing has changed" in capsys.readouterr().out
    assert adaptformer("run", "training.epochs=2", "--register") == 0
    assert "ran nothing: all stages are current" in capsys.readouterr().out
    assert len(client.search_model_versions("name = 'squares'")) == 2


def test_stages_alone_are_neither_tracked_nor_registered(project, client, capsys):
    assert adaptformer("run", "--stages-only") == 0
    assert capsys.readouterr().out == ""
    assert RunFolder().model.is_file()
    assert runs(client) == []
    assert not RunFolder().registration.exists()
