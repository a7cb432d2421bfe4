from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from adaptformer.training import history
from adaptformer.training.history import EpochRow

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
        assert picture.size == (1080, 432)


@pytest.fixture
def figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The picture before it becomes a file."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (figures.append(figure), path.touch()))
    history.draw(tmp_path / "curves.png", ROWS, ROWS[1])
    return figures[0]


def test_the_picture_shows_both_splits_and_marks_the_chosen_epoch(figure: Figure) -> None:
    drawn = [
        (axes.get_xlabel(), axes.get_ylabel(), {line.get_label(): line.get_xydata().tolist() for line in axes.lines})
        for axes in figure.axes
    ]
    names = ("train (augmented)", "validation", "chosen epoch")
    losses = ([[1, 1.098612], [2, 0.7], [3, 0.5]], [[1, 1.05], [2, 0.6], [3, 0.65]], [[2, 0.6]])
    hits = ([[1, 0.333333], [2, 0.75], [3, 0.9]], [[1, 0.4], [2, 0.8], [3, 0.75]], [[2, 0.8]])
    assert drawn == [
        ("epoch", "cross-entropy", dict(zip(names, losses, strict=True))),
        ("epoch", "top-1", dict(zip(names, hits, strict=True))),
    ]
    assert [axes.lines[2].get_marker() for axes in figure.axes] == ["o", "o"]
    legend = figure.axes[1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == list(names)
    colours = [line.get_color() for line in figure.axes[0].lines]
    assert colours == ["#9aa5b1", "#0b6e99", "#d1495b"], "as in the pictures of the report"
    assert [line.get_color() for line in legend.get_lines()] == colours


def test_the_panels_are_side_by_side_and_plain(figure: Figure) -> None:
    figure.draw_without_rendering()
    left, right = (axes.get_tightbbox() for axes in figure.axes)
    assert figure.bbox.x0 <= left.x0 < left.x1 < right.x0 < right.x1 <= figure.bbox.x1
    for axes, box in zip(figure.axes, (left, right), strict=True):
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, "nothing is cut off"
        assert {side for side, spine in axes.spines.items() if spine.get_visible()} == {"left", "bottom"}
        assert all(line.get_visible() and line.get_alpha() < 0.5 for line in axes.get_xgridlines())
    assert not figure.axes[1].get_legend().get_frame_on()
