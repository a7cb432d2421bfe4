from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mite
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from adaptformer.evaluation import intervals, pictures
from adaptformer.evaluation.metrics import Evaluation

NUMBERS = np.random.default_rng(0)
EVALUATION = Evaluation(NUMBERS.normal(size=(30, 3)).astype(np.float32), NUMBERS.integers(0, 3, 30))
IMAGES = NUMBERS.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)

DRAWINGS: dict[str, Callable[..., None]] = {
    "confusion": pictures.confusion,
    "per_class": pictures.per_class,
    "calibration": lambda path, evaluation, _classes: pictures.calibration(path, evaluation),
    "examples": lambda path, evaluation, classes: pictures.examples(path, evaluation, classes, IMAGES),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS.keys())
def test_pictures_are_the_same_bytes_each_time_and_tell_no_version(draw: Callable[..., None], tmp_path: Path) -> None:
    draw(tmp_path / "1.png", EVALUATION, mite.CLASSES)
    draw(tmp_path / "2.png", EVALUATION, mite.CLASSES)
    content = (tmp_path / "1.png").read_bytes()
    assert content == (tmp_path / "2.png").read_bytes()
    with Image.open(tmp_path / "1.png") as picture:
        assert picture.info.keys() == {"dpi"}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that would be written."""
    figures: list[Any] = []

    def save(figure: Figure, path: Path, **_options: Any) -> None:
        figures.append(figure)
        path.touch()

    monkeypatch.setattr(Figure, "savefig", save)
    return figures


def test_the_confusion_picture_shows_counts_and_shares(drawn: list[Any], tmp_path: Path) -> None:
    evaluation = Evaluation(np.eye(3, dtype=np.float32)[[0, 1, 1, 1]], np.array([0, 0, 1, 0]))
    pictures.confusion(tmp_path / "x.png", evaluation, mite.CLASSES)
    axes = drawn[0].axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[1 / 3, 2 / 3, 0], [0, 1, 0], [0, 0, 0]])
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "1"), ((1, 0), "2"), ((1, 1), "1"),
    }  # fmt: skip
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert [label.get_text() for label in axes.get_yticklabels()] == list(mite.CLASSES)


def test_with_many_classes_what_cannot_be_read_is_left_out(drawn: list[Any], tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(45)]
    evaluation = Evaluation(np.eye(45, dtype=np.float32), np.arange(45))
    pictures.confusion(tmp_path / "x.png", evaluation, names)
    axes = drawn[0].axes[0]
    assert not axes.texts
    assert not {label.get_text() for label in axes.get_xticklabels()} & set(names)
    pictures.per_class(tmp_path / "x.png", evaluation, names)
    assert len(drawn[1].axes[0].patches) == 40


def test_classes_are_drawn_worst_first_without_those_that_have_no_image(drawn: list[Any], tmp_path: Path) -> None:
    evaluation = Evaluation(np.eye(4, dtype=np.float32)[[0, 1, 0, 2]], np.array([0, 1, 1, 1]))
    pictures.per_class(tmp_path / "x.png", evaluation, ("a", "b", "c", "d"))
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([1 / 3, 1])
    assert [(text.get_position()[1], text.get_text()) for text in axes.texts] == [(0, "33.3 %"), (1, "100.0 %")]
    reaches = [(ends[0][0], ends[1][0]) for ends in axes.collections[0].get_segments()]
    expected = [intervals.wilson(1, 3), intervals.wilson(1, 1)]
    assert reaches == [pytest.approx((share.low, share.high)) for share in expected]


def test_the_reliability_diagram_has_a_bar_for_each_bin_with_images(drawn: list[Any], tmp_path: Path) -> None:
    logits = np.log(np.array([[0.55, 0.45], [0.55, 0.45], [0.99, 0.01]], np.float32))
    evaluation = Evaluation(logits, np.array([0, 1, 0]))
    pictures.calibration(tmp_path / "x.png", evaluation)
    left, right = drawn[0].axes
    assert [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in left.patches] == [
        (pytest.approx(8 / 15), pytest.approx(1 / 15), 0.5),
        (pytest.approx(14 / 15), pytest.approx(1 / 15), 1.0),
    ]
    reaches = [(ends[0][1], ends[1][1]) for ends in left.collections[0].get_segments()]
    expected = [intervals.wilson(1, 2), intervals.wilson(1, 1)]
    assert reaches == [pytest.approx((share.low, share.high)) for share in expected]
    assert left.get_title() == f"calibration error {100 * evaluation.ece:.2f} %"
    assert right.lines[0].get_xydata().tolist() == [[pytest.approx(1 / 3), 1.0], [1.0, pytest.approx(2 / 3)]]


def test_examples_are_the_most_confident_mistakes_then_the_least_confident_others(
    drawn: list[Any], tmp_path: Path
) -> None:
    logits = np.array([[3, 0, 0], [9, 0, 0], [2, 0, 0], [0, 4, 0]], np.float32)
    evaluation = Evaluation(logits, np.array([0, 1, 0, 2]))
    pictures.examples(tmp_path / "x.png", evaluation, ("a", "a class whose name is far too long", "c"), IMAGES)
    titles = [axes.get_title() for axes in drawn[0].axes if axes.images]
    assert titles == ["a class whose name is f…\n100 %", "c → a class whose name …\n96 %", "a\n79 %", "a\n91 %"]
    shown = [axes.images[0].get_array() for axes in drawn[0].axes if axes.images]
    np.testing.assert_array_equal(shown, IMAGES[[1, 3, 2, 0]])
    assert drawn[0].get_suptitle() == "2 most confident of 2 mistakes, then the least confident correct predictions"


def test_at_most_24_examples_are_drawn_half_of_them_mistakes(drawn: list[Any], tmp_path: Path) -> None:
    evaluation = Evaluation(np.eye(2, dtype=np.float32)[[0] * 30], np.array([0, 1] * 15))
    pictures.examples(tmp_path / "x.png", evaluation, ("a", "b"), IMAGES)
    titles = [axes.get_title() for axes in drawn[0].axes if axes.images]
    assert (len(titles), sum("→" in title for title in titles)) == (24, 12)
