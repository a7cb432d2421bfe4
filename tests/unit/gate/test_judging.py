from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from two_models import BETTER, CHAMPION, answering, decision, failed, judged, reason, sha256

from adaptformer.base.classification_scores import NAMES
from adaptformer.evaluation import intervals
from adaptformer.evaluation.calibration import ece
from adaptformer.gate import paired_tests
from adaptformer.gate.decision import Decision
from adaptformer.gate.exact_difference import difference
from adaptformer.gate.pairing import Side, pair
from adaptformer.gate.rules import FEW
from adaptformer.gate.wording import points


def test_a_better_model_replaces_the_champion() -> None:
    found = decision()
    assert found.promoted
    assert failed(found) == []
    assert found.sentence == (
        "Version 7 replaces version 5: of 180 test images it gets 15 right that version 5 got wrong, and 0 wrong that "
        "version 5 got right (top-1 88.9 % to 97.2 %)."
    )
    assert (found.challenger, found.champion, found.metric, found.images) == ("7", "5", "top1", 180)
    assert [check.name for check in found.checks] == [
        "test images", "classes", "changed answers", "gain in top-1", "loss in a class",
        "newly wrong", "log loss", "parity of the ONNX file", "latency", "size", "looks at these test images",
    ]  # fmt: skip


def test_the_numbers_are_those_of_the_statistics() -> None:
    numbers = decision(judged("7", [*range(5), 30, 31])).numbers
    labels = np.arange(180) % 3
    ours, theirs = labels.copy(), labels.copy()
    for wrong, predicted in (([*range(5), 30, 31], ours), (range(20), theirs)):
        predicted[list(wrong)] = (labels[list(wrong)] + 1) % 3
    gain = paired_tests.gain("top1", labels, ours, theirs, 4, None, 0.0, 0.05)
    flips = intervals.wilson(2, 180)
    assert numbers == pytest.approx(
        {
            "top1_challenger": 173 / 180, "top1_champion": 160 / 180, "gain": 13 / 180, "gain_low": gain.low,
            "gain_high": gain.high, "p": difference(15, 2, 180, 0.0, 0.05).p, "gain_confidence": 0.9,
            "ece_challenger": 0.0, "ece_champion": 0.0, "log_loss_champion": -math.log(0.9), "max_log_loss_rise": 0.0,
            "log_loss_rise_low": 0.0, "log_loss_rise_high": 0.0,
            "newly_wrong": 2 / 180, "newly_wrong_low": flips.low, "newly_wrong_high": flips.high,
        }
    )  # fmt: skip


@pytest.mark.parametrize(("bound", "verdict"), [(None, "info"), (0.2, "pass"), (0.05, "fail")])
def test_answers_that_are_newly_wrong_may_refuse_a_better_model(bound: float | None, verdict: str) -> None:
    challenger, champion = judged("7", range(60, 80)), judged("5", range(60))  # 20 of 180 newly wrong, 60 newly right
    found = decision(challenger, champion, max_negative_flips=bound, max_class_drop=1.0)
    check = next(check for check in found.checks if check.name == "newly wrong")
    low = intervals.wilson(20, 180).low
    assert (check.verdict, found.promoted) == (verdict, verdict != "fail")
    assert check.value.startswith("11.1 % (")
    assert check.bound == ("no bound" if bound is None else f"interval not above {100 * bound:.1f} %")
    if verdict == "fail":
        assert f"at least {100 * low:.1f} % of the images were right and are wrong now" in found.sentence


def test_a_share_that_chance_may_give_refuses_nothing() -> None:
    found = decision(judged("7", [60]), judged("5", range(20)), max_negative_flips=0.002)
    assert next(check for check in found.checks if check.name == "newly wrong").verdict == "pass"  # 1 of 180


def test_images_on_which_nothing_has_changed_are_counted_and_some_of_them_kept() -> None:
    confidence = {i: 0.5 + i / 1000 for i in range(180)}
    found = decision(answering(judged("7", range(5)), confidence=confidence), judged("5", range(20)))
    assert (found.both_right.total, found.both_wrong.total) == (160, 5)
    assert [image.path for image in found.both_wrong.least_sure] == [
        f"test/{['ant', 'bee', 'cat'][i % 3]}/{i:03}.png" for i in range(5)
    ]
    assert len(found.both_right.least_sure) == 24
    assert found.both_right.least_sure[0].path == "test/cat/020.png"


def test_a_worse_model_is_refused() -> None:
    found = decision(CHAMPION, BETTER)
    assert not found.promoted
    assert failed(found) == ["gain in top-1"]
    assert found.sentence.startswith(
        "Version 5 does not replace version 7: its top-1 is lower by 8.3 points (between −"
    )
    assert "it gets 0 right that version 7 got wrong, and 15 wrong that version 7 got right" in found.sentence
    found = decision(replace(CHAMPION, megabytes=9.0), BETTER)
    assert found.sentence.endswith("; one more check fails.")
    found = decision(replace(CHAMPION, megabytes=9.0, latency_ms=9.0), BETTER)
    assert found.sentence.endswith("; 2 more checks fail.")


def test_a_gain_that_may_be_chance_is_refused() -> None:
    found = decision(judged("7", [*range(17), 60]))
    assert failed(found) == ["gain in top-1"]
    gain = difference(3, 1, 180, 0.0, 0.05)
    range_ = f"between {points(gain.low)} and {points(gain.high)}; p = {gain.p:.3f}"
    assert f"the gain of 1.1 points in top-1 may be chance ({range_}), and about " in found.sentence
    assert "more test images would settle it if this is the true difference" in found.sentence


CALIBRATED_BADLY = answering(
    BETTER, confidence=dict.fromkeys(range(180), 0.5), probability_of_label=dict.fromkeys(range(180), 0.5)
)


@pytest.mark.parametrize(
    ("challenger", "bounds", "name", "expected"),
    [
        (BETTER, {"margin": 0.06}, "gain in top-1", "gain of 8.3 points in top-1 may be less than the 6.0 asked for"),
        (BETTER, {"significance": 1e-6}, "gain in top-1", "The gain of 8.3 points in top-1 may be chance"),
        (BETTER, {"max_class_drop": 0.0}, None, ""),
        (CALIBRATED_BADLY, {}, "log loss", "log loss 0.105 to 0.693, a rise of at least 0.588"),
        (replace(BETTER, parity=2e-4), {}, "parity of the ONNX file", "differ by up to 0.0002 of the largest"),
        (replace(BETTER, parity=None), {}, "parity of the ONNX file", "It is not known whether"),
        (replace(BETTER, parity=math.nan), {}, "parity of the ONNX file", "It is not known whether"),
        (replace(BETTER, latency_ms=1.6), {}, "latency", "1.60 times the champion's (1.00 to 1.60 ms an image)"),
        (replace(BETTER, latency_ms=math.nan), {}, "latency", "could not be compared"),
        (replace(BETTER, latency_ms=0.0), {}, "latency", "could not be compared"),
        (replace(BETTER, megabytes=3.2), {}, "size", "1.60 times the champion's (2.00 to 3.20 MB)"),
    ],
)  # fmt: skip
def test_each_bound_alone_refuses(challenger: Side, bounds: dict[str, Any], name: str | None, expected: str) -> None:
    found = decision(challenger, **bounds)
    assert failed(found) == ([name] if name else [])
    assert found.promoted == (name is None)
    if name:
        assert expected in reason(found, name)
        assert reason(found, name)[1:].removesuffix(".") in found.sentence


@pytest.mark.parametrize(
    "challenger",
    [replace(BETTER, parity=1e-4), replace(BETTER, latency_ms=1.5), replace(BETTER, megabytes=3.0)],
)
def test_what_reaches_its_bound_passes(challenger: Side) -> None:
    assert decision(challenger).promoted


@pytest.mark.parametrize(
    ("challenger", "champion", "bounds"),
    [
        (CALIBRATED_BADLY, CHAMPION, {"max_log_loss_rise": 0.6}),
        (replace(BETTER, parity=2e-4), CHAMPION, {"parity_tolerance": 1e-3}),
        (replace(BETTER, parity=2e-4), None, {"parity_tolerance": 1e-3}),
        (replace(BETTER, latency_ms=1.6), CHAMPION, {"max_latency_ratio": 2.0}),
        (replace(BETTER, megabytes=3.2), CHAMPION, {"max_size_ratio": 2.0}),
    ],
)
def test_a_wider_bound_lets_the_same_model_pass(
    challenger: Side, champion: Side | None, bounds: dict[str, float]
) -> None:
    assert not decision(challenger, champion).promoted
    assert decision(challenger, champion, **bounds).promoted


def with_seven_ants_lost(**bounds: Any) -> Decision:
    """26 bees and cats are won, and seven of 60 ants lost: p = 3/128 for this class among three."""
    return decision(judged("7", [*range(0, 40, 3), *range(60, 81, 3)]), judged("5", range(40)), **bounds)


def test_a_fall_in_a_class_that_is_not_shown_refuses_nothing() -> None:
    # Four ants are lost and none is won: 6.7 points, but p = 1/16 for one class, 3/16 for three.
    found = decision(judged("7", [*range(0, 20, 3), *range(60, 72, 3)]))
    assert found.promoted
    check = next(check for check in found.checks if check.name == "loss in a class")
    assert (check.verdict, check.value) == ("info", "6.7 points (ant)")
    assert failed(with_seven_ants_lost(significance=3 / 128 + 1e-9)) == ["loss in a class"]
    assert failed(with_seven_ants_lost(significance=3 / 128)) == []


def test_a_class_may_fall_to_the_bound_and_not_below() -> None:
    assert failed(with_seven_ants_lost(max_class_drop=7 / 60)) == []
    assert failed(with_seven_ants_lost(max_class_drop=6.9 / 60)) == ["loss in a class"]
    assert reason(with_seven_ants_lost(), "loss in a class") == (
        "In the class ant its top-1 falls by 11.7 points "
        "(76.7 % to 65.0 % of 60 images; that it falls at all: p = 0.023, corrected for 3 classes)."
    )


def test_classes_of_few_images_are_not_judged_alone() -> None:
    found = with_seven_ants_lost(min_class_images=61)
    assert failed(found) == []
    check = next(check for check in found.checks if check.name == "loss in a class")
    assert (check.verdict, check.bound) == (
        "warn",
        "no fall above 5.0 points that is more than chance (from 61 images on)",
    )
    assert failed(with_seven_ants_lost(min_class_images=60)) == ["loss in a class"]


def test_p_must_lie_below_the_significance() -> None:
    two_won = judged("7", range(18))
    p = decision(two_won, significance=0.05).numbers["p"]
    assert p > 0.05
    for level in (0.05, 0.2):
        found = decision(two_won, significance=level)
        assert failed(found) == ([] if found.numbers["p"] < level else ["gain in top-1"])
        assert (found.numbers["gain_low"] > 0) == (found.numbers["p"] < level)
    assert found.promoted


def test_looks_are_told_and_refuse_nothing() -> None:
    found = decision(earlier_looks=30)
    assert found.promoted
    assert (found.checks[-1].name, found.checks[-1].verdict) == ("looks at these test images", "warn")
    assert "of about 40.1 %" in reason(found, "looks at these test images")
    stricter = decision(earlier_looks=30, significance=0.01)
    assert "of about 13.4 %" in reason(stricter, "looks at these test images")
    not_tested = decision(earlier_looks=30, margin=-0.1)
    assert reason(not_tested, "looks at these test images") == (
        "Including this one, the gate has compared 31 versions with a champion on these test images."
    )


def test_with_a_negative_margin_a_model_may_be_a_little_worse() -> None:
    slightly = judged("7", [*range(1, 20), 30])
    assert decision(slightly, margin=-0.03).promoted
    found = decision(slightly, margin=-0.005)
    assert failed(found) == ["gain in top-1"]
    assert "may be worse by more than 0.5 points" in found.sentence


def test_the_chosen_metric_decides() -> None:
    rare = dict.fromkeys(range(0, 180, 18), "dog")  # ten ants are dogs now
    classes = ("ant", "bee", "cat", "dog")
    champion = answering(judged("5", (), classes=classes), label=rare)
    right = answering(judged("7", (), classes=classes), label=rare, predicted=rare)
    worse = answering(right, predicted=dict.fromkeys((1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16), "ant"))
    assert failed(decision(worse, champion, max_class_drop=0.5)) == ["gain in top-1"]
    found = decision(worse, champion, max_class_drop=0.5, metric="balanced_accuracy")
    assert found.promoted
    assert found.numbers["balanced_accuracy_champion"] == pytest.approx(0.75)
    test = paired_tests.gain("balanced_accuracy", *_indices(worse, champion), 5, None, 0.0, 0.05)
    assert (found.numbers["p"], found.numbers["gain_low"]) == (test.p, test.low)
    back = decision(champion, worse, max_class_drop=1.0, metric="balanced_accuracy")
    assert failed(back) == ["gain in balanced accuracy"]
    promoted = decision(right, champion, metric="macro_f1")
    assert promoted.sentence.endswith("(macro-F1 72.7 % to 100.0 %).")


def _indices(challenger: Side, champion: Side) -> list[NDArray[np.int64]]:
    """Indices of the true classes and of both models' answers."""
    index = {label: number for number, label in enumerate(challenger.classes)}
    columns = [challenger.predictions["label"], challenger.predictions["predicted"], champion.predictions["predicted"]]
    return [np.array([index[label] for label in column]) for column in columns]


def test_another_wrong_answer_tells_models_apart_in_macro_f1_alone() -> None:
    # The champion takes ants for bees and bees for cats; the challenger takes all these for cats.
    challenger = answering(replace(CHAMPION, version="7"), predicted=dict.fromkeys(range(0, 20, 3), "cat"))
    found = decision(challenger, metric="macro_f1")
    assert "changed answers" not in failed(found)
    assert found.numbers["gain"] == pytest.approx(
        found.numbers["macro_f1_challenger"] - found.numbers["macro_f1_champion"]
    )
    assert found.numbers["gain"] != 0
    for metric in ("top1", "balanced_accuracy"):
        assert failed(decision(challenger, metric=metric)) == ["changed answers"]


def test_models_that_answer_alike_are_refused() -> None:
    found = decision(replace(CHAMPION, version="7"))
    assert failed(found) == ["changed answers"]
    assert found.sentence == (
        "Version 7 does not replace version 5: it gives the champion's answer to every one of 180 test images."
    )
    assert failed(decision(replace(CHAMPION, version="7"), metric="macro_f1")) == ["changed answers"]
    otherwise = answering(replace(CHAMPION, version="7"), predicted={0: "cat"})  # wrong as well
    found = decision(otherwise)
    assert failed(found) == ["changed answers"]
    assert "it is right or wrong exactly as the champion is on every one of 180 test images" in found.sentence


def test_one_changed_answer_tells_models_apart() -> None:
    for challenger in (judged("7", range(19)), judged("7", range(21))):
        assert "changed answers" not in failed(decision(challenger))


def test_models_that_answer_alike_pass_where_the_challenger_need_not_be_better() -> None:
    found = decision(replace(CHAMPION, version="7"), margin=-0.1)
    assert found.promoted
    assert found.sentence == (
        "Version 7 replaces version 5: it is right and wrong on the same test images (top-1 88.9 % to 88.9 %)."
    )
    width = difference(0, 0, 180, -0.1, 0.05)
    assert width.low < 0 < width.high
    found_numbers = [found.numbers[key] for key in ("gain", "gain_low", "gain_high", "p")]
    assert found_numbers == [0, width.low, width.high, width.p]


def test_few_images_without_a_change_do_not_show_that_a_model_is_no_worse() -> None:
    few = judged("5", range(2), images=40)
    found = decision(replace(few, version="7"), few, margin=-0.01)
    assert failed(found) == ["gain in top-1"]
    assert "may be worse by more than 1.0 points" in found.sentence


def test_images_that_either_has_seen_are_left_out_and_counted() -> None:
    found = decision(replace(BETTER, seen=sha256(*range(10, 20), 500)), replace(CHAMPION, seen=sha256(19, 20, 21)))
    assert found.images == 168
    counts = found.left_out
    assert (counts.seen_by_challenger, counts.seen_by_champion, counts.seen, counts.other_classes) == (10, 3, 12, 0)
    assert {int(image.path[-7:-4]) for image in found.newly_right} == {5, 6, 7, 8, 9}


def test_without_unseen_images_nothing_is_promoted() -> None:
    found = decision(replace(BETTER, seen=sha256(*range(180))))
    assert failed(found) == ["test images"]
    assert found.sentence == (
        "Version 7 does not replace version 5: there is no test image that neither model has seen and whose class both "
        "know."
    )
    assert found.numbers == {}
    json.dumps(found.to_dict(), allow_nan=False)
    assert decision(judged("7", (), images=0), judged("5", (), images=0)).promoted is False


@pytest.mark.parametrize(("images", "verdict"), [(FEW, "pass"), (FEW - 1, "warn")])
def test_few_images_warn(images: int, verdict: str) -> None:
    found = decision(judged("7", (), images), judged("5", range(30), images))
    assert found.checks[0].verdict == verdict
    assert found.promoted


def test_a_class_that_the_challenger_lost_refuses_it() -> None:
    found = decision(replace(BETTER, classes=("ant", "bee")))
    assert failed(found) == ["classes"]
    assert reason(found, "classes").startswith("It does not know the class cat, which the champion knows. If that is")
    assert (found.dropped, found.shared, found.images, found.left_out.other_classes) == (
        ("cat",),
        ("ant", "bee"),
        120,
        60,
    )


def without_cat(champion: Side) -> Side:
    """The same model before the class cat was added: it takes cats for ants."""
    known = replace(champion, classes=("bee", "ant"))
    return answering(known, predicted=dict.fromkeys(range(2, 180, 3), "ant"))


def test_a_class_is_added_though_nothing_is_gained_on_the_others() -> None:
    """As reported: the new class was known perfectly, one photo of the others was lost, and it was refused."""
    found = decision(judged("7", range(1)), without_cat(judged("5", ())))
    assert found.promoted
    assert found.sentence == (
        "Version 7 replaces version 5: it also knows the class cat (60 of 60 test images right); of 120 test images it "
        "gets 0 right that version 5 got wrong, and 1 wrong that version 5 got right (top-1 100.0 % to 99.2 %)."
    )
    (new,) = found.new
    top1 = intervals.wilson(60, 60)
    assert (new.label, new.images, new.top1, new.low, new.high) == ("cat", 60, top1.value, top1.low, top1.high)
    assert (found.images, found.margin) == (120, -0.05)
    assert not any(image.label == "cat" for image in (*found.newly_right, *found.newly_wrong))
    assert next(check.verdict for check in found.checks if check.name == "gain in top-1") == "pass"


@pytest.mark.parametrize(
    ("wrong", "bounds", "why"),
    [
        # 6 of the 120 images of the shared classes: a fall of 5 points cannot be excluded.
        ((0, 1, 3, 4, 6, 7), {}, ["gain in top-1"]),
        ((0,), {"max_shared_drop": 0.0}, ["gain in top-1"]),  # the rule of unchanged classes
        (range(2, 180, 3), {}, ["added classes"]),  # every cat is taken for an ant
        (range(2, 2 + 3 * 40, 3), {}, ["added classes"]),  # 20 of 60
    ],
)
def test_a_class_is_not_added_at_any_price(wrong: Collection[int], bounds: dict[str, float], why: list[str]) -> None:
    found = decision(judged("7", wrong), without_cat(judged("5", ())), **bounds)
    assert not found.promoted
    assert failed(found) == why
    assert found.sentence.startswith("Version 7 does not replace version 5: it also knows the class cat (")


def test_an_added_class_without_test_images_is_refused() -> None:
    found = decision(judged("7", (), classes=("aphid", "ant", "bee", "cat")), without_cat(judged("5", ())))
    assert [(entry.label, entry.images) for entry in found.new] == [("aphid", 0), ("cat", 60)]
    assert failed(found) == ["added classes"]
    assert "no unseen test image of the class aphid" in reason(found, "added classes")


def test_a_class_may_be_removed_if_params_say_so() -> None:
    smaller = replace(CHAMPION, version="7", classes=("ant", "bee"))
    assert failed(decision(smaller)) == ["classes", "changed answers"]
    assert decision(smaller, removed_classes=("cat",)).promoted
    assert not decision(smaller, removed_classes=("bee",)).promoted


def test_an_answer_outside_the_shared_classes_is_wrong() -> None:
    challenger = answering(
        replace(BETTER, classes=("ant", "bee", "cat", "dog")), predicted=dict.fromkeys(range(60, 75), "dog")
    )
    found = decision(challenger)
    assert (len(found.newly_right), len(found.newly_wrong)) == (15, 15)
    assert found.new[0].images == 0
    assert found.new[0].top1 is None
    assert {image.challenger for image in found.newly_wrong} == {"dog"}
    assert found.numbers["gain"] == 0


def test_a_first_model_needs_unseen_images_parity_and_more_than_chance() -> None:
    found = decision(replace(BETTER, latency_ms=math.nan, megabytes=900.0, seen=sha256(0)), None)
    assert found.promoted
    assert [check.name for check in found.checks] == ["test images", "top-1 above chance", "parity of the ONNX file"]
    top1 = intervals.wilson(175, 179)
    assert found.sentence == (
        "Version 7 becomes the first champion: there was nothing to compare it with; of 179 test images it gets "
        f"97.8 % right (between {100 * top1.low:.1f} % and {100 * top1.high:.1f} %)."
    )
    assert found.numbers == {
        "top1_challenger": top1.value, "top1_low": top1.low, "top1_high": top1.high, "chance": 60 / 179,
    }  # fmt: skip
    assert (found.champion, found.new, found.dropped, found.changes) == (None, (), (), ())
    assert (found.newly_right, found.newly_wrong) == ((), ())
    assert failed(decision(replace(BETTER, parity=None), None)) == ["parity of the ONNX file"]
    refused = decision(replace(BETTER, seen=sha256(*range(180))), None)
    assert refused.sentence == (
        "Version 7 does not become the first champion: there is no test image that it has not seen."
    )
    assert refused.numbers == {}


@pytest.mark.parametrize(("right", "promoted"), [(60, False), (72, False), (73, True)])
def test_the_whole_interval_of_a_first_model_lies_above_chance(right: int, promoted: bool) -> None:
    found = decision(judged("7", range(right, 180)), None)
    assert found.promoted == promoted
    assert failed(found) == ([] if promoted else ["top-1 above chance"])
    if not promoted:
        assert found.sentence == (
            "Version 7 does not become the first champion: it is not shown to be better than always answering ant, "
            "which gets 33.3 % in top-1."
        )


def test_chance_is_that_of_the_chosen_metric_and_the_most_frequent_class() -> None:
    bees = dict.fromkeys((i for i in range(180) if i % 3 == 0 and i < 150), "bee")  # 10 ants, 110 bees, 60 cats
    constant = answering(judged("7", ()), label=bees, predicted=dict.fromkeys(range(180), "bee"))
    expected = {"top1": 110 / 180, "balanced_accuracy": 1 / 3, "macro_f1": 2 * 110 / (110 + 180) / 3}
    for metric, chance in expected.items():
        found = decision(constant, None, metric=metric)
        assert found.numbers["chance"] == pytest.approx(chance)
        assert found.numbers[f"{metric}_challenger"] == pytest.approx(chance)
        assert "always answering bee" in found.sentence
        assert not found.promoted
    partly = answering(constant, predicted=dict.fromkeys(range(2, 180, 3), "cat"))  # cats and bees right, no ant
    found = decision(partly, None, metric="macro_f1")
    labels, predicted, _ = _indices(partly, partly)
    score = intervals.interval("macro_f1", labels, predicted, 4)
    assert found.promoted
    assert (found.numbers["macro_f1_low"], found.numbers["macro_f1_high"]) == (score.low, score.high)


@pytest.mark.parametrize("metric", ["top1", "balanced_accuracy"])
def test_a_few_images_all_right_do_not_show_more_than_chance(metric: str) -> None:
    # The bootstrap alone would be sure: every resample is all right.
    assert failed(decision(judged("7", (), 3), None, metric=metric)) == []
    assert failed(decision(judged("7", (), 2), None, metric=metric)) == [f"{NAMES[metric]} above chance"]
    wrong = decision(judged("7", range(180)), None, metric=metric)
    assert not wrong.promoted
    assert wrong.numbers[f"{metric}_high"] == intervals.wilson(0, 180).high


def test_images_are_matched_by_content_not_by_order_or_name() -> None:
    table = CHAMPION.predictions.sample(frac=1, random_state=1, ignore_index=True)
    table["path"] = [f"test/elsewhere/{i}.png" for i in range(len(table))]
    assert decision(BETTER, replace(CHAMPION, predictions=table)).to_dict() == decision().to_dict()


def test_the_order_of_the_rows_changes_no_digit() -> None:
    challenger = answering(BETTER, confidence=dict(enumerate(0.94 + 0.05 * np.random.default_rng(0).random(180))))
    mixed = [
        replace(model, predictions=model.predictions.sample(frac=1, random_state=seed))
        for seed, model in enumerate((challenger, CHAMPION))
    ]
    assert decision(*mixed) == decision(challenger)
    assert pair(*mixed).rows["path"].is_monotonic_increasing


def test_an_image_that_lies_there_twice_counts_twice() -> None:
    def doubled(model: Side) -> Side:
        again = model.predictions.assign(path=model.predictions["path"] + ".copy.png")
        return replace(model, predictions=pd.concat([model.predictions, again]))

    found = decision(doubled(BETTER), doubled(CHAMPION))
    assert (found.images, len(found.newly_right)) == (360, 30)


def test_models_judged_on_different_images_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different test images"):
        decision(BETTER, judged("5", (), images=179))
    with pytest.raises(ValueError, match="different test images"):
        decision(answering(BETTER, label={0: "bee"}))


def test_changed_images_come_with_the_challengers_most_confident_first() -> None:
    challenger = answering(judged("7", [*range(18), 30, 31]), confidence={18: 0.3, 19: 0.7, 30: 0.2, 31: 0.9})
    found = decision(challenger)
    assert [(i.path, i.label, i.champion, i.challenger, i.confidence) for i in found.newly_right] == [
        ("test/bee/019.png", "bee", "cat", "bee", 0.7), ("test/ant/018.png", "ant", "bee", "ant", 0.3),
    ]  # fmt: skip
    assert [(image.path, image.challenger) for image in found.newly_wrong] == [
        ("test/bee/031.png", "cat"), ("test/ant/030.png", "bee"),
    ]  # fmt: skip


def test_calibration_is_judged_by_the_compared_images_alone() -> None:
    confidence = {i: 0.99 if i % 2 else 0.7 for i in range(180)}
    numbers = decision(replace(answering(BETTER, confidence=confidence), seen=sha256(*range(1, 90, 2)))).numbers
    left = [i for i in range(180) if i >= 90 or i % 2 == 0]
    expected = ece(np.array([confidence[i] for i in left]), np.array([i >= 5 for i in left]))
    assert numbers["ece_challenger"] == pytest.approx(expected)


def in_groups(model: Side, size: int) -> Side:
    """The same model with a recorded group: so many images that follow each other are in one."""
    groups = [f"g{number // size:02}" for number in range(len(model.predictions))]
    return replace(model, predictions=model.predictions.assign(group=groups))


def test_groups_are_what_counts_as_independent() -> None:
    alone, grouped = decision(), decision(in_groups(BETTER, 15))  # 15 newly right: images 5 to 19, of two groups
    assert alone.promoted
    assert failed(grouped) == ["gain in top-1"]
    assert grouped.numbers["p"] > 0.2
    assert grouped.numbers["gain_low"] < 0 < alone.numbers["gain_low"]
    assert "They count as 12 independent groups (`data.group_pattern`)." in reason(grouped, "test images")
    assert "They count as independent of each other" in reason(alone, "test images")
    assert decision(in_groups(BETTER, 1)).numbers == alone.numbers
    assert decision(BETTER, in_groups(CHAMPION, 15)).numbers == alone.numbers, "the challenger's records count"


def test_a_first_models_interval_takes_groups_into_account() -> None:
    alone, grouped = decision(BETTER, None), decision(in_groups(judged("7", range(10)), 10), None)
    assert grouped.numbers["top1_low"] < intervals.wilson(170, 180).low < alone.numbers["top1_low"]
    assert "18 independent groups" in reason(grouped, "test images")


def test_a_class_that_falls_within_one_group_is_not_shown_to_fall() -> None:
    ants = [*range(60, 81, 3)]
    challenger = judged("7", [*range(0, 40, 3), *ants])
    assert failed(decision(challenger, judged("5", range(40)))) == ["loss in a class"]
    groups = ["lost" if number in ants else f"{number}" for number in range(180)]
    together = replace(challenger, predictions=challenger.predictions.assign(group=groups))
    assert failed(decision(together, judged("5", range(40)))) == []


@pytest.mark.parametrize(("sharper", "refused"), [(2.5, True), (1.0, False)])
def test_probabilities_that_are_too_sure_refuse(sharper: float, refused: bool) -> None:
    numbers = np.random.default_rng(0)
    logits = numbers.normal(2.5, 1.5, 180)
    right = numbers.random(180) < 1 / (1 + np.exp(-logits))
    wrong = [int(i) for i in np.flatnonzero(~right)]
    signs = np.where(right, 1, -1)

    def sure(version: str, scale: float, wrong: list[int]) -> Side:
        probability = dict(enumerate(1 / (1 + np.exp(-signs * scale * logits))))
        return answering(judged(version, wrong), probability_of_label=probability)

    found = decision(sure("7", sharper, wrong[8:]), sure("5", 1.0, wrong))
    assert ("log loss" in failed(found)) == refused
