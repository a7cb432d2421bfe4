from __future__ import annotations

import csv as reading
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptformer.base.errors import UserError
from adaptformer.evaluation import comparison
from adaptformer.evaluation.comparison import Trained

IMAGES = tuple(f"test/{n}.png" for n in range(200))


def trained(method: str, seed: int, rate: float, parameters: int, images: tuple[str, ...] = IMAGES) -> Trained:
    right = np.random.default_rng([seed, parameters]).random(len(images)) < rate
    return Trained(method, seed, images, right, parameters, 10.0 + seed, 100.0 + seed, 4 * parameters)


RUNS = [
    trained("linear", 0, 0.7, 1_000),
    trained("adaptformer-4 adapter.scale=0.1", 0, 0.9, 6_000),
    trained("linear", 1, 0.7, 1_000),
    trained("adaptformer-4 adapter.scale=0.1", 1, 0.9, 6_000),
]
ROWS = comparison.rows(RUNS)


def test_a_row_is_the_mean_over_the_seeds_of_a_method() -> None:
    assert [row.method for row in ROWS] == ["linear", "adaptformer-4 adapter.scale=0.1"]
    for row, runs in zip(ROWS, (RUNS[::2], RUNS[1::2]), strict=True):
        each = [run.right.mean() for run in runs]
        assert row.top1.value == pytest.approx(np.mean(each))
        assert (row.least, row.most) == pytest.approx((min(each), max(each)))
        assert (row.seeds, row.seconds, row.memory_mb) == (2, 10.5, 100.5)
        assert (row.trained, row.adapter_bytes) == (runs[0].trained, 4 * runs[0].trained)


def test_the_interval_is_that_of_the_images_not_of_images_times_seeds() -> None:
    twice = [trained("a", 0, 0.8, 5), trained("a", 0, 0.8, 5)]  # the second seed tells nothing new
    (once,), (both,) = comparison.rows(twice[:1]), comparison.rows(twice)
    assert both.top1 == once.top1
    half = 1.96 * np.sqrt(once.top1.value * (1 - once.top1.value) / len(IMAGES))
    assert once.top1.high - once.top1.low == pytest.approx(2 * half, rel=0.15)


def test_runs_on_other_images_are_not_compared() -> None:
    with pytest.raises(UserError, match="different test images"):
        comparison.rows([RUNS[0], trained("vpt", 0, 0.5, 9, IMAGES[1:])])


def test_text_markdown_and_csv_have_a_line_a_method_with_its_numbers() -> None:
    for text in (comparison.text(ROWS), comparison.markdown(ROWS)):
        line = next(line for line in text.splitlines() if "adaptformer-4" in line)
        for part in ("6,000", f"{ROWS[1].top1.value:.2%}", f"{ROWS[1].top1.low:.2%}", "24,000"):
            assert part in line
    (first, second) = reading.DictReader(io.StringIO(comparison.csv(ROWS)))
    assert float(first["top1"]) == pytest.approx(ROWS[0].top1.value)
    assert (second["trained"], second["seeds"]) == ("6000", "2")


def test_seconds_without_the_backbone_are_marked() -> None:
    assert "+" not in comparison.text(ROWS) + comparison.markdown(ROWS)
    kept = comparison.rows([RUNS[0], dataclasses.replace(RUNS[2], features_kept=True), RUNS[1]])
    for text in (comparison.text(kept), comparison.markdown(kept)):
        assert "10+" in next(line for line in text.splitlines() if "linear" in line)
        assert "+" not in next(line for line in text.splitlines() if "adaptformer-4" in line)
        assert text.splitlines()[-1] == comparison.KEPT
    marked = [row["features_kept"] for row in reading.DictReader(io.StringIO(comparison.csv(kept)))]
    assert marked == ["1", "0"]


def test_each_point_of_the_picture_has_a_label_of_its_own() -> None:
    methods = ["linear", "adaptformer-4 adapter.scale=0.1", "adaptformer-4 adapter.scale=0.2", "vpt adapter.prompts=5"]
    assert list(comparison.labels(methods).values()) == [
        "linear",
        "adaptformer-4\nadapter.scale=0.1",
        "adaptformer-4\nadapter.scale=0.2",
        "vpt",
    ]


def test_the_picture_is_drawn_and_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        comparison.draw(tmp_path / name, ROWS)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert np.asarray(Image.open(tmp_path / "a.png").convert("L")).std() > 5
