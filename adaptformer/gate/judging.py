"""The champion gate: whether a challenger may take the champion's place.

Both models are compared on the test images that neither has seen. `decide` measures, asks each rule (rules.py) and
sums up in one sentence. Nothing here is drawn from anything but the predictions: equal input, equal decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adaptformer.evaluation import intervals
from adaptformer.evaluation.calibration import ece
from adaptformer.gate import rules
from adaptformer.gate.class_changes import ClassChange, class_changes, new_classes, newcombe
from adaptformer.gate.decision import ChangedImage, Check, Decision
from adaptformer.gate.pairing import Judged, Pairs, alone, pair
from adaptformer.gate.wording import METRICS, clause, counted, percent
from adaptformer.params import GateParams


def decide(challenger: Judged, champion: Judged | None, bounds: GateParams, drift: Sequence[Check] = ()) -> Decision:
    """Return whether the challenger becomes champion, and why.

    A first model, without a champion, only has to agree with its ONNX file and to have unseen test images. `drift`
    (drift.compare) goes along and decides nothing. Raises ValueError when both predicted different test images.
    """
    if champion is None:
        return _first(challenger, bounds, drift)
    pairs = pair(challenger, champion)
    new, changes = new_classes(pairs), class_changes(pairs)
    numbers, checks = _compared(pairs, changes, bounds) if len(pairs.rows) else ({}, [])
    costs = [
        rules.parity(challenger.parity, bounds.parity),
        rules.ratio("latency", challenger.latency_ms, champion.latency_ms, bounds.latency_ratio, "ms an image"),
        rules.ratio("size", challenger.megabytes, champion.megabytes, bounds.size_ratio, "MB"),
    ]
    checks = [rules.images(len(pairs.rows), champion=True), rules.classes(pairs, new), *checks, *costs]
    promoted = _passed(checks)
    names = f"Version {challenger.version} {{}} version {champion.version}"
    if promoted:
        before, after = (percent(numbers[f"{bounds.metric}_{side}"]) for side in ("champion", "challenger"))
        changed = _changes(pairs, champion.version) or "it is right and wrong on the same test images"
        sentence = f"{names.format('replaces')}: {changed} ({METRICS[bounds.metric]} {before} to {after})."
    else:
        sentence = f"{names.format('does not replace')}: {_why_not(checks, _changes(pairs, champion.version))}."
    return Decision(
        promoted=promoted,
        sentence=sentence,
        champion=champion.version,
        numbers=numbers,
        checks=tuple(checks),
        drift=tuple(drift),
        new=new,
        changes=changes,
        newly_right=_changed(pairs, pairs.right("challenger") & ~pairs.right("champion")),
        newly_wrong=_changed(pairs, pairs.right("champion") & ~pairs.right("challenger")),
        **_common(challenger, pairs, bounds),
    )


def _first(challenger: Judged, bounds: GateParams, drift: Sequence[Check]) -> Decision:
    pairs = alone(challenger)
    hits, images = int(pairs.right("challenger").sum()), len(pairs.rows)
    top1 = intervals.wilson(hits, images)
    checks = [rules.images(images, champion=False), rules.parity(challenger.parity, bounds.parity)]
    promoted = _passed(checks)
    if promoted:
        sentence = (
            f"Version {challenger.version} becomes the first champion: there was nothing to compare it with; of "
            f"{counted(images, 'test image')} it gets {percent(top1.value)} right "
            f"(between {percent(top1.low)} and {percent(top1.high)})."
        )
    else:
        sentence = f"Version {challenger.version} does not become the first champion: {_why_not(checks)}."
    numbers = {"top1_challenger": top1.value, "top1_low": top1.low, "top1_high": top1.high} if images else {}
    return Decision(
        promoted=promoted, sentence=sentence, champion=None, numbers=numbers, checks=tuple(checks), drift=tuple(drift),
        new=(), changes=(), newly_right=(), newly_wrong=(), **_common(challenger, pairs, bounds),
    )  # fmt: skip


def _common(challenger: Judged, pairs: Pairs, bounds: GateParams) -> dict[str, Any]:
    return {
        "challenger": challenger.version,
        "metric": bounds.metric,
        "images": len(pairs.rows),
        "left_out": pairs.left_out,
        "shared": pairs.shared,
        "dropped": pairs.dropped,
    }


def _compared(pairs: Pairs, changes: Sequence[ClassChange], bounds: GateParams) -> tuple[dict[str, float], list[Check]]:
    """Return the headline numbers and the checks that need images."""
    ours, theirs = pairs.right("challenger"), pairs.right("champion")
    gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    classes = len(pairs.shared) + 1  # one more for every answer that is no shared class
    answers = (pairs.labels, pairs.predicted("challenger"), pairs.predicted("champion"))
    gain = intervals.paired(bounds.metric, *answers, classes)
    if not gained and not lost:  # resampling would know no doubt where no image of even a few changed
        both = int((ours & theirs).sum())
        gain = newcombe(both, 0, 0, len(ours) - both)
    p = intervals.mcnemar(gained, lost)
    errors = [ece(pairs.confidence("challenger"), ours), ece(pairs.confidence("champion"), theirs)]
    numbers = {
        "top1_challenger": float(ours.mean()),
        "top1_champion": float(theirs.mean()),
        f"{bounds.metric}_challenger": intervals.score(bounds.metric, answers[0], answers[1], classes),
        f"{bounds.metric}_champion": intervals.score(bounds.metric, answers[0], answers[2], classes),
        "gain": gain.value,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "p": p,
        "ece_challenger": float(errors[0]),
        "ece_champion": float(errors[1]),
    }
    checks = [rules.answers(pairs, gained, lost, bounds.margin)]
    if gained or lost or bounds.margin < 0:  # else these would only say it again
        checks += [
            rules.gain(bounds.metric, gain, bounds.margin),
            rules.significance(gained, lost, p, bounds.significance, bounds.margin),
        ]
    checks += [
        rules.class_falls(changes, bounds.class_loss, bounds.class_support),
        rules.calibration(errors[0], errors[1], bounds.ece_rise),
    ]
    return numbers, checks


def _passed(checks: Sequence[Check]) -> bool:
    return all(check.verdict != "fail" for check in checks)


def _changed(pairs: Pairs, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[ChangedImage, ...]:
    rows = pairs.rows[chosen].sort_values(["challenger_confidence", "path"], ascending=[False, True])
    columns = ["path", "label", "champion_predicted", "challenger_predicted", "challenger_confidence"]
    return tuple(ChangedImage(*values) for values in rows[columns].itertuples(index=False, name=None))


def _changes(pairs: Pairs, champion: str) -> str:
    """Return how many images changed sides, as a clause; nothing where none did."""
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
