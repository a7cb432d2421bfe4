"""The gate's checks, one function each: from figures and a bound to a verdict with its reason.

The decision's sentence quotes the reason of the first check that fails, so a reason begins with a word that can stand
in lower case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from adaptformer.evaluation.intervals import Interval
from adaptformer.gate.class_changes import ClassChange, NewClass
from adaptformer.gate.decision import Check, Verdict
from adaptformer.gate.pairing import Pairs
from adaptformer.gate.wording import between, chance, counted, named, percent, points, unsigned
from adaptformer.scores import NAMES, Metric

FEW = 100
"""With fewer compared images there is a warning."""

MANY_LOOKS = 10
"""From this many comparisons on the same test images on there is a warning."""


def images(count: int, *, champion: bool) -> Check:
    """Fail without images to judge by, warn if there are few."""
    unseen = "that neither model has seen and whose class both know" if champion else "that it has not seen"
    verdict: Verdict = "pass" if count >= FEW else "warn" if count else "fail"
    reason = {
        "pass": f"It is judged by images {unseen}.",
        "warn": f"Only {counted(count, 'image')} can be judged by, so only large differences stand out from chance.",
        "fail": f"There is no test image {unseen}.",
    }[verdict]
    return Check("test images", verdict, f"{count:,}", f"at least 1, better {FEW}", reason)


def looks(earlier: int, significance: float, margin: float) -> Check:
    """Say how many comparisons these test images have served for, this one included; warn if there are many."""
    count = earlier + 1
    verdict: Verdict = "warn" if count >= MANY_LOOKS else "info"
    reason = f"With this one, {counted(count, 'version')} met a champion on these test images"
    if margin >= 0:
        by_chance = percent(1 - (1 - significance) ** count)
        reason += f"; if none were better, at least one would still pass with a chance of up to {by_chance}"
    return Check("looks at these test images", verdict, f"{count:,}", f"better below {MANY_LOOKS}", f"{reason}.")


def above_chance(metric: Metric, found: Interval, constant: float, label: str) -> Check:
    """Fail unless a first model is shown to score above `constant`, the score of always answering the class `label`."""
    name = NAMES[metric]
    value = f"{percent(found.value)} ({percent(found.low)} to {percent(found.high)})"
    passed = found.low > constant
    reason = (
        f"Its {name} is higher than always answering {label} would get."
        if passed
        else f"It is not shown to be better than always answering {label}, which gets {percent(constant)} in {name}."
    )
    return Check(f"{name} above chance", _verdict(passed), value, f"interval above {percent(constant)}", reason)


def classes(pairs: Pairs, new: Sequence[NewClass]) -> Check:
    """Fail if the champion knows a class that the challenger does not; note new classes."""
    if pairs.dropped:
        reason = f"It does not know {named(pairs.dropped)}, which the champion knows."
        return Check("classes", "fail", f"{len(pairs.dropped):,} lost", "none lost", reason)
    if new:
        tested = sum(entry.images for entry in new)
        reason = (
            f"It also knows {named(pairs.new)}; their {counted(tested, 'test image')} are reported apart."
            if tested
            else f"It also knows {named(pairs.new)}, of which there is no unseen test image."
        )
        return Check("classes", "info", f"{len(new):,} new", "none lost", reason)
    return Check("classes", "pass", f"{len(pairs.shared):,} shared", "none lost", "Both models know the same classes.")


def answers(pairs: Pairs, gained: int, lost: int, margin: float, *, differ: bool) -> Check:
    """Fail if the metric cannot tell the answers apart (they do not `differ`) and the challenger must be better."""
    value = f"{gained:,} newly right, {lost:,} newly wrong"
    if differ:
        return Check("changed answers", "pass", value, "at least 1", "The models do not answer alike.")
    same = bool((pairs.predicted("challenger") == pairs.predicted("champion")).all())
    what = "gives the champion's answer to" if same else "is right and wrong where the champion is, on"
    reason = f"It {what} every one of {counted(len(pairs.rows), 'test image')}."
    bound = "at least 1" if margin >= 0 else "none"
    return Check("changed answers", "fail" if margin >= 0 else "info", value, bound, reason)


def gain(metric: Metric, found: Interval, margin: float) -> Check:
    """Fail unless the whole interval of the gain is above the margin."""
    name, range_ = NAMES[metric], between(found.low, found.high)
    size = f"{unsigned(found.value)} points"
    if found.low > margin:
        reason = (
            f"The gain of {size} in {name} is more than chance ({range_})."
            if margin >= 0
            else f"Its {name} is not worse by more than {unsigned(margin)} points ({range_})."
        )
    elif found.high < 0:
        reason = f"Its {name} is lower by {size} ({range_})."
    elif margin < 0:
        reason = f"Its {name} may be worse by more than {unsigned(margin)} points ({range_})."
    elif found.value <= 0:
        reason = f"It shows no gain in {name} ({range_} points)."
    elif found.low > 0:
        reason = f"The gain of {size} in {name} may be less than the {unsigned(margin)} asked for ({range_})."
    else:
        reason = f"The gain of {size} in {name} may be chance ({range_})."
    value = f"{points(found.value)} points ({points(found.low)} to {points(found.high)})"
    return Check(f"gain in {name}", _verdict(found.low > margin), value, f"interval above {points(margin)}", reason)


def name_of_test(metric: Metric) -> str:
    """Return the name of the test that is made of a gain in a metric."""
    return "McNemar's test on top-1" if metric == "top1" else f"permutation test on {NAMES[metric]}"


def significance(metric: Metric, gained: int, lost: int, p: float, bound: float, margin: float) -> Check:
    """Fail unless the p-value is below the bound; with a negative margin only report it."""
    name = name_of_test(metric)
    if metric == "top1":
        found = f"It has {gained:,} of the {gained + lost:,} images that only one model has right"
        rarely, easily = f"{found}, which chance alone would rarely give.", f"{found}, which chance alone may give."
    else:
        swapping, so_large = "Swapping the two models' answers at random", f"give so large a gain in {NAMES[metric]}."
        rarely, easily = f"{swapping} would rarely {so_large}", f"{swapping} may {so_large}"
    if margin < 0:
        return Check(name, "info", chance(p), "none", "It need not be significant, since the margin is negative.")
    return Check(name, _verdict(p < bound), chance(p), f"p < {bound:g}", rarely if p < bound else easily)


def class_falls(changes: Sequence[ClassChange], bound: float, support: int, significance: float) -> Check:
    """Fail if a class falls by more than `bound` and the fall is shown; `changes` come with the largest fall first.

    A fall is shown if its p-value, adjusted for all tested classes, is below `significance`.
    """
    name = "loss in a class"
    limit = f"none shown above {unsigned(bound)} points (from {counted(support, 'image')} on)"
    tested = [(change, change.p) for change in changes if change.p is not None]
    if not tested:
        return Check(name, "warn", "none tested", limit, f"No class has the {support:,} test images that a test needs.")
    among = f"{counted(len(tested), 'class')} with enough images"
    too_far = [(change, p) for change, p in tested if -change.change > bound]
    shown = [(change, p) for change, p in too_far if p < significance]
    if not too_far:
        return Check(name, "pass", _fall(tested[0][0]), limit, f"None of {among} falls by more than the bound.")
    if not shown:
        far = f"{len(too_far):,} {_falls(len(too_far))} by more than the bound"
        reason = f"Of {among}, {far}, but chance alone may give that."
        return Check(name, "info", _fall(tested[0][0]), limit, reason)
    (worst, p), more = shown[0], len(shown) - 1
    others = f", and {counted(more, 'more class')} {_falls(more)} too far" if more else ""
    reason = (
        f"In the class {worst.label} its top-1 falls by {unsigned(worst.change)} points "
        f"({percent(worst.champion)} to {percent(worst.challenger)} of {counted(worst.images, 'image')}; "
        f"{chance(p)}, corrected for {counted(len(tested), 'class')}){others}."
    )
    return Check(name, "fail", _fall(worst), limit, reason)


def newly_wrong(found: Interval, bound: float | None) -> Check:
    """Fail if the share of images that only the champion has right is shown to be above the bound; None: report it."""
    name, value = "newly wrong", f"{percent(found.value)} ({percent(found.low)} to {percent(found.high)})"
    if bound is None:
        reason = f"Of all images {percent(found.value)} were right and are wrong now."
        return Check(name, "info", value, "none", reason)
    passed = found.low <= bound
    reason = (
        f"It is not shown that more than {percent(bound)} of the images were right and are wrong now."
        if passed
        else f"At least {percent(found.low)} of the images were right and are wrong now."
    )
    return Check(name, _verdict(passed), value, f"interval not above {percent(bound)}", reason)


def _falls(number: int) -> str:
    return "falls" if number == 1 else "fall"


def _fall(worst: ClassChange) -> str:
    return f"{unsigned(worst.change)} points ({worst.label})" if worst.change < 0 else "0.0 points"


def calibration(challenger: float, champion: float, bound: float) -> Check:
    """Fail if the expected calibration error rises by more than the bound."""
    rise = challenger - champion
    moved = f"from {percent(champion)} to {percent(challenger)}"
    reason = (
        f"Its probabilities can be trusted as much as before (calibration error {moved})."
        if rise <= bound
        else f"Its probabilities can be trusted less: their calibration error rises {moved}."
    )
    return Check(
        "calibration error", _verdict(rise <= bound), f"{points(rise)} points", f"at most {points(bound)}", reason
    )


def parity(found: float | None, bound: float) -> Check:
    """Fail if the ONNX file's logits differ too much from the trained model's, or if this is unknown."""
    name, limit = "parity of the ONNX file", f"at most {bound:g}"
    if found is None or not math.isfinite(found):
        reason = "It is not known whether its ONNX file answers as the trained model does."
        return Check(name, "fail", "unknown", limit, reason)
    reason = (
        "Its ONNX file answers as the trained model does."
        if found <= bound
        else f"Its ONNX file answers unlike the trained model: logits differ by up to {found:.2g} of the largest."
    )
    return Check(name, _verdict(found <= bound), f"{found:.2g}", limit, reason)


def ratio(name: str, challenger: float, champion: float, bound: float, unit: str) -> Check:
    """Fail if a cost of the challenger is too many times the champion's, or if one of them was not measured."""
    limit = f"at most {bound:g} times"
    if not (_measured(challenger) and _measured(champion)):
        return Check(name, "fail", "unknown", limit, f"Its {name} could not be compared with the champion's.")
    times = challenger / champion
    reason = f"Its {name} is {times:.2f} times the champion's ({champion:#.3g} to {challenger:#.3g} {unit})."
    return Check(name, _verdict(times <= bound), f"{times:.2f} times", limit, reason)


def _measured(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _verdict(passed: bool) -> Verdict:
    return "pass" if passed else "fail"
