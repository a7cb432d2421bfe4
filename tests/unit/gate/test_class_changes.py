from __future__ import annotations

import math
from dataclasses import replace

import pytest
from two_models import BETTER, CHAMPION, decision, judged

from adaptformer.evaluation.intervals import wilson
from adaptformer.gate.class_changes import ClassChange, newcombe
from adaptformer.gate.pairing import Side


def test_each_class_has_its_counts_shares_and_interval() -> None:
    # The champion is wrong on 7 ants, 7 bees and 6 cats; the challenger on 2, 2 and 1 of these, and on two other bees.
    changes = decision(judged("7", [*range(5), 31, 34])).changes
    assert [change.label for change in changes] == ["bee", "ant", "cat"]
    found = newcombe(51, 5, 2, 2)
    assert changes[0] == ClassChange("bee", 60, 53 / 60, 56 / 60, 5, 2, found.value, found.low, found.high, 1.0)
    assert found.value == 3 / 60
    assert (changes[1].gained, changes[1].lost, changes[1].change) == (5, 0, 5 / 60)


def test_the_largest_fall_comes_first_and_equal_ones_by_name() -> None:
    assert [change.label for change in decision(CHAMPION, BETTER).changes] == ["ant", "bee", "cat"]
    assert [change.label for change in decision().changes] == ["ant", "bee", "cat"]
    worst = decision(judged("7", range(2, 180, 3))).changes
    assert worst[0].label == "cat"
    assert worst[0].challenger == 0


def test_a_fall_is_tested_and_corrected_for_the_number_of_classes() -> None:
    # 7 more ants are lost, 3 bees, and no cat: p = 1/128, 1/8 and 1, by three, two and one.
    changes = decision(judged("7", [*range(20), *range(60, 81, 3), *range(61, 70, 3)])).changes
    assert [(change.label, change.p) for change in changes] == [("ant", 3 / 128), ("bee", 2 / 8), ("cat", 1.0)]
    back = decision(judged("7", range(20)), judged("5", [*range(20), *range(60, 81, 3)])).changes
    assert {change.p for change in back} == {1.0}, "a gain is no fall"


def test_classes_of_few_images_are_not_tested_and_not_corrected_for() -> None:
    # 61 ants, 60 bees and 60 cats.
    few = decision(judged("7", range(0, 21, 3), 181), judged("5", (), 181), min_class_images=61).changes
    assert [(change.label, change.p) for change in few] == [("ant", 1 / 128), ("bee", None), ("cat", None)]
    all_of_them = decision(judged("7", range(0, 21, 3), 181), judged("5", (), 181), min_class_images=60).changes
    assert [change.p for change in all_of_them] == [3 / 128, 1.0, 1.0]


def test_a_class_without_images_is_left_out() -> None:
    assert [change.label for change in decision(judged("7", (), 2), judged("5", (0, 1), 2)).changes] == ["ant", "bee"]


def test_the_interval_mirrors_and_holds_where_nothing_changed() -> None:
    there, back = newcombe(20, 12, 2, 6), newcombe(20, 2, 12, 6)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    nothing = newcombe(12, 0, 0, 0)
    assert (nothing.value, nothing.low, nothing.high) == pytest.approx(
        (0, -(1 - wilson(12, 12).low), 1 - wilson(12, 12).low)
    )


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((20, 12, 2, 16), 0.0562, 0.3292),
        ((18, 12, 2, 18), 0.0562, 0.3290),
        ((36, 14, 0, 0), 0.1528, 0.4167),
        ((35, 14, 0, 1), 0.1461, 0.4175),
        ((18, 14, 0, 18), 0.1441, 0.3963),
        ((2, 97, 1, 0), 0.8721, 0.9854),
        ((30, 0, 0, 24), -0.0358, 0.0358),
    ],
)
def test_the_interval_is_the_published_one(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    # Newcombe, Stat. Med. 17 (1998) 2635, table III, method 10.
    found = newcombe(*counts)
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


# φ = 0, in the last two cases by the correction for continuity.
@pytest.mark.parametrize(("both", "neither"), [(8, 12), (9, 12), (97, 1)])
def test_unrelated_sides_have_the_interval_of_unpaired_shares(both: int, neither: int) -> None:
    images = both + 20 + neither
    found, ours, theirs = newcombe(both, 12, 8, neither), wilson(both + 12, images), wilson(both + 8, images)
    assert found.low == pytest.approx(4 / images - math.hypot(ours.value - ours.low, theirs.high - theirs.value))
    assert found.high == pytest.approx(4 / images + math.hypot(ours.high - ours.value, theirs.value - theirs.low))


def test_related_sides_have_a_narrower_one() -> None:
    related, unrelated = newcombe(18, 2, 0, 20), newcombe(10, 10, 8, 12)
    assert related.high - related.low < 0.6 * (unrelated.high - unrelated.low)


@pytest.mark.parametrize(
    ("shares", "most"),
    [((0.7, 0.1, 0.05, 0.15), 0.98), ((0.5, 0.2, 0.2, 0.1), 0.98), ((0.9, 0.04, 0.04, 0.02), 1.0)],
)
def test_95_of_100_intervals_hold_the_truth_or_more_near_1(
    shares: tuple[float, float, float, float], most: float
) -> None:
    images, covered = 24, 0.0
    truth = shares[1] - shares[2]
    for both in range(images + 1):
        for gained in range(images + 1 - both):
            for lost in range(images + 1 - both - gained):
                counts = (both, gained, lost, images - both - gained - lost)
                found = newcombe(*counts)
                if found.low <= truth <= found.high:
                    ways = math.factorial(images) / math.prod(map(math.factorial, counts))
                    covered += ways * math.prod(share**count for share, count in zip(shares, counts, strict=True))
    assert 0.94 < covered < most


def dark_thirds(model: Side) -> Side:
    """The same model with a recorded brightness: images 0 to 59 are the darkest third, and so on."""
    return replace(model, predictions=model.predictions.assign(brightness=[float(i) for i in range(180)]))


def test_slices_are_compared_as_classes_are() -> None:
    found = decision(dark_thirds(judged("7", [*range(20), *range(120, 127)])), dark_thirds(CHAMPION))
    assert [(change.label, change.images, change.gained, change.lost) for change in found.slices] == [
        ("brightness above 119 of 255", 60, 0, 7),
        ("brightness 60 to 119 of 255", 60, 0, 0),
        ("brightness up to 60 of 255", 60, 0, 0),
    ]
    assert found.slices[0].p == 3 / 128
    assert found.slices[1].p == 1.0


def test_without_records_there_are_no_slices() -> None:
    assert decision().slices == ()
    assert decision(BETTER, dark_thirds(CHAMPION)).slices == (), "the challenger's records count"
    assert decision(dark_thirds(BETTER), CHAMPION).slices != ()
    assert decision(dark_thirds(BETTER), None).slices == ()
