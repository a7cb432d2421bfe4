"""The gate's decision as plain values, as JSON, and as a table for a terminal and for Prefect."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from adaptformer.base import text_table
from adaptformer.base.classification_scores import Metric
from adaptformer.gate.class_changes import ClassChange, NewClass
from adaptformer.gate.pairing import LeftOut

Verdict = Literal["pass", "fail", "warn", "info"]
SHOWN = 24
"""How many images of each kind on which nothing has changed are kept with a decision."""
_COLUMNS = ("", "check", "value", "bound")


@dataclass(frozen=True)
class Check:
    """One line of the decision: the figure, its bound, and a sentence on what the figure means."""

    name: str
    verdict: Verdict
    value: str
    bound: str
    reason: str


@dataclass(frozen=True)
class ChangedImage:
    """A compared image: its path in data/, both answers, and the challenger's confidence."""

    path: str
    label: str
    champion: str
    challenger: str
    confidence: float


@dataclass(frozen=True)
class UnchangedImages:
    """Images that both models have right, or both wrong: their number, and the SHOWN least sure answers."""

    total: int
    least_sure: tuple[ChangedImage, ...]


@dataclass(frozen=True)
class Decision:
    """The gate's decision.

    `checks` decide, the most important first: one that fails refuses the challenger; `drift` only warns. `numbers` are
    fractions of 1 for plots; a figure that is unknown is absent. `champion` is None for a first model.
    """

    promoted: bool
    sentence: str
    challenger: str
    champion: str | None
    metric: Metric
    margin: float
    significance: float
    images: int
    left_out: LeftOut
    numbers: dict[str, float]
    checks: tuple[Check, ...]
    drift: tuple[Check, ...]
    shared: tuple[str, ...]
    new: tuple[NewClass, ...]
    dropped: tuple[str, ...]
    changes: tuple[ClassChange, ...]
    slices: tuple[ClassChange, ...]
    newly_right: tuple[ChangedImage, ...]
    newly_wrong: tuple[ChangedImage, ...]
    both_right: UnchangedImages
    both_wrong: UnchangedImages
    trained_on: tuple[str, ...] = ()
    """A sentence for each version whose data set is known."""

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
    """Return the decision for a terminal: a line per check, the reasons of those that did not pass, the sentence."""
    rows = [(check.verdict, check.name, check.value, check.bound) for check in _all(decision)]
    reasons = [f"{check.name}: {check.reason}" for check in _all(decision) if check.verdict != "pass"]
    return "\n".join([text_table.aligned(rows, _COLUMNS), "", *reasons, *([""] if reasons else []), decision.sentence])


def markdown(decision: Decision) -> str:
    """Return the decision for Prefect: the sentence, then each check with its reason."""
    cells = [(check.verdict, check.name, check.value, check.bound, check.reason) for check in _all(decision)]
    rows = [tuple(map(text_table.escaped, row)) for row in cells]
    return f"**{text_table.escaped(decision.sentence)}**\n\n{text_table.markdown(rows, (*_COLUMNS, 'reason'))}"


def _all(decision: Decision) -> tuple[Check, ...]:
    return (*decision.checks, *decision.drift)
