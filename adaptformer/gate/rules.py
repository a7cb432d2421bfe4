"""The gate's checks, one function each: figures and a bound to a verdict with its reason.

Reasons begin with a word that can begin a clause too, since the decision's sentence quotes the first that fails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from adaptformer.evaluation.intervals import Interval
from adaptformer.gate.class_changes import ClassChange, NewClass
from adaptformer.gate.decision import Check, Verdict
from adaptformer.gate.pairing import Pairs
from adaptformer.gate.wording import METRICS, between, chance, counted, named, percent, points, unsigned

FEW = 100
"""Below so many compared images there is a warning."""


def images(count: int, *, champion: bool) -> Check:
    """Fail without images to judge by, warn of few."""
    unseen = "that neither model has seen and whose class both know" if champion else "that it has not seen"
    verdict: Verdict = "pass" if count >= FEW else "warn" if count else "fail"
    reason = {
        "pass": f"It is judged by images {unseen}.",
        "warn": f"Only {counted(count, 'image')} can be judged by, so only large differences stand out from chance.",
        "fail": f"There is no test image {unseen}.",
    }[verdict]
    return Check("test images", verdict, f"{count:,}", f"at least 1, better {FEW}", reason)


def classes(pairs: Pairs, new: Sequence[NewClass]) -> Check:
    """Fail where the champion knows a class that the challenger does not; tell of new ones."""
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


def answers(pairs: Pairs, gained: int, lost: int, margin: float) -> Check:
    """Fail where no image tells the models apart, unless the challenger need not be better."""
    value = f"{gained:,} newly right, {lost:,} newly wrong"
    if gained or lost:
        return Check("changed answers", "pass", value, "at least 1", "The models do not answer alike.")
    same = bool((pairs.predicted("challenger") == pairs.predicted("champion")).all())
    what = "gives the champion's answer to" if same else "is right and wrong where the champion is, on"
    reason = f"It {what} every one of {counted(len(pairs.rows), 'test image')}."
    bound = "at least 1" if margin >= 0 else "none"
    return Check("changed answers", "fail" if margin >= 0 else "info", value, bound, reason)


def gain(metric: str, found: Interval, margin: float) -> Check:
    """Fail unless the whole interval of the gain lies above the margin."""
    name, range_ = METRICS[metric], between(found.low, found.high)
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


def significance(gained: int, lost: int, p: float, bound: float, margin: float) -> Check:
    """Fail where McNemar's p-value is not below the bound; only tell it where the challenger may be a little worse."""
    name, won = "McNemar's test on top-1", f"{gained:,} of the {gained + lost:,} images that only one model has right"
    if margin < 0:
        reason = f"It has {won}; not asked to be more than chance where the margin is negative."
        return Check(name, "info", chance(p), "none", reason)
    may = "which chance alone would rarely give" if p < bound else "which chance alone may give"
    return Check(name, _verdict(p < bound), chance(p), f"p < {bound:g}", f"It has {won}, {may}.")


def class_falls(changes: Sequence[ClassChange], bound: float, support: int) -> Check:
    """Fail where a class of enough images falls too far; `changes` come with the largest fall first."""
    name, limit = "loss in a class", f"at most {unsigned(bound)} points (from {counted(support, 'image')} on)"
    judged = [change for change in changes if change.images >= support]
    if not judged:
        return Check(name, "warn", "none judged", limit, f"No class has {support:,} test images to be judged by.")
    worst, too_far = judged[0], sum(-change.change > bound for change in judged)
    if not too_far:
        reason = f"None of {counted(len(judged), 'class')} with enough images falls by more than the bound."
        return Check(name, "pass", _fall(worst), limit, reason)
    more = ""
    if too_far > 1:
        more = f", and {counted(too_far - 1, 'more class')} {'falls' if too_far == 2 else 'fall'} too far"
    reason = (
        f"In the class {worst.label} its top-1 falls by {unsigned(worst.change)} points "
        f"({percent(worst.champion)} to {percent(worst.challenger)} of {counted(worst.images, 'image')}){more}."
    )
    return Check(name, "fail", _fall(worst), limit, reason)


def _fall(worst: ClassChange) -> str:
    return f"{unsigned(worst.change)} points ({worst.label})" if worst.change < 0 else "0.0 points"


def calibration(challenger: float, champion: float, bound: float) -> Check:
    """Fail where the expected calibration error rises too far."""
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
    """Fail where the ONNX file's logits differ too much from the trained model's, or nobody knows."""
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
    """Fail where a cost of the challenger is too many times the champion's, or one of them was not measured."""
    limit = f"at most {bound:g} times"
    if not (_measured(challenger) and _measured(champion)):
        return Check(name, "fail", "unknown", limit, f"Its {name} was not measured beside the champion's.")
    times = challenger / champion
    reason = f"Its {name} is {times:.2f} times the champion's ({champion:#.3g} to {challenger:#.3g} {unit})."
    return Check(name, _verdict(times <= bound), f"{times:.2f} times", limit, reason)


def _measured(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _verdict(passed: bool) -> Verdict:
    return "pass" if passed else "fail"
