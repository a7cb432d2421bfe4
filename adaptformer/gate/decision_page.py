"""The page about a decision of the gate: one sentence for everybody, then the evidence behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from adaptformer import html_page
from adaptformer.gate import wording
from adaptformer.gate.decision import ChangedImage, Decision
from adaptformer.gate.wording import METRICS, percent, points

_PICTURES = 24
_CLASSES = 60
"""Above so many classes only those that changed most are listed."""

_SIGNS = {"pass": "✓ pass", "fail": "✗ fail", "warn": "! warning", "info": "i note"}


class _Images(NamedTuple):
    """Changed images: how many there are, those shown as (PNG, caption), and those that data/ no longer holds."""

    total: int
    shown: list[tuple[bytes, str]]
    gone: list[str]
    most: int = _PICTURES


def html(decision: Decision, thumbnail: Callable[[str], bytes | None]) -> str:
    """Return the decision as one page; `thumbnail` gives the PNG of an image by its path in data/, None if it is gone.

    It holds no date, host or absolute path: equal decisions give equal text.
    """
    changes, half = decision.changes, _CLASSES // 2
    shown = changes if len(changes) <= _CLASSES else (*changes[:half], *changes[-half:])
    return html_page.render(
        "gate/decision_page.html.j2",
        decision=decision,
        figures=_figures(decision),
        signs=_SIGNS,
        wording=wording,
        interval_in_points=_interval_in_points,
        changes=shown,
        hidden_classes=len(changes) - len(shown),
        largest=max((max(abs(change.low), abs(change.high)) for change in shown), default=0.0) or 1.0,
        newly_right=_images(decision.newly_right, thumbnail),
        newly_wrong=_images(decision.newly_wrong, thumbnail),
        excluded=_excluded(decision),
        unshared=_unshared(decision),
    )


def _figures(decision: Decision) -> list[tuple[str, str]]:
    numbers = decision.numbers
    figures = [
        ("decision", "promoted" if decision.promoted else "refused"),
        ("compared images", f"{decision.images:,}"),
    ]
    if "gain" in numbers:
        named = {"top1": "top-1", decision.metric: METRICS[decision.metric]}
        figures += [
            (name, f"{percent(numbers[f'{key}_champion'])} → {percent(numbers[f'{key}_challenger'])}")
            for key, name in named.items()
        ]
        gain = _interval_in_points(numbers["gain"], numbers["gain_low"], numbers["gain_high"])
        figures += [
            (f"gain in {METRICS[decision.metric]}, points (95 %)", gain),
            ("McNemar's test", wording.chance(numbers["p"])),
        ]
    elif "top1_challenger" in numbers:
        top1 = _interval(numbers["top1_challenger"], numbers["top1_low"], numbers["top1_high"])
        figures.append(("top-1 (95 %)", top1))
    return figures


def _interval(share: float, low: float, high: float) -> str:
    return f"{percent(share)} ({percent(low)} to {percent(high)})"


def _interval_in_points(difference: float, low: float, high: float) -> str:
    return f"{points(difference)} ({points(low)} to {points(high)})"


def _images(images: Sequence[ChangedImage], thumbnail: Callable[[str], bytes | None]) -> _Images:
    shown, gone = [], []
    for image in images[:_PICTURES]:
        caption = f"{image.label}: {image.champion} → {image.challenger}"
        if png := thumbnail(image.path):
            shown.append((png, caption))
        else:
            gone.append(f"{image.path} ({caption})")
    return _Images(len(images), shown, gone)


def _excluded(decision: Decision) -> list[tuple[str, int]]:
    left_out = decision.left_out
    rows = [(f"version {decision.challenger} trained or validated on them", left_out.seen_by_challenger)]
    if decision.champion:
        rows.append((f"version {decision.champion} trained or validated on them", left_out.seen_by_champion))
        rows.append(("either version did", left_out.seen))
    unknown = "at least one version does not know" if decision.champion else "it does not know"
    return [*rows, (f"unseen, but of a class that {unknown}", left_out.other_classes)]


def _unshared(decision: Decision) -> list[tuple[str, str, str, str]]:
    dropped = [(label, f"dropped: only version {decision.champion} knows it", "", "") for label in decision.dropped]
    new = [
        (
            entry.label,
            f"new: only version {decision.challenger} knows it",
            f"{entry.images:,}",
            "unknown"
            if entry.top1 is None or entry.low is None or entry.high is None
            else _interval(entry.top1, entry.low, entry.high),
        )
        for entry in decision.new
    ]
    return [*dropped, *new]
