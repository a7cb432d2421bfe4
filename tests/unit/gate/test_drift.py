from __future__ import annotations

from dataclasses import replace

import mite
import numpy as np
import pytest
from numpy.typing import NDArray

from adaptformer.evaluation.data_profile import Profile
from adaptformer.gate import drift
from adaptformer.gate.decision import Check
from adaptformer.gate.drift import energy_coefficient

Samples = NDArray[np.float64]


def normal(count: int, columns: int, seed: int, shift: float = 0.0) -> Samples:
    return np.random.default_rng(seed).normal(size=(count, columns)) + shift


def restated(ours: Samples, theirs: Samples) -> float:
    """The coefficient pair by pair, of columns in units of the champion's spread."""
    ours, theirs = ours / theirs.std(axis=0), theirs / theirs.std(axis=0)
    across = np.mean([np.linalg.norm(x - y) for x in ours for y in theirs])
    within = [
        np.mean([np.linalg.norm(side[i] - side[j]) for i in range(len(side)) for j in range(len(side)) if i != j])
        for side in (ours, theirs)
    ]
    return float((2 * across - sum(within)) / (2 * across))


def test_the_distance_is_the_energy_coefficient() -> None:
    ours, theirs = normal(30, 3, 0, 0.8) * [1, 5, 0.1], normal(40, 3, 1) * [2, 5, 0.1]
    assert energy_coefficient(ours, theirs) == pytest.approx(restated(ours, theirs))
    assert energy_coefficient(ours, theirs) != pytest.approx(energy_coefficient(theirs, ours))


@pytest.mark.parametrize("columns", [2, 6, 96])
def test_samples_of_one_distribution_are_alike_and_others_apart(columns: int) -> None:
    ours, theirs = normal(500, columns, 0), normal(500, columns, 1)
    assert energy_coefficient(theirs, theirs) == 0
    assert energy_coefficient(ours, theirs) < 0.002
    distances = [energy_coefficient(ours + shift, theirs) for shift in (0.5, 1, 3, 100)]
    assert distances == sorted(distances)
    assert distances[0] > 0.04
    assert 0.98 < distances[-1] <= 1


def test_few_images_look_no_farther_apart_than_many() -> None:
    few = [energy_coefficient(normal(12, 6, seed), normal(12, 6, seed + 100)) for seed in range(40)]
    assert np.mean(few) < 0.03


def test_columns_without_variation_tell_only_where_they_differ() -> None:
    constant = np.full((20, 2), 32.0)
    assert energy_coefficient(constant, constant) == 0
    assert energy_coefficient(constant * 2, constant) == 1
    assert energy_coefficient(constant[:1], constant) == 0
    mixed = np.column_stack([np.full(20, 32.0), normal(20, 1, 0)[:, 0]])
    apart = energy_coefficient(mixed + np.array([1, 0]), mixed)
    assert 0 < apart < 1
    unit = np.array([1000, 1])
    assert energy_coefficient(unit * (mixed + np.array([1, 0])), unit * mixed) == pytest.approx(apart)


def sample(seed: int = 0, *, count: int = 60, brighter: float = 0.0, width: int = 3) -> Profile:
    numbers = np.random.default_rng(seed)
    return Profile(
        numbers.integers(20, 40, (count, 2)),
        (numbers.random((count, 6)) + brighter).astype(np.float32),
        numbers.normal(size=(count, width)).astype(np.float32),
        mite.CONTRACT,
        "b" * 64,
    )


def test_data_that_are_alike_pass() -> None:
    checks = drift.compare(sample(0), sample(1), 0.1)
    assert [(check.name, check.verdict) for check in checks] == [
        ("drift of image sizes", "pass"), ("drift of colours", "pass"), ("drift of content (embeddings)", "pass"),
    ]  # fmt: skip
    distance = energy_coefficient(sample(0).channels.astype(float), sample(1).channels.astype(float))
    reason = "Both models' data are alike in colours."
    assert checks[1] == Check("drift of colours", "pass", f"{distance:.3f}", "at most 0.1", reason)


def test_each_kind_of_drift_warns_alone() -> None:
    champion, usual = sample(1), sample(0)
    changed = [
        replace(usual, sizes=usual.sizes + 15),
        replace(usual, channels=usual.channels + 0.5),
        replace(usual, embeddings=usual.embeddings + 2),
    ]
    verdicts = [[check.verdict for check in drift.compare(side, champion, 0.1)] for side in changed]
    assert verdicts == [["warn", "pass", "pass"], ["pass", "warn", "pass"], ["pass", "pass", "warn"]]
    colours = drift.compare(changed[1], champion, 0.1)[1]
    distance = energy_coefficient(changed[1].channels.astype(float), champion.channels.astype(float))
    reason = "The challenger's data differ from the champion's in colours, so earlier results may not hold."
    assert colours == Check("drift of colours", "warn", f"{distance:.3f}", "at most 0.1", reason)
    assert drift.compare(changed[1], champion, distance)[1].verdict == "pass"


def test_embeddings_of_different_backbones_are_not_compared() -> None:
    other = replace(sample(0, width=5), backbone="c" * 64)
    checks = drift.compare(other, sample(1), 0.1)
    assert [check.verdict for check in checks] == ["pass", "pass", "info"]
    assert checks[2].reason == "Not compared, since the models have different backbones."


def test_pixels_seen_in_another_way_are_not_compared() -> None:
    other = replace(sample(0, brighter=1), image=replace(mite.CONTRACT, resize="pad"))
    checks = drift.compare(other, sample(1), 0.1)
    assert [check.verdict for check in checks] == ["pass", "info", "info"]
    reason = "Not compared, since the models see images at another size, crop or normalisation."
    assert checks[1] == Check("drift of colours", "info", "not compared", "at most 0.1", reason)


def test_a_champion_from_before_reduced_decoding_is_still_compared() -> None:
    reduced = replace(sample(0), image=replace(mite.CONTRACT, jpeg_min_scale=2))
    assert [check.verdict for check in drift.compare(reduced, sample(1), 0.1)] == ["pass", "pass", "pass"]
