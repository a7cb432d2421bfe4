"""Wording of the gate's figures and sentences."""

from __future__ import annotations

from collections.abc import Sequence


def percent(share: float) -> str:
    """Return a share of 1 as "95.5 %"."""
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """Return a signed difference of shares in percentage points: "+0.3", "−0.5", "0.0"; "+0.02" if it is small."""
    value = 100 * difference
    for digits in range(2 if 0 < abs(value) < 0.1 else 1, 5):
        text = f"{abs(value):.{digits}f}"
        if float(text) > 0:
            return f"{'+' if value > 0 else '−'}{text}"
    return "0.0"


def unsigned(difference: float) -> str:
    """Return the size of a difference in points: "0.3"."""
    return points(difference).lstrip("+−")


def between(low: float, high: float) -> str:
    """Return an interval of a difference in points as a clause."""
    return f"between {points(low)} and {points(high)}"


def chance(p: float, level: float | None = None) -> str:
    """Return a p-value with three digits, or with more if three would round it to the other side of the level."""
    digits = 3
    while level is not None and digits < 9 and (float(f"{p:.{digits}f}") < level) != (p < level):
        digits += 1
    return "p < 0.001" if p < 0.001 else f"p = {p:.{digits}f}"


def counted(number: int, noun: str) -> str:
    """Return "1 image", "1,024 images" or "2 classes"."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def named(labels: Sequence[str]) -> str:
    """Return "the class a" or "the classes a, b", five names at most."""
    more = f" and {len(labels) - 5:,} more" if len(labels) > 5 else ""
    return f"the {'class' if len(labels) == 1 else 'classes'} {', '.join(labels[:5])}{more}"


def clause(sentence: str) -> str:
    """Return a sentence as a part of another one: without the capital letter and the full stop."""
    return sentence[0].lower() + sentence[1:].removesuffix(".")
