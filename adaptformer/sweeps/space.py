"""The search space of a sweep: for each searched key of params.yaml, a list of values or a range.

training.epochs=4,8                       one of these values
adapter.bottlenecks=[16],[16, 16]       one of these values
training.base_lr=0.001..0.1 log           a number in this range, on a log scale
training.weight_decay=0.0..0.1            a number in this range
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptformer.base import files, yaml_text
from adaptformer.base.errors import UserError
from adaptformer.config.params import UNTRACKED_SECTIONS, ParamsFile

if TYPE_CHECKING:
    from optuna import Trial

_RANGE = re.compile(r"(?P<low>\S+?)\.\.(?P<high>\S+)(?P<log> log)?")
_FORM = "write it as training.base_lr=0.001..0.1 log, or as training.epochs=4,8"


@dataclass(frozen=True)
class Choice:
    """A key with a list of values, each as JSON text, because Optuna's categories must be plain values."""

    key: str
    texts: tuple[str, ...]

    def suggest(self, trial: Trial) -> str:
        """Return a value chosen by the sampler."""
        return trial.suggest_categorical(self.key, self.texts)

    def ends(self) -> tuple[Any, ...]:
        """Return values to validate: if they are allowed, so are all others."""
        return tuple(map(self.value, self.texts))

    @staticmethod
    def value(suggestion: Any) -> Any:
        """Return the value of a chosen category."""
        return json.loads(suggestion)


@dataclass(frozen=True)
class Range:
    """A key with a number from `low` to `high`: an integer if both are integers; on a log scale if `log`."""

    key: str
    low: float
    high: float
    log: bool

    def suggest(self, trial: Trial) -> float:
        """Return a value chosen by the sampler."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def ends(self) -> tuple[Any, ...]:
        """Return values to validate: if they are allowed, so are all others."""
        return self.low, self.high

    @staticmethod
    def value(suggestion: Any) -> Any:
        """Return a chosen number, rounded to six significant digits, which suffice to tell trials apart."""
        return suggestion if isinstance(suggestion, int) else float(f"{suggestion:.6g}")


Dimension = Choice | Range


def parse(searches: Sequence[str], file: ParamsFile, overrides: dict[str, object]) -> list[Dimension]:
    """Parse search texts. Raises UserError for a faulty text, a repeated key, or a value that is not allowed."""
    dimensions = [_dimension(text) for text in searches]
    keys = [dimension.key for dimension in dimensions]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"the sweep has {key} twice", "give all values of a key at once")
        if key.partition(".")[0] in UNTRACKED_SECTIONS:
            raise UserError(f"{key} changes no result, so a search over it is useless", "search another key")
    for dimension in dimensions:
        for value in dimension.ends():
            file.replaced({**overrides, dimension.key: value})
    return dimensions


def combinations(dimensions: Sequence[Dimension]) -> Iterator[dict[str, Any]]:
    """Yield all combinations in the form of Optuna's params. Raises UserError for a range."""
    for dimension in dimensions:
        if isinstance(dimension, Range):
            raise UserError(
                f"the grid cannot try all of {dimension.key}={dimension.low:g}..{dimension.high:g}",
                "list its values with commas, or choose sweep.sampler: tpe",
            )
    lists = [dimension.texts for dimension in dimensions if isinstance(dimension, Choice)]
    for texts in itertools.product(*lists):
        yield {dimension.key: text for dimension, text in zip(dimensions, texts, strict=True)}


def _dimension(text: str) -> Dimension:
    key, sign, values = text.partition("=")
    if not sign or not values.strip():
        raise UserError(f"the search {text} has no values", _FORM)
    key = key.strip()
    if match := _RANGE.fullmatch(values.strip()):
        low, high = (_number(text, match[name]) for name in ("low", "high"))
        if not low < high or (match["log"] and low <= 0):
            raise UserError(
                f"the range of {text} is empty, or begins at 0 with log", "give the smaller end first, above 0 for log"
            )
        return Range(key, low, high, bool(match["log"]))
    try:
        listed = yaml_text.parse(f"[{values}]")
    except ValueError as error:
        raise UserError(f"the values of {text} cannot be read: {error}", _FORM) from error
    if not isinstance(listed, list):
        raise UserError(f"the values of {text} are no list", _FORM)
    if not listed:  # a comment
        raise UserError(f"the search {text} has no values", _FORM)
    return Choice(key, tuple(dict.fromkeys(map(files.canonical_json, listed))))


def _number(text: str, written: str) -> float:
    try:
        value = yaml_text.parse(written)
    except ValueError:
        value = None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"the end {written} of {text} is no number", _FORM)
    return value
