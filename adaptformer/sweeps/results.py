"""Results of a sweep: a table, numbers, a plot, and the params of the best trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd

from adaptformer.base import csv_file, files, text_table, yaml_text
from adaptformer.base.classification_scores import NAMES, Metric
from adaptformer.sweeps.study import Result


def ordered(results: Sequence[Result], metric: str) -> list[Result]:
    """Return the trials in order: complete ones, best first, then those stopped early, then those without a score."""
    sign = 1 if metric == "loss" else -1

    def key(result: Result) -> tuple[bool, bool, float, int]:
        score = math.inf if result.score is None else sign * result.score
        return result.score is None, result.state != "complete", score, result.number

    return sorted(results, key=key)


def best(results: Sequence[Result], metric: str) -> Result | None:
    """Return the best complete trial."""
    first = next(iter(ordered(results, metric)), None)
    return first if first is not None and first.state == "complete" else None


def text(results: Sequence[Result], metric: str) -> str:
    """Return the table with aligned columns, for a terminal."""
    columns = _columns(results, metric)
    return text_table.aligned(_cells(results, metric), columns)


def markdown(results: Sequence[Result], metric: str) -> str:
    """Return the table in Markdown."""
    columns = _columns(results, metric)
    return text_table.markdown(_cells(results, metric), columns, numbers=[columns[0], *columns[-5:-1]])


def write(
    root: Path,
    results: Sequence[Result],
    metric: str,
    values_of_best: Mapping[str, Any] | None,
    log_ranges: Mapping[str, bool],
) -> None:
    """Write the table, the numbers, the plot, and the values in which the best trial differs from params.yaml.

    `log_ranges` is, for each key that was searched in a range, whether on a log scale.
    """
    files.write_text(root / "sweep.md", markdown(results, metric))
    files.write_text(root / "sweep.csv", _csv(results))
    draw(root / "sweep.png", results, metric, log_ranges)
    if values_of_best is not None:
        sections: dict[str, dict[str, Any]] = {}
        for dotted, value in values_of_best.items():
            section, _, key = dotted.partition(".")
            sections.setdefault(section, {})[key] = value
        files.write_text(root / "best.yaml", yaml_text.dump(sections))


def is_log(key: str, results: Sequence[Result], log_ranges: Mapping[str, bool]) -> bool:
    """Return whether the axis of a key is logarithmic: as its range was searched, or for a listed decade."""
    values = [result.values[key] for result in results]
    if not values or not all(_is_number(value) and value > 0 for value in values):
        return False
    return log_ranges.get(key, max(values) >= 10 * min(values))


def draw(path: Path, results: Sequence[Result], metric: str, log_ranges: Mapping[str, bool]) -> None:
    """Draw the score of each trial by its number, with the best so far, and by each searched value, as PNG."""
    from matplotlib.figure import Figure

    shown = [result for result in results if result.score is not None]
    keys = list(results[0].values)
    columns = 2 if len(keys) in (1, 3) else 3
    rows = math.ceil((len(keys) + 1) / columns)
    figure = Figure(figsize=(4.8 * columns, 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    better = min if metric == "loss" else max
    scale = 1 if metric == "loss" else 100
    complete = [result for result in shown if result.state == "complete"]
    reached = [better(one.score or 0 for one in complete[: i + 1]) * scale for i in range(len(complete))]
    panels[0].step([one.number for one in complete], reached, where="post", color="#9aa5b1", label="best so far")
    panels[0].set_xlabel("trial")
    for axes, key in zip(panels[1:], keys, strict=False):
        if is_log(key, shown, log_ranges):
            axes.set_xscale("log")
        axes.set_xlabel(key)
    for axes, by in zip(panels, [None, *keys], strict=False):
        for state, face in (("complete", "#0b6e99"), ("stopped early", "none")):
            of_state = [result for result in shown if result.state == state]
            places = [one.number if by is None else _place(one.values[by]) for one in of_state]
            axes.scatter(places, [(one.score or 0) * scale for one in of_state], s=28, facecolors=face,
                         edgecolors="#0b6e99", label=state, zorder=3)  # fmt: skip
        axes.set_ylabel(_named(metric) + ("" if metric == "loss" else ", %"))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    for axes in panels[len(keys) + 1 :]:
        axes.set_visible(False)
    with files.replacing(path) as new_file:
        figure.savefig(new_file, dpi=120, metadata={"Software": None})


def _columns(results: Sequence[Result], metric: str) -> tuple[str, ...]:
    return ("trial", *results[0].values, _named(metric), "best epoch", "epochs", "seconds", "ended")


def _cells(results: Sequence[Result], metric: str) -> list[tuple[str, ...]]:
    return [
        (
            str(result.number),
            *(str(value) for value in result.values.values()),
            "" if result.score is None else f"{result.score:.4f}" if metric == "loss" else f"{result.score:.2%}",
            "" if result.best_epoch is None else str(result.best_epoch),
            str(result.epochs),
            f"{result.seconds:.0f}",
            result.state + (f": {result.reason}" if result.reason else ""),
        )
        for result in ordered(results, metric)
    ]


def _csv(results: Sequence[Result]) -> str:
    rows = [
        {
            "trial": one.number, **one.values, "score": one.score, "best_epoch": one.best_epoch, "epochs": one.epochs,
            "seconds": round(one.seconds, 3), "state": one.state, "folder": one.folder, "reason": one.reason,
        }
        for one in results
    ]  # fmt: skip
    return csv_file.text(pd.DataFrame(rows))


def _named(metric: str) -> str:
    return f"validation {NAMES.get(cast(Metric, metric), metric)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _place(value: Any) -> Any:
    return value if _is_number(value) else str(value)
