"""Chance and drift told apart, whatever the number of images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adaptformer.data.preprocessing import ImageContract
from adaptformer.evaluation.data_profile import Profile
from adaptformer.gate.drift import energy_coefficient
from adaptformer.monitoring import permutation_drift as drift

CONTRACT = ImageContract(32, "squash", 1.0, "bicubic", (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(autouse=True)
def _few_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test draw a fifth of the permutations: the bound is coarser, and as rarely exceeded by chance."""
    monkeypatch.setattr(drift, "PERMUTATIONS", 199)


def sample(count: int, seed: int, foreign: float = 0.0) -> Profile:
    """A profile of so many images, of which a share is of another kind."""
    random = np.random.default_rng(seed)
    strange = random.random(count) < foreign
    return Profile(
        random.choice([480, 640, 800], (count, 2)),
        random.normal(0.5, 0.1, (count, 6)).astype(np.float32),
        (random.normal(0, 1, (count, 20)) + np.where(strange, 2.0, 0.0)[:, np.newaxis]).astype(np.float32),
        CONTRACT,
        "abc",
    )


def verdicts(new: Profile, known: Profile) -> list[str]:
    return [check.verdict for check in drift.compare(new, known)]


@pytest.mark.parametrize("count", [1, 2, 19])
def test_few_images_are_no_alarm_however_strange(count: int) -> None:
    assert verdicts(sample(count, 1, foreign=1.0), sample(300, 0)) == ["info"] * 3


@pytest.mark.parametrize("count", [20, 60])
def test_batches_of_the_same_kind_rarely_are_an_alarm(count: int) -> None:
    alarms = ["warn" in verdicts(sample(count, 2 * draw + 1), sample(120, 2 * draw + 2)) for draw in range(12)]
    assert sum(alarms) <= 3  # at 5 %, more happen in one of 400 cases


@pytest.mark.parametrize("count", [60, 600])
def test_half_a_batch_of_another_kind_is_an_alarm(count: int) -> None:
    known = sample(300, 0)
    for draw in range(5):
        new = sample(count, draw + 1, foreign=0.5)
        content = drift.compare(new, known)[2]
        assert (content.name, content.verdict) == ("drift of content (embeddings)", "warn")
        assert not drift.alike(new.embeddings, known.embeddings)


def test_images_far_from_all_others_are_told_apart() -> None:
    known, new = sample(300, 0), sample(200, 1)
    assert drift.unlike(new.embeddings, known.embeddings).mean() < 0.06
    assert drift.alike(new.embeddings, known.embeddings)
    assert drift.unlike(new.embeddings + 5, known.embeddings).all()
    assert not drift.alike(new.embeddings[:19], known.embeddings)


def test_what_was_computed_differently_is_not_compared() -> None:
    known = sample(300, 0)
    assert verdicts(replace(sample(60, 1), backbone="other"), known) == ["pass", "pass", "info"]
    assert verdicts(replace(sample(60, 1), image=replace(CONTRACT, size=64)), known) == ["pass", "info", "info"]


def test_constant_figures_are_alike() -> None:
    same = replace(sample(60, 1), sizes=np.full((60, 2), 32))
    assert verdicts(same, replace(sample(300, 0), sizes=np.full((300, 2), 32)))[0] == "pass"
    assert verdicts(same, replace(sample(300, 0), sizes=np.full((300, 2), 33)))[0] == "warn"


def test_the_coefficients_of_divisions_are_those_of_the_two_sides() -> None:
    random = np.random.default_rng(0)
    both = random.normal(size=(30, 4))
    both[:6] += 3
    sides = np.zeros((5, 30))
    sides[0, :12] = 1
    for row in sides[1:]:
        row[random.permutation(30)[:12]] = 1
    distances = np.linalg.norm(both[:, np.newaxis] - both, axis=2)
    found = drift.coefficients_of(distances, sides)
    for row, coefficient in zip(sides.astype(bool), found, strict=True):
        ours, theirs = both[row], both[~row]
        across = np.linalg.norm(ours[:, np.newaxis] - theirs, axis=2).mean()
        within = sum(
            np.linalg.norm(side[:, np.newaxis] - side, axis=2).sum() / (len(side) * (len(side) - 1))
            for side in (ours, theirs)
        )
        assert coefficient == pytest.approx(max((2 * across - within) / (2 * across), 0))
    unscaled = both / both.std(axis=0)  # the gate's own function, in the units of one side
    assert energy_coefficient(unscaled[:12], unscaled[12:]) == pytest.approx(found[0], abs=0.1)
