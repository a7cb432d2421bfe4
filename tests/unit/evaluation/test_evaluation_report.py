from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mite
import numpy as np
import pandas as pd
import pytest
import small_project
from PIL import Image
from web_pages import captions, check, rows, section, words

from adaptformer.config.params import load
from adaptformer.data.labelled import LabelledImages
from adaptformer.evaluation import predictions, report, report_images
from adaptformer.evaluation.evaluated_model import EvaluatedModel
from adaptformer.evaluation.metrics import Evaluation

PARAMS = load(small_project.ROOT / "params.yaml", {"training.epochs": 77, "data.name": "pets"})
TUNING, DATA = PARAMS.training, PARAMS.data
NUMBERS = np.random.default_rng(0)
EVALUATION = Evaluation(NUMBERS.normal(size=(60, 3)).astype(np.float32), NUMBERS.integers(0, 3, 60))
PIXELS = NUMBERS.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)


LEAKED = "31 of 165 images are near duplicates"


def labelled(evaluation: Evaluation, pixels: np.ndarray = PIXELS) -> LabelledImages:
    count = len(evaluation.labels)
    return LabelledImages(pixels[:count], evaluation.labels, [f"test/{i:02}.png" for i in range(count)], [""] * count)


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., str]:
    drawings = report.Drawings(*(tmp_path / f"{name}.png" for name in report.Drawings._fields))
    for number, path in enumerate(drawings):
        Image.new("L", (1, 1), number).save(path)

    def write(
        evaluation: Evaluation = EVALUATION, pixels: np.ndarray = PIXELS, paths: list[str] | None = None, **changes: Any
    ) -> str:
        test = labelled(evaluation, pixels)
        test = test if paths is None else replace(test, paths=paths)
        card, count = replace(mite.adapter_card(), **changes), len(evaluation.labels)
        sizes = pd.DataFrame({"width": range(8, 8 + count), "height": [8] * count})
        answers = predictions.table(test, evaluation, card.classes, sizes, None)
        mistakes = report_images.most_confident(evaluation, report_images.SHOWN)
        attention_maps = [test.images[i] // 2 for i in mistakes]
        model = EvaluatedModel(card, TUNING, DATA, evaluation, LEAKED)
        return report.html(model, report.AnsweredImages(test, answers, attention_maps), drawings)

    return write


def test_the_report_is_the_same_each_time_and_complete(page: Callable[..., str], tmp_path: Path) -> None:
    text = page()
    check(text)
    assert text == page()
    assert str(tmp_path) not in text
    assert text.count("<section") == 8


def test_the_report_tells_what_was_measured_and_on_what(page: Callable[..., str]) -> None:
    card = mite.adapter_card()
    text = words(page())
    for expected in (
        f"{100 * EVALUATION.top(1):.2f} %", f"{EVALUATION.loss:.4f}", f"{card.trained:,}",
        f"{100 * card.trained_share:.2f} %", card.backbone.sha256, "mite.safetensors", "MIT", "bottlenecks",
    ):  # fmt: skip
        assert expected in text, expected


def test_each_metric_has_its_interval(page: Callable[..., str]) -> None:
    assert rows(section(page(), "Accuracy")) == [
        [name, f"{100 * score.value:.2f} %", f"{100 * score.low:.1f} to {100 * score.high:.1f} %"]
        for name, score in zip(("top-1", "balanced accuracy", "macro-F1"), EVALUATION.scores.values(), strict=True)
    ]


def test_each_drawing_stands_in_its_section(page: Callable[..., str], tmp_path: Path) -> None:
    text = page()
    headings = {"confusion": "Confusion", "per_class": "Classes", "calibration": "Confidence", "curves": "Training"}
    for drawing, heading in headings.items():
        content = base64.b64encode((tmp_path / f"{drawing}.png").read_bytes()).decode()
        assert content in section(text, heading)


def test_confidence_is_told_in_numbers(page: Callable[..., str]) -> None:
    shares = np.array([[0.9, 0.06, 0.04], [0.78, 0.12, 0.1], [0.55, 0.35, 0.1], [0.55, 0.35, 0.1]])
    text = section(page(Evaluation(np.log(shares).astype(np.float32), np.array([0, 0, 0, 1]))), "Confidence")
    assert "On average it is 69.50 %, and 75.00 % of the predictions are correct." in words(text)
    tables = rows(text)
    assert tables[:2] == [["100.00 %", "55.00 %", "75.00 %"], ["50.00 %", "78.00 %", "100.00 %"]]
    assert tables[2:] == [
        ["53.3 to 60.0 %", "2", "55.00 %", "50.00 %", "9.5 to 90.5 %"],
        ["73.3 to 80.0 %", "1", "78.00 %", "100.00 %", "20.7 to 100.0 %"],
        ["86.7 to 93.3 %", "1", "90.00 %", "100.00 %", "20.7 to 100.0 %"],
    ]


def images(text: str, heading: str) -> tuple[list[str], list[np.ndarray]]:
    """Captions and pixels of the pictures below a heading of the third level."""
    group = re.search(f"<h3>{heading}.*?</h3>(.*?)</ul>", text, re.DOTALL)
    assert group is not None, heading
    encoded = re.findall('base64,([^"]*)"', group[1])
    return captions(group[1]), [np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) for png in encoded]


def test_mistakes_are_shown_with_both_labels_and_where_they_lie(page: Callable[..., str]) -> None:
    shares = np.array([[0.7, 0.2, 0.1], [0.9, 0.06, 0.04], [0.5, 0.25, 0.25], [0.2, 0.6, 0.2]])
    evaluation = Evaluation(np.log(shares).astype(np.float32), np.array([1, 2, 0, 1]))
    text = section(page(evaluation), "Images to look at")
    assert "2 of 4 test images were classified wrongly." in words(text)
    assert re.findall("<h3>(.*?)</h3>", text) == [
        "All mistakes, most confident first",
        "Correct, but least confident",
        "Where the model looks: the most confident mistakes",
    ]
    captions, shown = images(text, "All mistakes")
    assert captions == [
        "true coral: 4.00 %\npredicted amber: 90.00 %\ntest/01.png",
        "true blue: 20.00 %\npredicted amber: 70.00 %\ntest/00.png",
    ]
    np.testing.assert_array_equal(shown, PIXELS[[1, 0]])
    captions, shown = images(text, "Correct, but least confident")
    assert captions == ["amber: 50.00 %\ntest/02.png", "blue: 60.00 %\ntest/03.png"]
    np.testing.assert_array_equal(shown, PIXELS[[2, 3]])


def test_of_many_mistakes_the_most_confident_and_the_worst_are_shown(page: Callable[..., str]) -> None:
    text = section(page(), "Images to look at")
    wrong = np.flatnonzero(~EVALUATION.correct)
    assert len(wrong) > 12
    for heading, value in (
        ("Most confident mistakes", -EVALUATION.confidence),
        ("Worst mistakes", EVALUATION.probability_of_label),
    ):
        captions, _ = images(text, heading)
        expected = wrong[np.argsort(value[wrong])][:12]
        assert [caption.rpartition("\n")[2] for caption in captions] == [f"test/{i:02}.png" for i in expected]


def test_large_images_are_shown_small(page: Callable[..., str]) -> None:
    large = np.zeros((60, 300, 300, 3), np.uint8)
    _, shown = images(page(pixels=large), "Worst mistakes")
    assert {image.shape for image in shown} == {(128, 128, 3)}


def test_a_model_without_mistakes_has_none_to_show(page: Callable[..., str]) -> None:
    text = page(Evaluation(np.eye(3, dtype=np.float32) * 9, np.arange(3)))
    assert "There is no mistake." in section(text, "Confusion")
    assert "mistakes" not in section(text, "Images to look at")


def test_the_most_frequent_mistake_is_told_in_words(page: Callable[..., str]) -> None:
    evaluation = Evaluation(np.eye(3, dtype=np.float32)[[0, 1, 1, 1, 0]], np.array([0, 0, 1, 0, 2]))
    assert "The most frequent mistake: amber classified as blue, 2 of 3 mistakes." in section(
        page(evaluation), "Confusion"
    )


def test_the_report_says_what_a_class_is_most_often_taken_for(page: Callable[..., str]) -> None:
    evaluation = Evaluation(np.eye(3, dtype=np.float32)[[0, 1, 1, 1]], np.array([0, 0, 1, 0]))
    assert rows(section(page(evaluation), "Classes")) == [
        ["amber", "3", "33.33 %", "1.7 to 79.2 %", "blue (2)"],
        ["blue", "1", "100.00 %", "20.7 to 100.0 %", "none"],
    ], "a class without test images has no accuracy"


def test_the_evaluation_report_escapes_names(page: Callable[..., str]) -> None:
    evil = "<b onclick=1>\"&'"
    text = page(classes=(evil, "b", "c"), paths=["test/<i title='\">.png"] * 60)
    check(text)  # knows no attribute "onclick" or "title"
    assert not re.search("<[bi] ", text)
    assert rows(section(text, "Classes"))[0][0] == evil
    assert any(f"predicted {evil}" in caption for caption in captions(text))
    assert any(caption.endswith("<i title='\">.png") for caption in captions(text))


def test_slices_are_listed_and_the_worst_is_named_at_the_top(page: Callable[..., str]) -> None:
    labels = np.tile([0, 1, 2], 20)
    logits = np.eye(3, dtype=np.float32)[labels]
    logits[40:, :] = np.eye(3, dtype=np.float32)[(labels[40:] + 1) % 3]  # the widest third is all wrong
    text = page(Evaluation(logits, labels))
    assert "Worst slice: size above 19 px, top-1 0.0% of 20 images, 100.0% of the others." in words(text)
    listed = rows(section(text, "Slices"))
    assert listed[0][:3] == ["size above 19 px", "20", "0.00 %"]
    assert listed[0][4:] == ["100.00 %", "0.000"]
    assert {row[0] for row in listed} >= {"class amber", "class blue", "class coral"}
    fine = page(Evaluation(np.eye(3, dtype=np.float32)[labels], labels))
    assert "No slice is shown to be worse than the rest" in words(fine)


def test_what_was_trained_and_how_long_is_said_at_the_top(page: Callable[..., str]) -> None:
    top = words(page().partition("<nav")[0])
    card = mite.adapter_card()
    assert f"{card.backbone.model} (" in top
    assert (
        f"trained adapters (width 4, parallel to the feed-forward layers) and the head, epoch {card.epoch} of 77" in top
    )
    assert "Data set: pets." in top
    listed = dict(rows(section(page(), "What was evaluated")))
    assert listed["training.epochs"] == "77"
    assert listed["image size"] == "8 pixels"
    assert "adapter.prompts" not in listed


def test_drawings_are_inverted_in_the_dark_and_photos_are_not(page: Callable[..., str]) -> None:
    text = page()
    assert text.count('<figure class="drawing">') == 4
    assert "<figure>" in section(text, "Images to look at")


def test_each_frequent_confusion_leads_to_its_images(page: Callable[..., str]) -> None:
    labels = np.array([0] * 20 + [1] * 20 + [2] * 20)
    predicted = labels.copy()
    predicted[:14], predicted[20:23] = 2, 0  # amber for coral 14 times, blue for amber 3 times
    text = page(Evaluation(4 * np.eye(3, dtype=np.float32)[predicted], labels))
    table = section(text, "Confusion")
    assert rows(table) == [["amber", "coral", "14"], ["blue", "amber", "3"]]
    for anchor in re.findall(r'<a href="#([^"]*)"', table):
        assert text.count(f'<h3 id="{anchor}">') == 1
    images = section(text, "Images to look at")
    first = images.partition("Confusion 1: amber classified as coral, the 12 most confident")[2].partition("<h3")[0]
    assert first.count("<img") == 12
    assert {words(caption).split(":")[0] for caption in captions(first)} == {"true amber"}
    second = images.partition("Confusion 2: blue classified as amber")[2]
    assert second.partition("<h3")[0].count("<img") == 3


def test_attention_is_shown_of_the_most_confident_mistakes(page: Callable[..., str]) -> None:
    images = section(page(), "Images to look at")
    part = images.partition("Where the model looks")[2].partition("<h3")[0]
    assert part.count("<img") == 12
    first = re.search(r"base64,([^\"]*)", part)
    assert first is not None
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(first[1]))))
    mistake = report_images.most_confident(EVALUATION, 1)[0]
    np.testing.assert_array_equal(shown, PIXELS[mistake] // 2)
    perfect = page(Evaluation(np.eye(3, dtype=np.float32)[[0, 1, 2]], np.array([0, 1, 2])))
    assert "Where the model looks" not in perfect
