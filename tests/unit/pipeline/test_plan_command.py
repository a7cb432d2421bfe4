"""`adaptformer plan`."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_project import adaptformer, snapshot

from adaptformer.config import params
from adaptformer.training import planning


def test_the_plan_finds_the_epochs_that_fit_and_writes_them_if_asked(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adaptformer("validate")
    adaptformer("fetch")
    monkeypatch.setattr(planning, "minutes", lambda *_: 3.0)  # for the two epochs of params.yaml
    capsys.readouterr()
    assert adaptformer("plan", "--minutes", "10") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "training.epochs=6 takes about 9.0 minutes"
    assert params.load().training.epochs == 2
    assert adaptformer("plan", "--minutes", "10", "--write") == 0
    assert "params.yaml: one value changed" in capsys.readouterr().out
    assert params.load().training.epochs == 6
    capsys.readouterr()
    assert adaptformer("plan", "--minutes", "0.4") == 1
    assert "one epoch of each phase takes about 0.5 minutes, and there are 0.4" in capsys.readouterr().err
    assert adaptformer("plan", "--write") == 1
    assert "give --minutes as well" in capsys.readouterr().err
    assert params.load().training.epochs == 6


@pytest.mark.parametrize("minutes", ["0", "-1", "inf", "many"])
def test_minutes_that_are_none_are_refused(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        adaptformer("plan", "--minutes", minutes)
    assert f"invalid _minutes value: '{minutes}'" not in capsys.readouterr().err


def test_the_plan_is_printed_and_writes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("plan") == 1
    assert "fix: run `adaptformer validate` first" in capsys.readouterr().err
    adaptformer("validate")
    adaptformer("fetch")
    before = snapshot(project)
    capsys.readouterr()
    assert adaptformer("plan", "data.seed=1") == 1  # another manifest
    assert "adaptformer validate data.seed=1" in capsys.readouterr().err
    assert adaptformer("plan", "training.batch_size=3") == 0
    assert "with 3 images at once" in capsys.readouterr().out
    assert adaptformer("plan") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "training on 18 images, validation on 3"
    assert [line.split(" ")[0] for line in lines] == ["training", "trains", "memory:", "time:"]
    assert snapshot(project) == before
