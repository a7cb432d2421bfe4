"""The page about a decision of the gate: one sentence for everybody, then the evidence behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from adaptformer import pages
from adaptformer.base.classification_scores import NAMES
from adaptformer.gate import wording
from adaptformer.gate.decision import ChangedImage, Decision

_PICTURES = 24
_CLASSES = 60
"""With more classes than this, only those that changed most are listed."""

_SHOWN_BELOW = 0.05
"""A fall with a corrected p-value below this is more than chance."""
_SIGNS = {"pass": "✓ pass", "fail": "✗ fail", "warn": "! warning", "info": "i note"}


class _Images(NamedTuple):
    """Changed images: how many there are, those shown as (PNG, caption), and those that data/ no longer holds."""

    total: int
    shown: list[tuple[bytes, str]]
    gone: list[str]


def html(decision: Decision, thumbnail: Callable[[str], bytes | None]) -> str:
    """Return the decision as one page; `thumbnail` gives the PNG of an image by its path in data/, None if it is gone.

    It holds no date, host or absolute path: equal decisions give equal text.
    """
    changes, half = decision.changes, _CLASSES // 2
    shown = changes if len(changes) <= _CLASSES else (*changes[:half], *changes[-half:])
    return pages.render(
        "gate/decision_page.html.j2",
        decision=decision,
        signs=_SIGNS,
        wording=wording,
        metrics=NAMES,
        most=_PICTURES,
        changes=shown,
        hidden_classes=len(changes) - len(shown),
        largest=max((max(abs(change.low), abs(change.high)) for change in (*shown, *decision.slices)), default=0.0)
        or 1.0,
        worst_slice=_worst_slice(decision),
        newly_right=_images(decision.newly_right, thumbnail),
        newly_wrong=_images(decision.newly_wrong, thumbnail),
        both_right=_images(decision.both_right.least_sure, thumbnail, decision.both_right.total),
        both_wrong=_images(decision.both_wrong.least_sure, thumbnail, decision.both_wrong.total),
    )


def _worst_slice(decision: Decision) -> str:
    """Return a sentence on the slice that lost most, if that is more than chance; "" without slices."""
    if not decision.slices:
        return ""
    fallen = [change for change in decision.slices if change.p is not None and change.p < _SHOWN_BELOW]
    if fallen:
        worst = fallen[0]
        return (
            f"Worst slice: {worst.label}, {wording.percent(worst.champion)} to {wording.percent(worst.challenger)}, "
            f"more than chance explains."
        )
    return "No slice is shown to have lost: chance explains every fall."


def _images(
    images: Sequence[ChangedImage], thumbnail: Callable[[str], bytes | None], total: int | None = None
) -> _Images:
    shown, gone = [], []
    for image in images[:_PICTURES]:
        caption = f"{image.label}: {image.champion} → {image.challenger}"
        if png := thumbnail(image.path):
            shown.append((png, caption))
        else:
            gone.append(f"{image.path} ({caption})")
    return _Images(len(images) if total is None else total, shown, gone)
