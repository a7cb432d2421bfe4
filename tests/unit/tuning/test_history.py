from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image

from adaptformer.tuning import history
from adaptformer.tuning.history import EpochRow

ROWS = [
    EpochRow(1, 1, 1, 0.05, 1.098612, 0.333333, 1.05, 0.4, 0.5, 0.4, 0),
    EpochRow(1, 1, 2, 0.1, 0.7, 0.75, 0.6, 0.8, 0.5, 0.4, 0),
    EpochRow(1, 2, 1, 1e-06, 0.5, 0.9, 0.65, 0.75, 0.5, 0.4, 0),
]


def test_rows_survive_the_file(tmp_path: Path) -> None:
    history.write(tmp_path / "history.csv", ROWS)
    assert history.read(tmp_path / "history.csv") == ROWS
    lines = (tmp_path / "history.csv").read_bytes().decode().split("\n")
    assert lines[0] == (
        "round,phase,epoch,lr,train_loss,train_top1,val_loss,val_top1,val_balanced_accuracy,val_macro_f1,rolled_back"
    )
    assert lines[1] == "1,1,1,0.05,1.098612,0.333333,1.05,0.4,0.5,0.4,0"
    assert len(lines) == 5
    assert lines[-1] == ""


def test_no_rows_leave_a_header(tmp_path: Path) -> None:
    history.write(tmp_path / "history.csv", [])
    assert history.read(tmp_path / "history.csv") == []


def test_the_picture_is_the_same_bytes_each_time_and_tells_no_version(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        history.draw(tmp_path / name, ROWS, ROWS[1])
    content = (tmp_path / "1.png").read_bytes()
    assert content == (tmp_path / "2.png").read_bytes()
    assert b"atplotlib" not in content
    with Image.open(tmp_path / "1.png") as picture:
        assert picture.info.keys() == {"dpi"}


def test_the_picture_marks_the_chosen_epoch(tmp_path: Path) -> None:
    rows = [replace(ROWS[0], epoch=epoch) for epoch in (1, 2, 3)]  # alike but for their place
    pictures = []
    for row in rows[1:]:
        history.draw(tmp_path / "curves.png", rows, row)
        pictures.append((tmp_path / "curves.png").read_bytes())
    assert pictures[0] != pictures[1]
