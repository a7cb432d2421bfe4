"""Each rule's line of the decision table: verdict, value, bound and sentence, word for word."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from two_models import BETTER, CHAMPION, judged

from adaptformer.evaluation.intervals import Interval
from adaptformer.gate import rules
from adaptformer.gate.class_changes import ClassChange, NewClass
from adaptformer.gate.decision import Check
from adaptformer.gate.exact_difference import Gain
from adaptformer.gate.pairing import Pairs, pair

PAIRS = pair(BETTER, CHAMPION)
ALONE = "They count as independent of each other, since none share a group (`data.group_pattern`)."
SEEN = "Including this one, the gate has compared"

# fmt: off
IMAGES: list[tuple[Any, ...]] = [
    (1234, None, True, "pass", "1,234",
     f"It is judged by images that neither model has seen and whose class both know. {ALONE}"),
    (100, None, False, "pass", "100", f"It is judged by images that it has not seen. {ALONE}"),
    (99, None, False, "warn", "99", f"With 99 images only large differences stand out from chance. {ALONE}"),
    (1, None, False, "warn", "1", f"With 1 image only large differences stand out from chance. {ALONE}"),
    (360, 36, True, "warn", "360 in 36 groups",
     "With 360 images only large differences stand out from chance. They count as 36 independent groups "
     "(`data.group_pattern`)."),
    (0, None, False, "fail", "0", "There is no test image that it has not seen."),
]
LOOKS: list[tuple[Any, ...]] = [
    (0, 0.05, 0.0, "info", "1", f"{SEEN} 1 version with a champion on these test images."),
    (8, 0.01, 0.1, "info", "9",
     f"{SEEN} 9 versions with a champion on these test images. Even if none of them is better, at least one passes "
     "with a probability of about 6.2 %, and the champion's figures on these images are then too high."),
    (9, 0.05, -0.01, "warn", "10", f"{SEEN} 10 versions with a champion on these test images."),
    (1233, 0.05, -0.01, "warn", "1,234", f"{SEEN} 1,234 versions with a champion on these test images."),
]
CLASSES: list[tuple[Any, ...]] = [
    (PAIRS, (), "pass", "3 shared", "none lost", "Both models know the same classes."),
    (replace(PAIRS, new=("dog",)), (), "info", "1 added", "none lost",
     "It also knows the class dog, so on the 3 shared classes it only has to be shown not to be worse by more than a "
     "margin (`gate.max_shared_drop`)."),
    (replace(PAIRS, new=("dog", "eel"), dropped=("cat",)), ("cat",), "info", "2 added, 1 removed", "none lost but cat",
     "It also knows the classes dog, eel and no longer knows the class cat, as `gate.removed_classes` allows, so on "
     "the 3 shared classes it only has to be shown not to be worse by more than a margin (`gate.max_shared_drop`)."),
    (replace(PAIRS, dropped=("dog", "eel")), ("dog",), "fail", "1 lost", "none lost but dog",
     "It does not know the class eel, which the champion knows. If that is intended, list what was removed in "
     "`gate.removed_classes` and what was renamed in `gate.renamed_classes`."),
]
DOGS = NewClass("dog", 7, 1.0, 0.646, 1.0)
ADDED: list[tuple[Any, ...]] = [
    ([DOGS], "pass", "dog: 7 of 7 (64.6 % to 100.0 %)",
     "Of each added class it gets more right than guessing would, and none is shown to be below the bound."),
    ([NewClass("dog", 1, 1.0, 0.207, 1.0)], "fail", "dog: 1 of 1 (20.7 % to 100.0 %)",
     "It is not shown to know the class dog better than guessing would: more test images may show it."),
    ([NewClass("dog", 90, 0.3, 0.26, 0.4)], "fail", "dog: 27 of 90 (26.0 % to 40.0 %)",
     "It is shown to get less than 50.0 % right of the class dog."),
    ([DOGS, NewClass("eel", 0, None, None, None)], "fail", "dog: 7 of 7 (64.6 % to 100.0 %); eel: no test image",
     "There is no unseen test image of the class eel, so nothing shows that it knows it."),
]
ANSWERS: list[tuple[Any, ...]] = [
    (PAIRS, 1500, 0.0, True, "pass", "1,500 newly right, 0 newly wrong", "at least 1",
     "The models do not answer alike."),
    (PAIRS, 0, 0.0, False, "fail", "0 newly right, 0 newly wrong", "at least 1",
     "It is right or wrong exactly as the champion is on every one of 180 test images."),
    (pair(judged("7", (0,)), judged("5", (0,))), 0, -0.1, False, "info", "0 newly right, 0 newly wrong", "no bound",
     "It gives the champion's answer to every one of 180 test images."),
]
MORE = "more test images would settle it if this is the true difference."
GAINS: list[tuple[Any, ...]] = [  # value, low, high, p, margin
    (0.02, 0.01, 0.03, 0.003, 0.0, "pass", "+2.0 points (+1.0 to +3.0), p = 0.003", "0.0",
     "The gain of 2.0 points in top-1 is more than chance (between +1.0 and +3.0; p = 0.003)."),
    (0.02, -0.01, 0.05, 0.13, 0.0, "fail", "+2.0 points (−1.0 to +5.0), p = 0.130", "0.0",
     f"The gain of 2.0 points in top-1 may be chance (between −1.0 and +5.0; p = 0.130), and about 830 {MORE}"),
    (0.02, -0.0000001, 0.05, 0.0500001, 0.0, "fail", "+2.0 points (0.0 to +5.0), p = 0.050", "0.0",
     f"The gain of 2.0 points in top-1 may be chance (between 0.0 and +5.0; p = 0.050), and about 260 {MORE}"),
    (0.02, 0.0001, 0.04, 0.0499, 0.0, "pass", "+2.0 points (+0.01 to +4.0), p = 0.0499", "0.0",
     "The gain of 2.0 points in top-1 is more than chance (between +0.01 and +4.0; p = 0.0499)."),
    (0.02, 0.005, 0.035, 0.15, 0.01, "fail", "+2.0 points (+0.5 to +3.5), p = 0.150", "+1.0",
     "The gain of 2.0 points in top-1 may be less than the 1.0 asked for (between +0.5 and +3.5; p = 0.150), and about "
     f"830 {MORE}"),
    (-0.02, -0.03, -0.01, 0.99, -0.005, "fail", "−2.0 points (−3.0 to −1.0), p = 0.990", "−0.5",
     "Its top-1 is lower by 2.0 points (between −3.0 and −1.0; p = 0.990)."),
    (-0.02, -0.03, 0.0, 0.95, -0.01, "fail", "−2.0 points (−3.0 to 0.0), p = 0.950", "−1.0",
     "Its top-1 may be worse by more than 1.0 points (between −3.0 and 0.0; p = 0.950)."),
    (0.0, -0.03, 0.03, 0.6, 0.0, "fail", "0.0 points (−3.0 to +3.0), p = 0.600", "0.0",
     "It shows no gain in top-1 (between −3.0 and +3.0; p = 0.600)."),
    (0.0, -0.03, 0.03, 0.001, -0.05, "pass", "0.0 points (−3.0 to +3.0), p = 0.001", "−5.0",
     "Its top-1 is not worse by more than 5.0 points (between −3.0 and +3.0; p = 0.001)."),
]
# fmt: on


def fall(label: str, change: float, p: float | None, images: int = 100) -> ClassChange:
    return ClassChange(label, images, 0.9, 0.9 + change, 0, 0, change, change - 0.1, change + 0.1, p)


# fmt: off
FALLS: list[tuple[Any, ...]] = [
    ([fall("ant", -0.3, None)], "warn", "none tested", "No class has the 20 test images that a test needs."),
    ([fall("ant", -0.3, None), fall("bee", -0.05, 0.001), fall("cat", 0.1, 1.0)], "pass", "5.0 points (bee)",
     "None of 2 classes with enough images falls by more than the bound."),
    ([fall("bee", 0.0, 1.0)], "pass", "0.0 points",
     "None of 1 class with enough images falls by more than the bound."),
    ([fall("ant", -0.3, 0.05), fall("bee", 0.1, 1.0)], "info", "30.0 points (ant)",
     "Of 2 classes with enough images, 1 falls by more than the bound, but chance alone may give that."),
    ([fall("ant", -0.3, 0.2), fall("bee", -0.1, 1.0)], "info", "30.0 points (ant)",
     "Of 2 classes with enough images, 2 fall by more than the bound, but chance alone may give that."),
    ([fall("ant", -0.3, 0.2), fall("bee", -0.1, 0.049, 400), fall("cat", 0.1, 1.0)], "fail", "10.0 points (bee)",
     "In the class bee its top-1 falls by 10.0 points (90.0 % to 80.0 % of 400 images; that it falls at all: p = "
     "0.049, corrected for 3 classes)."),
    ([fall("ant", -0.3, 0.001), fall("bee", -0.1, 0.049)], "fail", "30.0 points (ant)",
     "In the class ant its top-1 falls by 30.0 points (90.0 % to 60.0 % of 100 images; that it falls at all: p = "
     "0.001, corrected for 2 classes), and 1 more class falls too far."),
    ([fall("ant", -0.3, 0.001), fall("bee", -0.1, 0.049), fall("cat", -0.1, 0.049)], "fail", "30.0 points (ant)",
     "In the class ant its top-1 falls by 30.0 points (90.0 % to 60.0 % of 100 images; that it falls at all: p = "
     "0.001, corrected for 3 classes), and 2 more classes fall too far."),
]
UNKNOWN = "Its size could not be compared with the champion's."
RATIOS: list[tuple[Any, ...]] = [
    ("latency", 4.0, 2.0, 2.0, "ms an image", "pass", "2.00 times",
     "Its latency is 2.00 times the champion's (2.00 to 4.00 ms an image)."),
    ("size", 3.2, 2.0, 1.5, "MB", "fail", "1.60 times", "Its size is 1.60 times the champion's (2.00 to 3.20 MB)."),
    ("size", 3.2, 0.0, 1.5, "MB", "fail", "unknown", UNKNOWN),
    ("size", math.nan, 1.0, 1.5, "MB", "fail", "unknown", UNKNOWN),
    ("size", 1.0, math.inf, 1.5, "MB", "fail", "unknown", UNKNOWN),
]
# fmt: on


@pytest.mark.parametrize(("count", "groups", "champion", "verdict", "value", "reason"), IMAGES)
def test_few_test_images_warn_and_none_fail(
    count: int, groups: int | None, champion: bool, verdict: Any, value: str, reason: str
) -> None:
    expected = Check("test images", verdict, value, "at least 1, better 100", reason)
    assert rules.images(count, groups, champion=champion) == expected


@pytest.mark.parametrize(("earlier", "significance", "margin", "verdict", "value", "reason"), LOOKS)
def test_ten_looks_at_the_same_images_warn(
    earlier: int, significance: float, margin: float, verdict: Any, value: str, reason: str
) -> None:
    expected = Check("looks at these test images", verdict, value, "better below 10", reason)
    assert rules.looks(earlier, significance, margin) == expected


@pytest.mark.parametrize(
    ("metric", "name", "low", "verdict", "reason"),
    [
        ("top1", "top-1", 0.41, "pass", "Its top-1 is higher than always answering ant would get."),
        (
            "macro_f1", "macro-F1", 0.4, "fail",
            "It is not shown to be better than always answering ant, which gets 40.0 % in macro-F1.",
        ),
    ],
)  # fmt: skip
def test_a_first_model_is_better_than_a_constant_answer_or_fails(
    metric: Any, name: str, low: float, verdict: Any, reason: str
) -> None:
    value, bound = f"50.0 % ({100 * low:.1f} % to 60.0 %)", "interval above 40.0 %"
    expected = Check(f"{name} above chance", verdict, value, bound, reason)
    assert rules.above_chance(metric, Interval(0.5, low, 0.6), 0.4, "ant") == expected


@pytest.mark.parametrize(("pairs", "removed", "verdict", "value", "bound", "reason"), CLASSES)
def test_a_lost_class_fails_unless_it_was_removed_on_purpose(
    pairs: Pairs, removed: tuple[str, ...], verdict: Any, value: str, bound: str, reason: str
) -> None:
    assert rules.classes(pairs, removed) == Check("classes", verdict, value, bound, reason)


@pytest.mark.parametrize(("new", "verdict", "value", "reason"), ADDED)
def test_an_added_class_is_shown_to_be_known_or_fails(
    new: list[NewClass], verdict: Any, value: str, reason: str
) -> None:
    bound = "each above 25.0 %, none shown below 50.0 %"
    assert rules.added_classes(new, 4, 0.5) == Check("added classes", verdict, value, bound, reason)


@pytest.mark.parametrize(("pairs", "gained", "margin", "differ", "verdict", "value", "bound", "reason"), ANSWERS)
def test_equal_answers_fail_if_a_gain_is_asked_for(
    pairs: Pairs, gained: int, margin: float, differ: bool, verdict: Any, value: str, bound: str, reason: str
) -> None:
    expected = Check("changed answers", verdict, value, bound, reason)
    assert rules.answers(pairs, gained, 0, margin, differ=differ) == expected


@pytest.mark.parametrize(("value", "low", "high", "p", "margin", "verdict", "shown", "bound", "reason"), GAINS)
def test_a_gain_that_may_be_chance_or_is_too_small_fails(
    value: float, low: float, high: float, p: float, margin: float, verdict: Any, shown: str, bound: str, reason: str
) -> None:
    found = rules.gain("top1", Gain(value, low, high, p, 0.05), margin, 200)
    assert found == Check("gain in top-1", verdict, shown, f"above {bound}, p < 0.05", reason)


@pytest.mark.parametrize(("changes", "verdict", "value", "reason"), FALLS)
def test_a_class_that_falls_fails_unless_it_may_be_chance(
    changes: list[ClassChange], verdict: Any, value: str, reason: str
) -> None:
    bound = "no fall above 5.0 points that is more than chance (from 20 images on)"
    assert rules.class_falls(changes, 0.05, 20, 0.05) == Check("loss in a class", verdict, value, bound, reason)


def test_large_numbers_of_images_have_thousands_separators() -> None:
    found = rules.class_falls([fall("ant", -0.3, None)], 0.05, 1500, 0.05)
    assert found.bound == "no fall above 5.0 points that is more than chance (from 1,500 images on)"
    assert found.reason == "No class has the 1,500 test images that a test needs."


@pytest.mark.parametrize(
    ("low", "high", "verdict", "value", "reason"),
    [
        (
            0.05, 0.35, "pass", "+0.200 (+0.050 to +0.350)",
            "It is not shown that its probabilities can be trusted less (log loss 0.400 to 0.600).",
        ),
        (
            0.06, 0.34, "fail", "+0.200 (+0.060 to +0.340)",
            "Its probabilities can be trusted less: log loss 0.400 to 0.600, a rise of at least 0.060.",
        ),
    ],
)  # fmt: skip
def test_a_rise_of_the_log_loss_above_the_bound_fails(
    low: float, high: float, verdict: Any, value: str, reason: str
) -> None:
    expected = Check("log loss", verdict, value, "interval not above 0.05", reason)
    assert rules.log_loss(Gain(0.2, low, high, 0.05, 0.05), 0.4, 0.05) == expected


@pytest.mark.parametrize(
    ("challenger", "verdict", "value", "reason"),
    [
        (4.0, "pass", "2.00 times", "It takes 4 ms an image, and up to 4 ms no ratio matters."),
        (4.1, "fail", "2.05 times", "Its latency is 2.05 times the champion's (2.00 to 4.10 ms an image)."),
        (0.0, "fail", "unknown", "Its latency could not be compared with the champion's."),
    ],
)
def test_a_slower_model_passes_if_it_is_fast_enough(challenger: float, verdict: Any, value: str, reason: str) -> None:
    expected = Check("latency", verdict, value, "at most 1.5 times, or 4 ms", reason)
    assert rules.latency(challenger, 2.0, 1.5, 4.0) == expected


@pytest.mark.parametrize(("name", "challenger", "champion", "bound", "unit", "verdict", "value", "reason"), RATIOS)
def test_a_cost_above_the_bound_or_unknown_fails(
    name: str, challenger: float, champion: float, bound: float, unit: str, verdict: Any, value: str, reason: str
) -> None:
    expected = Check(name, verdict, value, f"at most {bound:g} times", reason)
    assert rules.ratio(name, challenger, champion, bound, unit) == expected


@pytest.mark.parametrize(
    ("found", "bound", "verdict", "value", "reason"),
    [
        (0.01, 0.01, "pass", "0.01", "Its ONNX file answers as the trained model does."),
        (
            2e-3, 1e-4, "fail", "0.002",
            "Its ONNX file answers unlike the trained model: logits differ by up to 0.002 of the largest.",
        ),
        (
            math.inf, 1e-4, "fail", "unknown",
            "It is not known whether its ONNX file answers as the trained model does.",
        ),
    ],
)  # fmt: skip
def test_an_onnx_file_that_answers_unlike_the_trained_model_fails(
    found: float, bound: float, verdict: Any, value: str, reason: str
) -> None:
    expected = Check("parity of the ONNX file", verdict, value, f"at most {bound:g}", reason)
    assert rules.parity(found, bound) == expected
