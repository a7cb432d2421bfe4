"""Parts of the test images, and what is shown of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from adaptformer.evaluation import slices
from adaptformer.evaluation.slices import holm


def test_brightness_is_the_mean_level_of_each_image() -> None:
    images = np.zeros((300, 4, 4, 3), np.uint8)
    images[:, :2] = np.arange(300, dtype=np.uint16)[:, None, None, None].astype(np.uint8)
    np.testing.assert_allclose(slices.brightness(images), images.reshape(300, -1).mean(axis=1))
    assert slices.brightness(images[:0]).shape == (0,)


def test_sizes_and_brightness_are_cut_into_thirds_and_groups_are_named() -> None:
    table = pd.DataFrame(
        {
            "width": [10 * (1 + i) for i in range(60)],
            "height": [10 * (1 + i) for i in range(60)],
            "brightness": [float(59 - i) for i in range(60)],
            "group": ["ann"] * 15 + ["bob"] * 9 + [""] * 36,
        }
    )
    found = slices.masks(table)
    assert {name: int(mask.sum()) for name, mask in found.items()} == {
        "size up to 207 px": 20,
        "size 207 to 403 px": 20,
        "size above 403 px": 20,
        "brightness up to 20 of 255": 20,
        "brightness 20 to 39 of 255": 20,
        "brightness above 39 of 255": 20,
        "group ann": 15,
    }
    assert found["size up to 207 px"].nonzero()[0].tolist() == list(range(20))
    assert found["brightness above 39 of 255"].nonzero()[0].tolist() == list(range(20))
    # As they come back from a CSV file.
    assert list(slices.masks(table.astype(str))) == list(found)


def test_what_was_not_recorded_or_does_not_differ_gives_no_slice() -> None:
    table = pd.DataFrame({"width": [32] * 60, "height": [32] * 60, "group": ["ann"] * 60})
    assert slices.masks(table) == {}
    assert slices.masks(pd.DataFrame({"path": ["a"] * 60})) == {}


def test_a_slice_is_compared_with_all_other_images() -> None:
    correct = np.ones(100, bool)
    correct[:10] = False
    dark, bright = np.arange(100) < 20, np.arange(100) >= 20
    (first, second) = slices.find(correct, {"bright": bright, "dark": dark})
    assert (first.name, first.images, first.top1.value, first.others) == ("dark", 20, 0.5, 1.0)
    assert second.name == "bright"
    assert first.shown_worse
    assert not second.shown_worse, "better is not worse"
    assert slices.sentence([first, second]) == ("Worst slice: dark, top-1 50.0% of 20 images, 100.0% of the others.")


def test_p_is_that_of_fishers_test_corrected_for_the_number_of_slices() -> None:
    correct = np.array([False] * 2 + [True] * 18)
    first = np.arange(20) < 10
    alone = slices.find(correct, {"first": first})[0]
    assert alone.p == pytest.approx(45 / 190)  # both wrong answers among the first ten: C(10, 2) of C(20, 2)
    (found, _) = slices.find(correct, {"first": first, "last": ~first})
    assert found.p == pytest.approx(90 / 190)
    assert (
        slices.sentence([found])
    ) == "No slice is shown to be worse than the rest; the lowest top-1 is 80.0%, of 10 images (first)."


def test_images_of_one_group_are_no_independent_evidence() -> None:
    """All that is wrong among the dark images is of one of ten groups."""
    correct, dark = np.ones(200, bool), np.arange(200) < 100
    correct[:10] = False
    groups = np.arange(200) // 10
    (alone, *_) = slices.find(correct, {"dark": dark})
    (grouped, *_) = slices.find(correct, {"dark": dark}, groups)
    assert alone.shown_worse
    assert not grouped.shown_worse
    one_group = np.arange(200) < 10
    (itself, *_) = slices.find(correct, {"group ann": one_group}, groups)
    assert itself.shown_worse, "this group is worse, whatever another one would be"


def test_groups_give_no_more_false_alarms_than_images_do() -> None:
    """Equal slices; images of a group are all right or all wrong."""
    random, alarms = np.random.default_rng(0), [0, 0]
    for _ in range(200):
        groups = np.arange(360) // 10
        correct = (random.random(36) < 0.8)[groups]
        dark = (random.random(36) < 0.5)[groups]
        for taken, of in enumerate((None, groups)):
            alarms[taken] += slices.find(correct, {"dark": dark}, of)[0].shown_worse
    assert alarms[0] > 40
    assert alarms[1] <= 10


def test_without_slices_there_is_nothing_to_say() -> None:
    assert slices.find(np.ones(5, bool), {}) == []
    assert slices.sentence([]) == "No slice has at least 10 images."


def test_holm_corrects_for_the_number_of_tests() -> None:
    # The smallest of four by 4, the next by 3 …, and never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.01, 0.01]) == [0.02, 0.02]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []
