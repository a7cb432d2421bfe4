from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from two_models import BETTER, CHAMPION, judged

from adaptformer.evaluation.intervals import Interval
from adaptformer.gate import rules
from adaptformer.gate.class_changes import ClassChange, NewClass
from adaptformer.gate.decision import Check
from adaptformer.gate.exact_difference import Gain
from adaptformer.gate.pairing import pair

PAIRS = pair(BETTER, CHAMPION)


def fall(label: str, change: float, p: float | None, images: int = 100) -> ClassChange:
    return ClassChange(label, images, 0.9, 0.9 + change, 0, 0, change, change - 0.1, change + 0.1, p)


def falls(*changes: ClassChange, support: int = 20) -> Check:
    return rules.class_falls(changes, 0.05, support, 0.05)


LIMIT = "no fall above 5.0 points that is more than chance (from 20 images on)"
ASKED = "above 0.0, p < 0.05"
ALONE = "They count as independent of each other, since none share a group (`data.group`)."


def gained(value: float, low: float, high: float, p: float, margin: float = 0.0, images: int = 200) -> Check:
    return rules.gain("top1", Gain(value, low, high, p, 0.05), margin, images)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            lambda: rules.images(1234, None, champion=True),
            Check(
                "test images",
                "pass",
                "1,234",
                "at least 1, better 100",
                f"It is judged by images that neither model has seen and whose class both know. {ALONE}",
            ),
        ),
        (
            lambda: rules.images(99, None, champion=False),
            Check(
                "test images",
                "warn",
                "99",
                "at least 1, better 100",
                f"With 99 images only large differences stand out from chance. {ALONE}",
            ),
        ),
        (
            lambda: rules.images(360, 36, champion=True),
            Check(
                "test images",
                "warn",
                "360 in 36 groups",
                "at least 1, better 100",
                "With 360 images only large differences stand out from chance. They count as 36 independent groups "
                "(`data.group`).",
            ),
        ),
        (
            lambda: rules.images(0, None, champion=False),
            Check("test images", "fail", "0", "at least 1, better 100", "There is no test image that it has not seen."),
        ),
        (
            lambda: rules.looks(0, 0.05, 0.0),
            Check(
                "looks at these test images",
                "info",
                "1",
                "better below 10",
                "Including this one, the gate has compared 1 version with a champion on these test images.",
            ),
        ),
        (
            lambda: rules.looks(8, 0.01, 0.1),
            Check(
                "looks at these test images",
                "info",
                "9",
                "better below 10",
                "Including this one, the gate has compared 9 versions with a champion on these test images. Even if "
                "none of them is better, at least one passes with a probability of about 6.2 %, and the champion's "
                "figures on these images are then too high.",
            ),
        ),
        (
            lambda: rules.looks(1233, 0.05, -0.01),
            Check(
                "looks at these test images",
                "warn",
                "1,234",
                "better below 10",
                "Including this one, the gate has compared 1,234 versions with a champion on these test images.",
            ),
        ),
        (
            lambda: rules.above_chance("top1", Interval(0.5, 0.41, 0.6), 0.4, "ant"),
            Check(
                "top-1 above chance",
                "pass",
                "50.0 % (41.0 % to 60.0 %)",
                "interval above 40.0 %",
                "Its top-1 is higher than always answering ant would get.",
            ),
        ),
        (
            lambda: rules.above_chance("macro_f1", Interval(0.5, 0.4, 0.6), 0.4, "ant"),
            Check(
                "macro-F1 above chance",
                "fail",
                "50.0 % (40.0 % to 60.0 %)",
                "interval above 40.0 %",
                "It is not shown to be better than always answering ant, which gets 40.0 % in macro-F1.",
            ),
        ),
        (
            lambda: rules.classes(PAIRS, ()),
            Check("classes", "pass", "3 shared", "none lost", "Both models know the same classes."),
        ),
        (
            lambda: rules.classes(replace(PAIRS, new=("dog",)), ()),
            Check(
                "classes",
                "info",
                "1 added",
                "none lost",
                "It also knows the class dog, so on the 3 shared classes it only has to be shown not to be worse by "
                "more than a margin (`gate.shared_loss`).",
            ),
        ),
        (
            lambda: rules.classes(replace(PAIRS, new=("dog", "eel"), dropped=("cat",)), ("cat",)),
            Check(
                "classes",
                "info",
                "2 added, 1 removed",
                "none lost but cat",
                "It also knows the classes dog, eel and no longer knows the class cat, as `gate.removed_classes` "
                "allows, so on the 3 shared classes it only has to be shown not to be worse by more than a margin "
                "(`gate.shared_loss`).",
            ),
        ),
        (
            lambda: rules.classes(replace(PAIRS, dropped=("dog", "eel")), ("dog",)),
            Check(
                "classes",
                "fail",
                "1 lost",
                "none lost but dog",
                "It does not know the class eel, which the champion knows. If that is intended, list what was removed "
                "in `gate.removed_classes` and what was renamed in `gate.renamed_classes`.",
            ),
        ),
        (
            lambda: rules.added_classes([NewClass("dog", 7, 1.0, 0.646, 1.0)], 4, 0.5),
            Check(
                "added classes",
                "pass",
                "dog: 7 of 7 (64.6 % to 100.0 %)",
                "each above 25.0 %, none shown below 50.0 %",
                "Of each added class it gets more right than guessing would, and none is shown to be below the bound.",
            ),
        ),
        (
            lambda: rules.added_classes([NewClass("dog", 1, 1.0, 0.207, 1.0)], 4, 0.5),
            Check(
                "added classes",
                "fail",
                "dog: 1 of 1 (20.7 % to 100.0 %)",
                "each above 25.0 %, none shown below 50.0 %",
                "It is not shown to know the class dog better than guessing would: more test images may show it.",
            ),
        ),
        (
            lambda: rules.added_classes([NewClass("dog", 90, 0.3, 0.26, 0.4)], 4, 0.5),
            Check(
                "added classes",
                "fail",
                "dog: 27 of 90 (26.0 % to 40.0 %)",
                "each above 25.0 %, none shown below 50.0 %",
                "It is shown to get less than 50.0 % right of the class dog.",
            ),
        ),
        (
            lambda: rules.added_classes(
                [NewClass("dog", 7, 1.0, 0.646, 1.0), NewClass("eel", 0, None, None, None)], 4, 0.5
            ),
            Check(
                "added classes",
                "fail",
                "dog: 7 of 7 (64.6 % to 100.0 %); eel: no test image",
                "each above 25.0 %, none shown below 50.0 %",
                "There is no unseen test image of the class eel, so nothing shows that it knows it.",
            ),
        ),
        (
            lambda: rules.answers(PAIRS, 1500, 0, 0.0, differ=True),
            Check(
                "changed answers",
                "pass",
                "1,500 newly right, 0 newly wrong",
                "at least 1",
                "The models do not answer alike.",
            ),
        ),
        (
            lambda: rules.answers(PAIRS, 0, 0, 0.0, differ=False),
            Check(
                "changed answers",
                "fail",
                "0 newly right, 0 newly wrong",
                "at least 1",
                "It is right or wrong exactly as the champion is on every one of 180 test images.",
            ),
        ),
        (
            lambda: rules.answers(pair(judged("7", (0,)), judged("5", (0,))), 0, 0, -0.1, differ=False),
            Check(
                "changed answers",
                "info",
                "0 newly right, 0 newly wrong",
                "no bound",
                "It gives the champion's answer to every one of 180 test images.",
            ),
        ),
        (
            lambda: gained(0.02, 0.01, 0.03, 0.003),
            Check(
                "gain in top-1",
                "pass",
                "+2.0 points (+1.0 to +3.0), p = 0.003",
                ASKED,
                "The gain of 2.0 points in top-1 is more than chance (between +1.0 and +3.0; p = 0.003).",
            ),
        ),
        (
            lambda: gained(0.02, -0.01, 0.05, 0.13),
            Check(
                "gain in top-1",
                "fail",
                "+2.0 points (−1.0 to +5.0), p = 0.130",
                ASKED,
                "The gain of 2.0 points in top-1 may be chance (between −1.0 and +5.0; p = 0.130), and about 830 more "
                "test images would settle it if this is the true difference.",
            ),
        ),
        (
            lambda: gained(0.02, -0.0000001, 0.05, 0.0500001),
            Check(
                "gain in top-1",
                "fail",
                "+2.0 points (0.0 to +5.0), p = 0.050",
                ASKED,
                "The gain of 2.0 points in top-1 may be chance (between 0.0 and +5.0; p = 0.050), and about 260 "
                "more test images would settle it if this is the true difference.",
            ),
        ),
        (
            lambda: gained(0.02, 0.0001, 0.04, 0.0499),
            Check(
                "gain in top-1",
                "pass",
                "+2.0 points (+0.01 to +4.0), p = 0.0499",
                ASKED,
                "The gain of 2.0 points in top-1 is more than chance (between +0.01 and +4.0; p = 0.0499).",
            ),
        ),
        (
            lambda: gained(0.02, 0.005, 0.035, 0.15, 0.01),
            Check(
                "gain in top-1",
                "fail",
                "+2.0 points (+0.5 to +3.5), p = 0.150",
                "above +1.0, p < 0.05",
                "The gain of 2.0 points in top-1 may be less than the 1.0 asked for (between +0.5 and +3.5; "
                "p = 0.150), and about 830 more test images would settle it if this is the true difference.",
            ),
        ),
        (
            lambda: gained(-0.02, -0.03, -0.01, 0.99, -0.005),
            Check(
                "gain in top-1",
                "fail",
                "−2.0 points (−3.0 to −1.0), p = 0.990",
                "above −0.5, p < 0.05",
                "Its top-1 is lower by 2.0 points (between −3.0 and −1.0; p = 0.990).",
            ),
        ),
        (
            lambda: gained(-0.02, -0.03, 0.0, 0.95, -0.01),
            Check(
                "gain in top-1",
                "fail",
                "−2.0 points (−3.0 to 0.0), p = 0.950",
                "above −1.0, p < 0.05",
                "Its top-1 may be worse by more than 1.0 points (between −3.0 and 0.0; p = 0.950).",
            ),
        ),
        (
            lambda: gained(0.0, -0.03, 0.03, 0.6),
            Check(
                "gain in top-1",
                "fail",
                "0.0 points (−3.0 to +3.0), p = 0.600",
                ASKED,
                "It shows no gain in top-1 (between −3.0 and +3.0; p = 0.600).",
            ),
        ),
        (
            lambda: gained(0.0, -0.03, 0.03, 0.001, -0.05),
            Check(
                "gain in top-1",
                "pass",
                "0.0 points (−3.0 to +3.0), p = 0.001",
                "above −5.0, p < 0.05",
                "Its top-1 is not worse by more than 5.0 points (between −3.0 and +3.0; p = 0.001).",
            ),
        ),
        (
            lambda: falls(fall("ant", -0.3, None)),
            Check(
                "loss in a class", "warn", "none tested", LIMIT, "No class has the 20 test images that a test needs."
            ),
        ),
        (
            lambda: falls(fall("ant", -0.3, None), support=1500),
            Check(
                "loss in a class",
                "warn",
                "none tested",
                "no fall above 5.0 points that is more than chance (from 1,500 images on)",
                "No class has the 1,500 test images that a test needs.",
            ),
        ),
        (
            lambda: falls(fall("ant", -0.3, None), fall("bee", -0.05, 0.001), fall("cat", 0.1, 1.0)),
            Check(
                "loss in a class",
                "pass",
                "5.0 points (bee)",
                LIMIT,
                "None of 2 classes with enough images falls by more than the bound.",
            ),
        ),
        (
            lambda: falls(fall("bee", 0.0, 1.0)),
            Check(
                "loss in a class",
                "pass",
                "0.0 points",
                LIMIT,
                "None of 1 class with enough images falls by more than the bound.",
            ),
        ),
        (
            lambda: falls(fall("ant", -0.3, 0.05), fall("bee", 0.1, 1.0)),
            Check(
                "loss in a class",
                "info",
                "30.0 points (ant)",
                LIMIT,
                "Of 2 classes with enough images, 1 falls by more than the bound, but chance alone may give that.",
            ),
        ),
        (
            lambda: falls(fall("ant", -0.3, 0.2), fall("bee", -0.1, 1.0)),
            Check(
                "loss in a class",
                "info",
                "30.0 points (ant)",
                LIMIT,
                "Of 2 classes with enough images, 2 fall by more than the bound, but chance alone may give that.",
            ),
        ),
        (
            lambda: falls(fall("ant", -0.3, 0.2), fall("bee", -0.1, 0.049, 400), fall("cat", 0.1, 1.0)),
            Check(
                "loss in a class",
                "fail",
                "10.0 points (bee)",
                LIMIT,
                "In the class bee its top-1 falls by 10.0 points (90.0 % to 80.0 % of 400 "
                "images; that it falls at all: p = 0.049, corrected for 3 classes).",
            ),
        ),
        (
            lambda: falls(fall("ant", -0.3, 0.001), fall("bee", -0.1, 0.049)),
            Check(
                "loss in a class",
                "fail",
                "30.0 points (ant)",
                LIMIT,
                "In the class ant its top-1 falls by 30.0 points (90.0 % to 60.0 % of 100 images; that it falls at "
                "all: p = 0.001, corrected for 2 classes), and 1 more class falls too far.",
            ),
        ),
        (
            lambda: falls(fall("ant", -0.3, 0.001), fall("bee", -0.1, 0.049), fall("cat", -0.1, 0.049)),
            Check(
                "loss in a class",
                "fail",
                "30.0 points (ant)",
                LIMIT,
                "In the class ant its top-1 falls by 30.0 points (90.0 % to 60.0 % of 100 "
                "images; that it falls at all: p = 0.001, corrected for 3 classes), and 2 more classes fall too far.",
            ),
        ),
        (
            lambda: rules.log_loss(Gain(0.2, 0.05, 0.35, 0.05, 0.05), 0.4, 0.05),
            Check(
                "log loss",
                "pass",
                "+0.200 (+0.050 to +0.350)",
                "interval not above 0.05",
                "It is not shown that its probabilities can be trusted less (log loss 0.400 to 0.600).",
            ),
        ),
        (
            lambda: rules.log_loss(Gain(0.2, 0.06, 0.34, 0.04, 0.05), 0.4, 0.05),
            Check(
                "log loss",
                "fail",
                "+0.200 (+0.060 to +0.340)",
                "interval not above 0.05",
                "Its probabilities can be trusted less: log loss 0.400 to 0.600, a rise of at least 0.060.",
            ),
        ),
        (
            lambda: rules.latency(4.0, 2.0, 1.5, 4.0),
            Check(
                "latency",
                "pass",
                "2.00 times",
                "at most 1.5 times, or 4 ms",
                "It takes 4 ms an image, and up to 4 ms no ratio matters.",
            ),
        ),
        (
            lambda: rules.latency(4.1, 2.0, 1.5, 4.0),
            Check(
                "latency",
                "fail",
                "2.05 times",
                "at most 1.5 times, or 4 ms",
                "Its latency is 2.05 times the champion's (2.00 to 4.10 ms an image).",
            ),
        ),
        (
            lambda: rules.latency(0.0, 2.0, 1.5, 4.0),
            Check(
                "latency",
                "fail",
                "unknown",
                "at most 1.5 times, or 4 ms",
                "Its latency could not be compared with the champion's.",
            ),
        ),
        (
            lambda: rules.parity(0.01, 0.01),
            Check(
                "parity of the ONNX file",
                "pass",
                "0.01",
                "at most 0.01",
                "Its ONNX file answers as the trained model does.",
            ),
        ),
        (
            lambda: rules.parity(2e-3, 1e-4),
            Check(
                "parity of the ONNX file",
                "fail",
                "0.002",
                "at most 0.0001",
                "Its ONNX file answers unlike the trained model: logits differ by up to 0.002 of the largest.",
            ),
        ),
        (
            lambda: rules.parity(math.inf, 1e-4),
            Check(
                "parity of the ONNX file",
                "fail",
                "unknown",
                "at most 0.0001",
                "It is not known whether its ONNX file answers as the trained model does.",
            ),
        ),
        (
            lambda: rules.ratio("latency", 4.0, 2.0, 2.0, "ms an image"),
            Check(
                "latency",
                "pass",
                "2.00 times",
                "at most 2 times",
                "Its latency is 2.00 times the champion's (2.00 to 4.00 ms an image).",
            ),
        ),
        (
            lambda: rules.ratio("size", 3.2, 2.0, 1.5, "MB"),
            Check(
                "size",
                "fail",
                "1.60 times",
                "at most 1.5 times",
                "Its size is 1.60 times the champion's (2.00 to 3.20 MB).",
            ),
        ),
        (
            lambda: rules.ratio("size", 3.2, 0.0, 1.5, "MB"),
            Check(
                "size", "fail", "unknown", "at most 1.5 times", "Its size could not be compared with the champion's."
            ),
        ),
        (
            lambda: rules.ratio("size", math.nan, 1.0, 1.5, "MB"),
            Check(
                "size", "fail", "unknown", "at most 1.5 times", "Its size could not be compared with the champion's."
            ),
        ),
        (
            lambda: rules.ratio("size", 1.0, math.inf, 1.5, "MB"),
            Check(
                "size", "fail", "unknown", "at most 1.5 times", "Its size could not be compared with the champion's."
            ),
        ),
    ],
)
def test_each_rule_says_what_it_found(rule: Callable[[], Check], expected: Check) -> None:
    assert rule() == expected


@pytest.mark.parametrize(("count", "verdict"), [(100, "pass"), (99, "warn"), (1, "warn"), (0, "fail")])
def test_few_images_warn_and_none_fail(count: int, verdict: str) -> None:
    assert rules.images(count, None, champion=True).verdict == verdict


@pytest.mark.parametrize(("earlier", "verdict"), [(0, "info"), (8, "info"), (9, "warn"), (40, "warn")])
def test_many_looks_warn(earlier: int, verdict: str) -> None:
    assert rules.looks(earlier, 0.05, 0.0).verdict == verdict
