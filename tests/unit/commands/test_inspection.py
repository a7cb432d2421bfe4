from __future__ import annotations

import re
from pathlib import Path

import mite
import pytest
import small_project
from small_project import adaptformer


def test_it_shows_what_the_adapter_file_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small_project.write(tmp_path / "project"))
    small_project.run_stages("validate", "fetch", "train")
    capsys.readouterr()
    path = Path("artifacts/adapter.safetensors")
    assert adaptformer("inspect", str(path)) == 0
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    card = mite.adapter_card()
    assert shown["file"].startswith(f"{path}, {path.stat().st_size:,} bytes")
    assert shown["classes"] == f"{len(mite.CLASSES)}: {', '.join(mite.CLASSES)}"
    assert shown["bottlenecks"] == "4"
    assert shown["placement"] == "parallel"
    assert shown["trained"].startswith(f"{card.trained:,} parameters, {card.trained_share:.2%} ")
    assert shown["backbone"].startswith(f"{mite.MODEL}, sha256 {card.backbone.sha256}")
    assert shown["licence"] == card.backbone.licence
    assert shown["image"].startswith(f"{mite.SIDE} x {mite.SIDE}, crop")


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backbone = tmp_path / "mite.safetensors"
    mite.write_backbone(backbone)
    for path, cause in (
        (tmp_path / "none.safetensors", "does not exist"),
        (backbone, "is no adapter file"),
        (Path(__file__), "is damaged"),
    ):
        assert adaptformer("inspect", str(path)) == 1
        assert cause in capsys.readouterr().err
