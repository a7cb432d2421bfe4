"""What the gate decided and why, as plain values, as JSON, and as a table for a terminal and for Prefect."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from adaptformer.gate.class_changes import ClassChange, NewClass
from adaptformer.gate.pairing import LeftOut

Verdict = Literal["pass", "fail", "warn", "info"]
_COLUMNS = ("", "check", "value", "bound")


@dataclass(frozen=True)
class Check:
    """One line of the decision: what was found, what was asked for, and a sentence that says what it means."""

    name: str
    verdict: Verdict
    value: str
    bound: str
    reason: str


@dataclass(frozen=True)
class ChangedImage:
    """An image, by its path in data/, that one side has right and the other wrong; the challenger's confidence."""

    path: str
    label: str
    champion: str
    challenger: str
    confidence: float


@dataclass(frozen=True)
class Decision:
    """The gate's decision.

    `checks` decide, the most important first: one that fails refuses the challenger; `drift` only warns. `numbers` are
    what can be plotted, fractions of 1; a figure that could not be had is absent. `champion` is None for a first model.
    """

    promoted: bool
    sentence: str
    challenger: str
    champion: str | None
    metric: str
    images: int
    left_out: LeftOut
    numbers: dict[str, float]
    checks: tuple[Check, ...]
    drift: tuple[Check, ...]
    shared: tuple[str, ...]
    new: tuple[NewClass, ...]
    dropped: tuple[str, ...]
    changes: tuple[ClassChange, ...]
    newly_right: tuple[ChangedImage, ...]
    newly_wrong: tuple[ChangedImage, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: numbers to six digits, no NaN; equal decisions give equal values."""
        content: dict[str, Any] = _plain(asdict(self))
        return content


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(member) for member in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def table(decision: Decision) -> str:
    """Return the decision for a terminal: a line a check, the reason below what did not pass, the sentence last."""
    rows = [(check.verdict, check.name, check.value, check.bound) for check in _all(decision)]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    lines = [_aligned(_COLUMNS, widths), "  ".join("-" * width for width in widths)]
    for check, row in zip(_all(decision), rows, strict=True):
        lines.append(_aligned(row, widths))
        if check.verdict != "pass":
            lines.append(" " * (widths[0] + 2) + check.reason)
    return "\n".join([*lines, "", decision.sentence])


def markdown(decision: Decision) -> str:
    """Return the decision for Prefect: the sentence, then each check with its reason."""
    lines = [f"**{_escaped(decision.sentence)}**", "", "| | check | value | bound | reason |", "|---|---|---|---|---|"]
    for check in _all(decision):
        cells = (check.verdict, check.name, check.value, check.bound, check.reason)
        lines.append("| " + " | ".join(map(_escaped, cells)) + " |")
    return "\n".join(lines) + "\n"


def _all(decision: Decision) -> tuple[Check, ...]:
    return (*decision.checks, *decision.drift)


def _aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _escaped(text: str) -> str:
    """Take the meaning from what Markdown would read as its own: names of classes may hold anything."""
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", " ".join(text.split()))
