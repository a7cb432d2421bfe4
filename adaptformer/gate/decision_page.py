"""The page about a decision of the gate: one sentence for everybody, then what lies behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from adaptformer import html_page
from adaptformer.evaluation.scores import NAMES
from adaptformer.gate.class_changes import ClassChange
from adaptformer.gate.decision import ChangedImage, Check, Decision
from adaptformer.gate.rules import name_of_test
from adaptformer.gate.wording import chance, counted, percent, points

_PICTURES = 24
_CLASSES = 60
"""Above so many classes only those that changed most are listed."""

_SIGNS = {"pass": "✓ pass", "fail": "✗ fail", "warn": "! warning", "info": "i note"}
_BAR = "display:block;position:relative;width:12rem;height:1rem"


def html(decision: Decision, thumbnail: Callable[[str], bytes | None]) -> str:
    """Return the decision as one page; `thumbnail` gives the PNG of an image by its path in data/, None if it is gone.

    It holds no date, host or absolute path: equal decisions give equal text.
    """
    sections = {"What was asked": _checks(decision.checks)}
    if decision.changes:
        right, wrong = decision.newly_right, decision.newly_wrong
        sections["Changes in each class"] = _class_table(decision.changes)
        sections[f"Newly right: {counted(len(right), 'image')}"] = _images(right, decision, thumbnail)
        sections[f"Newly wrong: {counted(len(wrong), 'image')}"] = _images(wrong, decision, thumbnail)
    sections["Images that are left out"] = _left_out(decision)
    if decision.champion:
        sections["Classes that only one model knows"] = _unshared(decision)
        sections["Drift of the data"] = _drift(decision)
    parts = [_outcome(decision), html_page.contents(sections), *map(html_page.section, sections, sections.values())]
    return html_page.page(decision.sentence, "\n".join(parts))


def _outcome(decision: Decision) -> str:
    numbers = decision.numbers
    tiles = [("decision", "promoted" if decision.promoted else "refused"), ("compared images", f"{decision.images:,}")]
    if "gain" in numbers:
        shown = {"top1": "top-1", decision.metric: NAMES[decision.metric]}
        tiles += [
            (name, f"{percent(numbers[f'{key}_champion'])} → {percent(numbers[f'{key}_challenger'])}")
            for key, name in shown.items()
        ]
        tiles += [
            (
                f"gain in {NAMES[decision.metric]}, points (95 %)",
                f"{points(numbers['gain'])} ({points(numbers['gain_low'])} to {points(numbers['gain_high'])})",
            ),
            (name_of_test(decision.metric), chance(numbers["p"])),
        ]
    elif "top1_challenger" in numbers:
        interval = f"({percent(numbers['top1_low'])} to {percent(numbers['top1_high'])})"
        tiles.append(("top-1 (95 %)", f"{percent(numbers['top1_challenger'])} {interval}"))
    return html_page.tiles([(name, value.replace(" %", "\u00a0%")) for name, value in tiles])


def _checks(checks: Sequence[Check]) -> str:
    caption = "each must hold; a warning or a note refuses nothing"
    return html_page.table(["", "check", "value", "bound", "reason"], map(_row, checks), caption)


def _row(check: Check) -> tuple[str, ...]:
    # On a narrow screen the table scrolls rather than squeezing the reason into a column of single words.
    reason = html_page.Html(f'<span style="display:block;min-width:18rem">{escape(check.reason)}</span>')
    return _sign(check), check.name, check.value, check.bound, reason


def _sign(check: Check) -> html_page.Html:
    text = _SIGNS[check.verdict].replace(" ", "\u00a0")
    if check.verdict in ("fail", "warn"):
        return html_page.Html(f'<strong style="color:var(--warn)">{text}</strong>')
    return html_page.Html(f'<span class="soft">{text}</span>')


def _class_table(changes: Sequence[ClassChange]) -> str:
    half = _CLASSES // 2
    shown = changes if len(changes) <= _CLASSES else (*changes[:half], *changes[-half:])
    largest = max(max(abs(change.low), abs(change.high)) for change in shown) or 1.0
    rows = [
        (
            change.label,
            change.images,
            html_page.Number(f"{percent(change.champion)} → {percent(change.challenger)}"),
            change.gained,
            change.lost,
            html_page.Number(f"{points(change.change)} ({points(change.low)} to {points(change.high)})"),
            _interval(change, largest),
        )
        for change in shown
    ]
    columns = ["class", "images", "top-1", "newly right", "newly wrong", "change in points (95 %)", ""]
    caption = "largest fall first; the mark is the change, the line its interval, the upright line no change"
    hidden = len(changes) - len(shown)
    note = f'<p class="soft">{counted(hidden, "class")} in between changed less.</p>' if hidden else ""
    return html_page.table(columns, rows, caption) + note


def _interval(change: ClassChange, largest: float) -> html_page.Html:
    """Draw the interval on a line from −largest to +largest; the cell before it has the numbers."""
    low, value, high = (50 + 50 * x / largest for x in (change.low, change.change, change.high))
    accent = "var(--accent)"
    parts = (
        "left:50%;top:0;height:1rem;width:1px;background:var(--soft)",
        f"left:{low:.1f}%;width:{high - low:.1f}%;top:.44rem;height:.12rem;background:{accent}",
        f"left:calc({value:.1f}% - .2rem);top:.3rem;width:.4rem;height:.4rem;border-radius:50%;background:{accent}",
    )
    drawn = "".join(f'<span style="position:absolute;{part}"></span>' for part in parts)
    return html_page.Html(f'<span aria-hidden="true" style="{_BAR}">{drawn}</span>')


def _images(images: Sequence[ChangedImage], decision: Decision, thumbnail: Callable[[str], bytes | None]) -> str:
    if not images:
        return '<p class="soft">None.</p>'
    shown = [(thumbnail(image.path), image) for image in images[:_PICTURES]]
    about = f"True class: answer of version {decision.champion} → answer of version {decision.challenger}"
    about += f"; its {_PICTURES} most confident ones." if len(images) > _PICTURES else ", the most confident first."
    gone = [f"{image.path} ({_caption(image)})" for png, image in shown if not png]
    missing = f'<p class="soft">No longer in data/: {escape(", ".join(gone))}.</p>' if gone else ""
    grid = html_page.pictures([(png, _caption(image)) for png, image in shown if png])
    return f'<p class="soft">{escape(about)}</p>{grid}{missing}'


def _caption(image: ChangedImage) -> str:
    return f"{image.label}: {image.champion} → {image.challenger}"


def _left_out(decision: Decision) -> str:
    left_out = decision.left_out
    rows = [(f"version {decision.challenger} has trained or validated on them", left_out.seen_by_challenger)]
    if decision.champion:
        rows.append((f"version {decision.champion} has trained or validated on them", left_out.seen_by_champion))
        rows.append(("either has", left_out.seen))
    who = "not both know" if decision.champion else "it does not know"
    rows.append((f"unseen, but of a class that {who}", left_out.other_classes))
    return html_page.table(["because", "test images"], rows)


def _unshared(decision: Decision) -> str:
    if not decision.new and not decision.dropped:
        return '<p class="soft">None.</p>'
    lost = [(label, f"lost: only version {decision.champion} knows it", "", "") for label in decision.dropped]
    new = [
        (
            entry.label,
            "new",
            f"{entry.images:,}",
            "unknown"
            if entry.top1 is None or entry.low is None or entry.high is None
            else f"{percent(entry.top1)} ({percent(entry.low)} to {percent(entry.high)})",
        )
        for entry in decision.new
    ]
    return html_page.table(["class", "", "unseen test images", "top-1 (95 %)"], [*lost, *new])


def _drift(decision: Decision) -> str:
    if not decision.drift:
        return '<p class="soft">Not measured.</p>'
    warned = [check.reason for check in decision.drift if check.verdict == "warn"]
    caption = "distance between both models' data: 0 alike, 1 apart; it warns and decides nothing"
    return html_page.warnings(warned) + html_page.table(
        ["", "data", "distance", "bound", "reason"], map(_row, decision.drift), caption
    )
