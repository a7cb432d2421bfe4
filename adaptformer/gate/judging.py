"""The champion gate: whether a challenger may take the champion's place.

Both models are compared on the test images that neither has seen. `decide` takes the figures, applies each rule
(rules.py) and sums up in one sentence. Equal input gives an equal decision. docs/gate.md explains every rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptformer.base.classification_scores import NAMES, score
from adaptformer.config.params import GateParams
from adaptformer.evaluation import intervals
from adaptformer.evaluation.calibration import ece
from adaptformer.gate import paired_tests, rules
from adaptformer.gate.class_changes import ClassChange, NewClass, class_changes, new_classes, slice_changes
from adaptformer.gate.decision import SHOWN, ChangedImage, Check, Decision, UnchangedImages
from adaptformer.gate.pairing import Pairs, Side, alone, pair
from adaptformer.gate.wording import clause, counted, named, percent

_NONE = UnchangedImages(0, ())


def decide(
    challenger: Side, champion: Side | None, bounds: GateParams, drift: Sequence[Check] = (), *, earlier_looks: int
) -> Decision:
    """Return whether the challenger becomes champion, and why.

    A first model, without a champion, only has to be better than one constant answer on unseen test images, and to
    agree with its ONNX file. `drift` (drift.compare) and `earlier_looks` are reported and decide nothing; the latter is
    how many other versions were compared with a champion on the same test images. Raises ValueError if the two models
    predicted different test images.
    """
    if champion is None:
        return _first(challenger, bounds, drift)
    pairs = pair(challenger, champion)
    if _classes_changed(pairs, bounds):
        bounds = bounds.model_copy(update={"margin": min(bounds.margin, -bounds.max_shared_drop)})
    new, changes = new_classes(pairs), class_changes(pairs, bounds.min_class_images)
    numbers, checks = _compared(pairs, changes, bounds) if len(pairs.rows) else ({}, [])
    costs = [
        rules.parity(challenger.parity, bounds.parity_tolerance),
        rules.latency(challenger.latency_ms, champion.latency_ms, bounds.max_latency_ratio, bounds.min_latency_ms),
        rules.ratio("size", challenger.megabytes, champion.megabytes, bounds.max_size_ratio, "MB"),
    ]
    checks = [
        rules.images(len(pairs.rows), groups_in(pairs), champion=True),
        rules.classes(pairs, bounds.removed_classes),
        *([rules.added_classes(new, len(challenger.classes), bounds.min_added_top1)] if new else []),
        *checks,
        *costs,
        rules.looks(earlier_looks, bounds.significance, bounds.margin),
    ]
    promoted = _passed(checks)
    names = f"Version {challenger.version} {{}} version {champion.version}"
    if promoted:
        before, after = (percent(numbers[f"{bounds.metric}_{side}"]) for side in ("champion", "challenger"))
        changed = _changes(pairs, champion.version) or "it is right and wrong on the same test images"
        shown = f"{changed} ({NAMES[bounds.metric]} {before} to {after})"
        sentence = f"{names.format('replaces')}: {'; '.join([*_other_classes(pairs, new), shown])}."
    else:
        why = _why_not(checks, _changes(pairs, champion.version))
        sentence = f"{names.format('does not replace')}: {', but '.join([*_other_classes(pairs, new), why])}."
    return Decision(
        promoted=promoted,
        sentence=sentence,
        champion=champion.version,
        numbers=numbers,
        checks=tuple(checks),
        drift=tuple(drift),
        new=new,
        changes=changes,
        slices=slice_changes(pairs),
        newly_right=_changed(pairs, pairs.right("challenger") & ~pairs.right("champion")),
        newly_wrong=_changed(pairs, pairs.right("champion") & ~pairs.right("challenger")),
        both_right=_unchanged(pairs, pairs.right("champion") & pairs.right("challenger")),
        both_wrong=_unchanged(pairs, ~pairs.right("champion") & ~pairs.right("challenger")),
        trained_on=_trained_on(challenger, champion),
        **_common(challenger, pairs, bounds),
    )


def _classes_changed(pairs: Pairs, bounds: GateParams) -> bool:
    """Return whether classes were added or removed as the params allow; the shared ones must then not become worse."""
    return bool(pairs.new or pairs.dropped) and set(pairs.dropped) <= set(bounds.removed_classes)


def _other_classes(pairs: Pairs, new: Sequence[NewClass]) -> list[str]:
    """Return the clause that begins the decision if the challenger knows classes that the champion does not know."""
    if not new:
        return []
    images = sum(entry.images for entry in new)
    right = sum(round((entry.top1 or 0) * entry.images) for entry in new)
    return [f"it also knows {named(pairs.new)} ({right:,} of {counted(images, 'test image')} right)"]


def _first(challenger: Side, bounds: GateParams, drift: Sequence[Check]) -> Decision:
    pairs = alone(challenger)
    images = len(pairs.rows)
    numbers, checks = _against_chance(pairs, bounds) if images else ({}, [])
    checks = [
        rules.images(images, groups_in(pairs), champion=False),
        *checks,
        rules.parity(challenger.parity, bounds.parity_tolerance),
    ]
    promoted = _passed(checks)
    if promoted:
        top1, low, high = (percent(numbers[key]) for key in ("top1_challenger", "top1_low", "top1_high"))
        sentence = (
            f"Version {challenger.version} becomes the first champion: there was nothing to compare it with; of "
            f"{counted(images, 'test image')} it gets {top1} right (between {low} and {high})."
        )
    else:
        sentence = f"Version {challenger.version} does not become the first champion: {_why_not(checks)}."
    return Decision(
        promoted=promoted, sentence=sentence, champion=None, numbers=numbers, checks=tuple(checks), drift=tuple(drift),
        new=(), changes=(), slices=(), newly_right=(), newly_wrong=(), both_right=_NONE, both_wrong=_NONE,
        trained_on=_trained_on(challenger), **_common(challenger, pairs, bounds),
    )  # fmt: skip


def _against_chance(pairs: Pairs, bounds: GateParams) -> tuple[dict[str, float], list[Check]]:
    """Return a first model's figures, and the check against always answering the most frequent test class."""
    labels, predicted, classes = pairs.labels, pairs.predicted("challenger"), len(pairs.shared) + 1
    top1, interval = (
        intervals.interval(metric, labels, predicted, classes, pairs.groups) for metric in ("top1", bounds.metric)
    )
    frequent = int(np.bincount(labels).argmax())
    constant = score(bounds.metric, labels, np.full_like(labels, frequent), classes)
    numbers = {
        "top1_challenger": top1.value,
        "top1_low": top1.low,
        "top1_high": top1.high,
        f"{bounds.metric}_challenger": interval.value,
        f"{bounds.metric}_low": interval.low,
        f"{bounds.metric}_high": interval.high,
        "chance": constant,
    }
    return numbers, [rules.above_chance(bounds.metric, interval, constant, pairs.shared[frequent])]


def _trained_on(*sides: Side) -> tuple[str, ...]:
    return tuple(f"Version {side.version} was trained on {side.data}." for side in sides if side.data)


def _common(challenger: Side, pairs: Pairs, bounds: GateParams) -> dict[str, Any]:
    return {
        "challenger": challenger.version,
        "metric": bounds.metric,
        "margin": bounds.margin,
        "significance": bounds.significance,
        "images": len(pairs.rows),
        "left_out": pairs.left_out,
        "shared": pairs.shared,
        "dropped": pairs.dropped,
    }


def _compared(pairs: Pairs, changes: Sequence[ClassChange], bounds: GateParams) -> tuple[dict[str, float], list[Check]]:
    """Return the headline figures and the checks that need images."""
    ours, theirs = pairs.right("challenger"), pairs.right("champion")
    gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    classes = len(pairs.shared) + 1  # one more for all answers outside the shared classes
    labels, answered, before = pairs.labels, pairs.predicted("challenger"), pairs.predicted("champion")
    # Only macro-F1 also depends on which wrong answer is given.
    differ = bool((answered != before).any()) if bounds.metric == "macro_f1" else gained + lost > 0
    gain = paired_tests.gain(
        bounds.metric, labels, answered, before, classes, pairs.groups, bounds.margin, bounds.significance
    )
    flips = intervals.share(theirs & ~ours, pairs.groups)
    losses = pairs.loss("champion")
    rise = paired_tests.mean_rise(
        pairs.loss("challenger") - losses, pairs.groups, bounds.max_log_loss_rise, bounds.significance
    )
    numbers = {
        "top1_challenger": float(ours.mean()),
        "top1_champion": float(theirs.mean()),
        f"{bounds.metric}_challenger": score(bounds.metric, labels, answered, classes),
        f"{bounds.metric}_champion": score(bounds.metric, labels, before, classes),
        "gain": gain.value,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "gain_confidence": 1 - 2 * bounds.significance,
        "p": gain.p,
        "newly_wrong": flips.value,
        "newly_wrong_low": flips.low,
        "newly_wrong_high": flips.high,
        "max_log_loss_rise": rise.value,
        "log_loss_rise_low": rise.low,
        "log_loss_rise_high": rise.high,
        "log_loss_champion": float(losses.mean()),
        "ece_challenger": ece(pairs.confidence("challenger"), ours),
        "ece_champion": ece(pairs.confidence("champion"), theirs),
    }
    checks = [rules.answers(pairs, gained, lost, bounds.margin, differ=differ)]
    if differ or bounds.margin < 0:  # otherwise this check would only repeat the one before
        checks.append(rules.gain(bounds.metric, gain, bounds.margin, len(labels)))
    checks += [
        rules.class_falls(changes, bounds.max_class_drop, bounds.min_class_images, bounds.significance),
        rules.newly_wrong(flips, bounds.max_negative_flips),
        rules.log_loss(rise, float(losses.mean()), bounds.max_log_loss_rise),
    ]
    return numbers, checks


def groups_in(pairs: Pairs) -> int | None:
    """Return how many independent groups the compared images are in; None if each image is independent."""
    return None if pairs.groups is None else int(pairs.groups.max()) + 1


def _passed(checks: Sequence[Check]) -> bool:
    return all(check.verdict != "fail" for check in checks)


def _changed(pairs: Pairs, mask: NDArray[np.bool_]) -> tuple[ChangedImage, ...]:
    rows = pairs.rows[mask].sort_values(["challenger_confidence", "path"], ascending=[False, True])
    columns = ["path", "label", "champion_predicted", "challenger_predicted", "challenger_confidence"]
    return tuple(ChangedImage(*values) for values in rows[columns].itertuples(index=False))


def _unchanged(pairs: Pairs, mask: NDArray[np.bool_]) -> UnchangedImages:
    """Return how many images are chosen, and those of which the challenger is least sure."""
    return UnchangedImages(int(mask.sum()), _changed(pairs, mask)[::-1][:SHOWN])


def _changes(pairs: Pairs, champion: str) -> str:
    """Return how many images changed between right and wrong, as a clause; "" if none did."""
    ours, theirs = pairs.right("challenger"), pairs.right("champion")
    gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    if not gained and not lost:
        return ""
    return (
        f"of {counted(len(pairs.rows), 'test image')} it gets {gained:,} right that version {champion} got wrong, "
        f"and {lost:,} wrong that version {champion} got right"
    )


def _why_not(checks: Sequence[Check], changes: str = "") -> str:
    """Return the first failed check's reason, what changed, and how many more failed."""
    failed = [check for check in checks if check.verdict == "fail"]
    more = len(failed) - 1
    others = "" if not more else "one more check fails" if more == 1 else f"{more} more checks fail"
    return "; ".join(part for part in (clause(failed[0].reason), changes, others) if part)
