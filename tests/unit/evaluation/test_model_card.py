from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import mite
import numpy as np
import pytest
import yaml
from picture_fixtures import data_params
from small_project import ROOT

from adaptformer.config.params import TrainingParams, load
from adaptformer.evaluation import model_card
from adaptformer.evaluation.evaluated_model import EvaluatedModel
from adaptformer.evaluation.metrics import Evaluation

NUMBERS = np.random.default_rng(0)
EVALUATION = Evaluation(NUMBERS.normal(size=(90, 3)).astype(np.float32), NUMBERS.integers(0, 3, 90))
DATA = data_params(name="pets", validation_fraction=0.2)
LEAKED = "31 of 165 images are near duplicates"
IMAGES = {"train": 1234, "validation": 56, "test": 90}


@pytest.fixture(scope="module")
def training() -> TrainingParams:
    return load(ROOT / "params.yaml").training.model_copy(update={"epochs": 77, "selection_metric": "macro_f1"})


def card(training: TrainingParams, evaluation: Evaluation = EVALUATION, **changes: Any) -> str:
    backbone = mite.backbone_card(**{key: changes.pop(key) for key in ("licence", "origin") if key in changes})
    adapter = replace(mite.adapter_card(), backbone=backbone, **changes)
    return model_card.text(EvaluatedModel(adapter, training, DATA, evaluation, LEAKED), IMAGES)


def front_matter(text: str) -> dict[str, Any]:
    _, content, _ = text.split("---\n", 2)
    result: dict[str, Any] = yaml.safe_load(content)
    return result


def section(text: str, heading: str) -> str:
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_the_model_card_begins_with_the_metadata_that_a_hub_reads(training: TrainingParams) -> None:
    assert front_matter(card(training)) == {
        "license": "mit", "base_model": "vit_mite_patch4_8", "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "vision-transformer", "adaptformer", "onnx"], "metrics": ["accuracy", "f1"],
    }  # fmt: skip


def test_a_backbone_of_the_hub_is_named_as_the_hub_does(training: TrainingParams) -> None:
    text = card(training, origin="hub:timm/vit_mite@main")
    assert front_matter(text)["base_model"] == "timm/vit_mite"
    assert "hub:timm/vit\\_mite@main" in section(text, "Backbone")


@pytest.mark.parametrize(
    ("licence", "given", "use"),
    [
        ("CC-BY-NC-4.0", {"license": "cc-by-nc-4.0"}, "does not allow commercial use"),
        ("Apache-2.0", {"license": "apache-2.0"}, "It allows commercial use"),
        ("unknown", {"license": "unknown"}, "not known here"),
        ("Ours-1", {"license": "other", "license_name": "Ours-1"}, "not known here"),
    ],
)
def test_the_licence_says_what_may_be_done(
    training: TrainingParams, licence: str, given: dict[str, str], use: str
) -> None:
    text = card(training, licence=licence)
    matter = front_matter(text)
    assert {key: matter[key] for key in matter if key.startswith("license")} == given
    assert f"| licence | {licence} |" in section(text, "Backbone")
    assert use in section(text, "Backbone")
    assert ("No commercial use" in section(text, "Intended use and limits")) == ("does not" in use)


def test_results_have_their_intervals(training: TrainingParams) -> None:
    text = section(card(training), "Results on the test split")
    for metric, name in (("top1", "top-1"), ("balanced_accuracy", "balanced accuracy"), ("macro_f1", "macro-F1")):
        score = EVALUATION.scores[metric]  # type: ignore[index]
        row = f"| {name} | {100 * score.value:.2f} % | {100 * score.low:.1f} to {100 * score.high:.1f} % |"
        assert row in text
    assert f"| top-5 | {100 * EVALUATION.top(5):.2f} % |" in text
    assert f"| cross-entropy | {EVALUATION.loss:.4f} |" in text


def test_the_model_card_shows_the_calibration(training: TrainingParams) -> None:
    text = section(card(training), "Calibration")
    for share in (EVALUATION.confidence.mean(), EVALUATION.top(1), EVALUATION.ece):
        assert f"{100 * share:.2f} %" in text


def test_weakest_classes_come_first_and_those_without_images_are_limits(training: TrainingParams) -> None:
    evaluation = Evaluation(np.eye(4, dtype=np.float32)[[0, 1, 1, 2]], np.array([0, 1, 2, 2]))
    text = card(training, evaluation, classes=("a", "b", "c", "d"))
    rows = re.findall(r"^\| (.) \| (\d) \| (.*?) \|", section(text, "Weakest classes"), re.MULTILINE)
    assert rows == [("c", "2", "50.00 %"), ("a", "1", "100.00 %"), ("b", "1", "100.00 %")]
    assert "No test images, so not evaluated: d." in section(text, "Intended use and limits")
    assert "not evaluated" not in card(training)


def test_five_classes_are_the_weakest(training: TrainingParams) -> None:
    names = tuple(f"class {i}" for i in range(8))
    evaluation = Evaluation(np.eye(8, dtype=np.float32), np.arange(8))
    assert section(card(training, evaluation, classes=names), "Weakest classes").count("| class ") == 1 + 5


def test_data_training_and_backbone_are_named(training: TrainingParams) -> None:
    text = card(training)
    assert "| train | 1,234 |\n| validation | 56 |\n| test | 90 |" in section(text, "Data")
    assert "3 classes: amber, blue, coral." in section(text, "Data")
    assert section(text, "Data").startswith("\npets:\n")
    part = section(text, "Training")
    assert "Trained in fp32; epoch 2 was chosen, by `macro_f1`" in part
    settings = yaml.safe_load(part.partition("```yaml\n")[2].partition("```")[0])
    assert settings == {"adapter": mite.SETTINGS, "training": training.model_dump(mode="json")}
    trained = mite.adapter_card()
    assert f"{trained.trained:,} parameters were trained" in text
    assert f"{100 * trained.trained_share:.2f} %" in text
    assert trained.backbone.sha256 in section(text, "Backbone")
    assert "0" * 64 in section(text, "Backbone")


@pytest.mark.parametrize(
    ("resize", "fraction", "expected"),
    [
        ("crop", 1.0, "the shorter side is resized to 8 pixels, then the centre of 8 × 8 is kept.\n"),
        ("pad", 1.0, "the longer side is resized to 8 pixels, then black bars make it 8 × 8.\n"),
        (
            "squash",
            0.8,
            "both sides are resized to 10 pixels, whatever their ratio; the model sees the centre of 8 × 8.\n",
        ),
    ],
)
def test_the_image_contract_is_told(training: TrainingParams, resize: str, fraction: float, expected: str) -> None:
    contract = replace(mite.CONTRACT, resize=resize, crop_fraction=fraction)
    text = section(card(training, image=contract), "How to run")
    assert f"- Resizing, bilinear: {expected}" in text
    assert "mean 0.5, 0.4, 0.3, standard deviation 0.2, 0.25, 0.3." in text
    assert "uint8, batch × 8 × 8 × 3" in text
    assert "adaptformer predict --model model.onnx" in text


def test_the_model_card_escapes_names(training: TrainingParams) -> None:
    text = card(training, classes=("<b>|x", "a_b", "c\nd"), origin="<i>", licence="x|y")
    assert "\\<b\\>\\|x, a\\_b, c d." in section(text, "Data")
    assert "\n| \\<b\\>\\|x | " in section(text, "Weakest classes")
    assert "| origin | \\<i\\> |" in section(text, "Backbone")
    assert "| licence | x\\|y |" in section(text, "Backbone")
    assert "\n# vit\\_mite\\_patch4\\_8, adapted to 3 classes\n" in text


def test_of_many_classes_a_hundred_are_named(training: TrainingParams) -> None:
    names = tuple(f"class{i:04}" for i in range(1103))
    evaluation = Evaluation(np.eye(1103, dtype=np.float32)[:4], np.arange(4))
    text = section(card(training, evaluation, classes=names), "Data")
    assert "class0099 and 1,003 more." in text
    assert "class0100" not in text


def test_the_card_is_the_same_each_time_and_holds_neither_dates_nor_paths(training: TrainingParams) -> None:
    text = card(training)
    assert text == card(training, Evaluation(EVALUATION.logits, EVALUATION.labels))
    assert text.endswith(".\n")
    assert "\n\n\n" not in text
    assert not re.search(r"\b20\d\d-\d\d|\b\d\d:\d\d\b|/(work|tmp|home|root|Users)\b", text)
