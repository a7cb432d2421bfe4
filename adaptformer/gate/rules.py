"""The gate's checks, one function each: from figures and a bound to a verdict with its reason.

The decision's sentence quotes the reason of the first check that fails, so a reason begins with a word that may be
written in lower case.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from adaptformer.base.classification_scores import NAMES, Metric
from adaptformer.config.params import GateParams
from adaptformer.evaluation.intervals import Interval
from adaptformer.evaluation.power import by_chance, still_needed
from adaptformer.gate.class_changes import ClassChange, NewClass
from adaptformer.gate.decision import Check, Verdict
from adaptformer.gate.exact_difference import Gain
from adaptformer.gate.pairing import Pairs
from adaptformer.gate.wording import between, chance, counted, named, percent, points, unsigned

FEW = 100
"""With fewer compared images there is a warning."""

MANY_LOOKS = 10
"""With at least this many comparisons on the same test images there is a warning."""


def images(count: int, groups: int | None, *, champion: bool) -> Check:
    """Fail without images, warn if there are few; report what counts as independent: `groups`, or each image (None)."""
    unseen = "that neither model has seen and whose class both know" if champion else "that it has not seen"
    value = f"{count:,}" if groups is None else f"{count:,} in {counted(groups, 'group')}"
    independent = (
        "They count as independent of each other, since none share a group (`data.group_pattern`)."
        if groups is None
        else f"They count as {counted(groups, 'independent group')} (`data.group_pattern`)."
    )
    verdict: Verdict = "pass" if min(count, groups or count) >= FEW else "warn" if count else "fail"
    reason = {
        "pass": f"It is judged by images {unseen}. {independent}",
        "warn": f"With {counted(count, 'image')} only large differences stand out from chance. {independent}",
        "fail": f"There is no test image {unseen}.",
    }[verdict]
    return Check("test images", verdict, value, f"at least 1, better {FEW}", reason)


def looks(earlier: int, significance: float, margin: float) -> Check:
    """Report how many comparisons these test images have served for, this one included; warn if there are many."""
    count = earlier + 1
    verdict: Verdict = "warn" if count >= MANY_LOOKS else "info"
    reason = (
        f"Including this one, the gate has compared {counted(count, 'version')} with a champion on these test images"
    )
    if margin >= 0 and count > 1:
        reason += (
            f". Even if none of them is better, at least one passes with a probability of about "
            f"{percent(by_chance(count, significance))}, and the champion's figures on these images are then too high"
        )
    return Check("looks at these test images", verdict, f"{count:,}", f"better below {MANY_LOOKS}", f"{reason}.")


def above_chance(metric: Metric, score: Interval, constant: float, label: str) -> Check:
    """Fail unless a first model is shown to score above `constant`, the score of always answering the class `label`."""
    name = NAMES[metric]
    value = f"{percent(score.value)} ({percent(score.low)} to {percent(score.high)})"
    passed = score.low > constant
    reason = (
        f"Its {name} is higher than always answering {label} would get."
        if passed
        else f"It is not shown to be better than always answering {label}, which gets {percent(constant)} in {name}."
    )
    return Check(f"{name} above chance", _verdict(passed), value, f"interval above {percent(constant)}", reason)


def classes(pairs: Pairs, removed: Collection[str]) -> Check:
    """Fail if the challenger lacks a class of the champion that is not among the `removed` ones; note other changes."""
    missing = [label for label in pairs.dropped if label not in removed]
    bound = "none lost" if not removed else f"none lost but {', '.join(removed)}"
    if missing:
        reason = (
            f"It does not know {named(missing)}, which the champion knows. If that is intended, list what was removed "
            f"in `gate.removed_classes` and what was renamed in `gate.renamed_classes`."
        )
        return Check("classes", "fail", f"{len(missing):,} lost", bound, reason)
    changed = [f"also knows {named(pairs.new)}"] if pairs.new else []
    changed += [f"no longer knows {named(pairs.dropped)}, as `gate.removed_classes` allows"] if pairs.dropped else []
    if changed:
        value = ", ".join(
            f"{count:,} {word}" for count, word in ((len(pairs.new), "added"), (len(pairs.dropped), "removed")) if count
        )
        reason = (
            f"It {' and '.join(changed)}, so on the {counted(len(pairs.shared), 'shared class')} it only has to be "
            f"shown not to be worse by more than a margin (`gate.max_shared_drop`)."
        )
        return Check("classes", "info", value, bound, reason)
    return Check("classes", "pass", f"{len(pairs.shared):,} shared", bound, "Both models know the same classes.")


def added_classes(new: Sequence[NewClass], known: int, least: float) -> Check:
    """Fail if an added class is shown to be below `least` in top-1, or not to be above guessing among `known` classes.

    `new` has at least one class. The fewer test images a class has, the more of them must be right.
    """
    name, guessing = "added classes", 1 / known
    bound = f"each above {percent(guessing)}, none shown below {percent(least)}"
    untested = [entry.label for entry in new if not entry.images]
    tested = [(entry, entry.top1, entry.low, entry.high) for entry in new if entry.images]
    unclear = [entry for entry, _, low, _ in tested if low is None or low <= guessing]
    bad = [entry for entry, _, _, high in tested if high is None or high < least]
    value = "; ".join(right_of(entry) for entry in new[:3]) + (f"; {len(new) - 3:,} more" if len(new) > 3 else "")
    if untested:
        reason = f"There is no unseen test image of {named(untested)}, so nothing shows that it knows it."
    elif bad:
        reason = f"It is shown to get less than {percent(least)} right of {named([entry.label for entry in bad])}."
    elif unclear:
        labels = named([entry.label for entry in unclear])
        reason = f"It is not shown to know {labels} better than guessing would: more test images may show it."
    else:
        reason = "Of each added class it gets more right than guessing would, and none is shown to be below the bound."
    return Check(name, _verdict(not (untested or bad or unclear)), value, bound, reason)


def right_of(entry: NewClass) -> str:
    """Return how many test images of an added class are right: "cat: 7 of 7 (64.6 % to 100.0 %)"."""
    if entry.top1 is None or entry.low is None or entry.high is None:
        return f"{entry.label}: no test image"
    right = round(entry.top1 * entry.images)
    return f"{entry.label}: {right:,} of {entry.images:,} ({percent(entry.low)} to {percent(entry.high)})"


def answers(pairs: Pairs, gained: int, lost: int, margin: float, *, differ: bool) -> Check:
    """Fail if the metric cannot tell the answers apart (they do not `differ`) and the challenger must be better."""
    value = f"{gained:,} newly right, {lost:,} newly wrong"
    if differ:
        return Check("changed answers", "pass", value, "at least 1", "The models do not answer alike.")
    same = bool((pairs.predicted("challenger") == pairs.predicted("champion")).all())
    what = "gives the champion's answer to" if same else "is right or wrong exactly as the champion is on"
    reason = f"It {what} every one of {counted(len(pairs.rows), 'test image')}."
    bound = "at least 1" if margin >= 0 else "no bound"
    return Check("changed answers", "fail" if margin >= 0 else "info", value, bound, reason)


def gain(metric: Metric, difference: Gain, margin: float, images: int) -> Check:
    """Fail unless the test shows a gain above the margin; a refusal says how many more images would settle it."""
    name, p = NAMES[metric], chance(difference.p, difference.level)
    range_ = f"{between(difference.low, difference.high)}; {p}"
    size, shown = f"{unsigned(difference.value)} points", difference.p < difference.level
    if shown:
        reason = (
            f"The gain of {size} in {name} is more than chance ({range_})"
            if margin >= 0
            else f"Its {name} is not worse by more than {unsigned(margin)} points ({range_})"
        )
    elif difference.high < 0:
        reason = f"Its {name} is lower by {size} ({range_})"
    elif margin < 0:
        reason = f"Its {name} may be worse by more than {unsigned(margin)} points ({range_})"
    elif difference.value <= 0:
        reason = f"It shows no gain in {name} ({range_})"
    elif difference.low > 0:
        reason = f"The gain of {size} in {name} may be less than the {unsigned(margin)} asked for ({range_})"
    else:
        reason = f"The gain of {size} in {name} may be chance ({range_})"
    more = None if shown else still_needed(images, difference.value, difference.low, margin, difference.level)
    if more:
        reason += f", and about {counted(more, 'more test image')} would settle it if this is the true difference"
    value = f"{points(difference.value)} points ({points(difference.low)} to {points(difference.high)}), {p}"
    bound = f"above {points(margin)}, p < {difference.level:g}"
    return Check(f"gain in {name}", _verdict(shown), value, bound, f"{reason}.")


def class_falls(changes: Sequence[ClassChange], bound: float, support: int, significance: float) -> Check:
    """Fail if a class falls by more than `bound` and not by chance; `changes` come with the largest fall first.

    Chance alone does not explain a fall if its p-value, adjusted for all tested classes, is below `significance`.
    """
    name = "loss in a class"
    limit = f"no fall above {unsigned(bound)} points that is more than chance (from {counted(support, 'image')} on)"
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
        f"that it falls at all: {chance(p, significance)}, corrected for {counted(len(tested), 'class')}){others}."
    )
    return Check(name, "fail", _fall(worst), limit, reason)


def newly_wrong(share: Interval, bound: float | None) -> Check:
    """Fail if the share of images that only the champion has right is shown to be above the bound (None: no bound)."""
    name, value = "newly wrong", f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"
    if bound is None:
        reason = f"Of all images {percent(share.value)} were right and are wrong now."
        return Check(name, "info", value, "no bound", reason)
    passed = share.low <= bound
    reason = (
        f"It is not shown that more than {percent(bound)} of the images were right and are wrong now."
        if passed
        else f"At least {percent(share.low)} of the images were right and are wrong now."
    )
    return Check(name, _verdict(passed), value, f"interval not above {percent(bound)}", reason)


def _falls(number: int) -> str:
    return "falls" if number == 1 else "fall"


def _fall(worst: ClassChange) -> str:
    return f"{unsigned(worst.change)} points ({worst.label})" if worst.change < 0 else "0.0 points"


def log_loss(rise: Gain, champion: float, bound: float) -> Check:
    """Fail if the rise of the log loss is shown to be above the bound: its probabilities can then be trusted less."""
    shown = rise.low > bound
    moved = f"log loss {champion:.3f} to {champion + rise.value:.3f}"
    reason = (
        f"Its probabilities can be trusted less: {moved}, a rise of at least {rise.low:.3f}."
        if shown
        else f"It is not shown that its probabilities can be trusted less ({moved})."
    )
    value = f"{rise.value:+.3f} ({rise.low:+.3f} to {rise.high:+.3f})".replace("-", "−")
    return Check("log loss", _verdict(not shown), value, f"interval not above {bound:g}", reason)


def parity(error: float | None, bound: float) -> Check:
    """Fail if the ONNX file's logits differ too much from the trained model's, or if this is unknown."""
    name, limit = "parity of the ONNX file", f"at most {bound:g}"
    if error is None or not math.isfinite(error):
        reason = "It is not known whether its ONNX file answers as the trained model does."
        return Check(name, "fail", "unknown", limit, reason)
    reason = (
        "Its ONNX file answers as the trained model does."
        if error <= bound
        else f"Its ONNX file answers unlike the trained model: logits differ by up to {error:.2g} of the largest."
    )
    return Check(name, _verdict(error <= bound), f"{error:.2g}", limit, reason)


def too_slow(challenger: float, champion: float, bounds: GateParams) -> bool:
    """Return whether these latencies, in milliseconds per image, refuse a challenger."""
    return latency(challenger, champion, bounds.max_latency_ratio, bounds.min_latency_ms).verdict == "fail"


def latency(challenger: float, champion: float, bound: float, enough: float) -> Check:
    """Fail if the challenger takes too many times as long as the champion, and longer than `enough` ms per image."""
    check = ratio("latency", challenger, champion, bound, "ms an image")
    limit = f"{check.bound}, or {enough:g} ms"
    if check.verdict == "fail" and _measured(challenger) and challenger <= enough:
        reason = f"It takes {challenger:.3g} ms an image, and up to {enough:g} ms no ratio matters."
        return Check("latency", "pass", check.value, limit, reason)
    return replace(check, bound=limit)


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
