"""Near duplicates of training images among the test images: how many, and top-1 without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.config.params import ChecksParams
from adaptformer.curation.checks import findings
from adaptformer.curation.checks.findings import Finding
from adaptformer.evaluation import leaks
from adaptformer.evaluation.metrics import Evaluation

PATHS = ("test/cat/a.png", "test/cat/b.png", "test/dog/c.png", "test/dog/d.png")
LEVELS = params.load(Path(__file__).parents[3] / "params.yaml").checks
RIGHT = np.array([True, True, False, True])
EVALUATION = Evaluation(np.where(RIGHT[:, None], [[3.0, 0.0]], [[0.0, 3.0]]).astype(np.float32), np.zeros(4, np.int64))


def write(path: Path, *rows: tuple[str, str, str]) -> Path:
    findings.write(path, (Finding(kind, one, other, "") for kind, one, other in rows), LEVELS)
    return path


def test_pairs_across_splits_count_on_either_side_and_others_do_not(tmp_path: Path) -> None:
    written = write(
        tmp_path / "findings.csv",
        ("leaks", "train/cat/1.png", "test/cat/a.png"),
        ("leaks", "test/dog/d.png", "train/dog/2.png"),
        ("leaks", "test/dog/d.png", "train/dog/3.png"),
        ("duplicates", "test/cat/b.png", "test/dog/c.png"),
        ("label_conflicts", "test/cat/b.png", "test/dog/c.png"),
    )
    found = leaks.find(written, PATHS, LEVELS)
    assert found is not None
    assert found.tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("leaked", "numbers", "sentence"),
    [
        (None, {}, "near duplicates of training images were not looked for (checks.leaks is none)"),
        (
            [False] * 4,
            {"leaked_images": 0, "top1_without_leaks": 0.75},
            "none of the 4 images seems to be a near duplicate of a training or validation image",
        ),
        (
            [True, False, False, True],
            {"leaked_images": 2, "top1_without_leaks": 0.5},
            "2 of 4 images are near duplicates of training or validation images; 50.00 % without them",
        ),
        (
            [True] * 4,
            {"leaked_images": 4},
            "4 of 4 images are near duplicates of training or validation images; no image is left without them",
        ),
    ],
)
def test_the_sentence_says_what_accuracy_is_without_them(
    leaked: list[bool] | None, numbers: dict[str, float], sentence: str
) -> None:
    mask = None if leaked is None else np.array(leaked)
    assert leaks.numbers(EVALUATION, mask) == numbers
    assert leaks.sentence({"images": 4, "top1": 0.75, **numbers}) == sentence


def test_what_was_not_looked_for_is_not_called_none(tmp_path: Path) -> None:
    levels = ChecksParams(**{**LEVELS.model_dump(), "leaks": "none"})
    assert leaks.find(write(tmp_path / "findings.csv"), PATHS, levels) is None


def test_findings_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"findings\.csv cannot be read"):
        leaks.find(tmp_path / "findings.csv", PATHS, LEVELS)
