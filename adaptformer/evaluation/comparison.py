"""Comparison of methods on the same test images: a table, and a plot of accuracy against trained parameters.

Shapes: N test images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptformer.base import csv_file, files, text_table
from adaptformer.base.errors import UserError
from adaptformer.evaluation import intervals
from adaptformer.evaluation.intervals import Interval


@dataclass(frozen=True)
class Trained:
    """One run of a method with one seed: whether it classified each test image correctly [N], and its cost.

    `images` are the names of the test images, `groups` [N] their groups (groups.codes), None if they are independent.
    `memory_mb` is the peak of the training process, on the GPU if it trained on one. `features_kept` is whether the
    features came from an earlier run, so that `seconds` do not include the backbone's.
    """

    method: str
    seed: int
    images: tuple[str, ...]
    right: NDArray[np.bool_]
    trained: int
    seconds: float
    memory_mb: float
    adapter_bytes: int
    groups: NDArray[np.int64] | None = None
    features_kept: bool = False


@dataclass(frozen=True)
class Row:
    """One method over all its seeds: means; for top-1 also the 95 % interval and the lowest and highest seed."""

    method: str
    seeds: int
    trained: int
    top1: Interval
    least: float
    most: float
    seconds: float
    memory_mb: float
    adapter_bytes: int
    features_kept: int
    """The number of its seeds whose features came from an earlier run."""


KEPT = "+: without the backbone's time; some or all of these runs read features that an earlier run had kept"
COLUMNS = (
    "method", "seeds", "trained parameters", "top-1", "95 % interval", "over the seeds", "training s", "peak memory MB",
    "adapter file bytes",
)  # fmt: skip


def rows(runs: Iterable[Trained]) -> list[Row]:
    """Return one row per method, in order of first appearance.

    The interval is that of the mean over images of the share of seeds with a correct answer (Wilson's for one seed). It
    covers the choice of test images; the lowest and highest top-1 show the effect of the seed. Raises UserError unless
    all runs have the same test images.
    """
    by_method: dict[str, list[Trained]] = {}
    for run in runs:
        by_method.setdefault(run.method, []).append(run)
    if len({run.images for group in by_method.values() for run in group}) > 1:
        raise UserError(
            "the runs of this comparison were evaluated on different test images",
            "do not change data/ while a comparison runs; run the same command again",
        )
    return [_row(method, group) for method, group in by_method.items()]


def _row(method: str, group: Sequence[Trained]) -> Row:
    shares = np.mean([run.right for run in group], axis=0)
    each = [float(run.right.mean()) for run in group]
    return Row(
        method=method,
        seeds=len(group),
        trained=group[0].trained,
        top1=intervals.mean(shares, group[0].groups),
        least=min(each),
        most=max(each),
        seconds=float(np.mean([run.seconds for run in group])),
        memory_mb=float(np.mean([run.memory_mb for run in group])),
        adapter_bytes=group[0].adapter_bytes,
        features_kept=sum(run.features_kept for run in group),
    )


def _cells(compared: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the rows as text, in the order of COLUMNS."""
    return [
        (
            row.method,
            str(row.seeds),
            f"{row.trained:,}",
            f"{row.top1.value:.2%}",
            f"{row.top1.low:.2%} to {row.top1.high:.2%}",
            f"{row.least:.2%} to {row.most:.2%}" if row.seeds > 1 else "one seed",
            f"{row.seconds:.0f}{'+' if row.features_kept else ''}",
            f"{row.memory_mb:.0f}",
            f"{row.adapter_bytes:,}",
        )
        for row in compared
    ]


def text(compared: Sequence[Row]) -> str:
    """Return the table with aligned columns, for a terminal."""
    return text_table.aligned(_cells(compared), COLUMNS) + _footnote(compared, "\n")


def markdown(compared: Sequence[Row]) -> str:
    """Return the table in Markdown, numbers right-aligned."""
    return text_table.markdown(_cells(compared), COLUMNS, numbers=COLUMNS[1:]) + _footnote(compared, "\n", "\n")


def _footnote(compared: Sequence[Row], before: str, after: str = "") -> str:
    return f"{before}{KEPT}{after}" if any(row.features_kept for row in compared) else ""


def csv(compared: Sequence[Row]) -> str:
    """Return the numbers of the table as CSV; shares are fractions of 1."""
    frame = pd.DataFrame(
        [
            {
                "method": row.method, "seeds": row.seeds, "trained": row.trained, "top1": round(row.top1.value, 6),
                "low": round(row.top1.low, 6), "high": round(row.top1.high, 6), "least": round(row.least, 6),
                "most": round(row.most, 6), "seconds": round(row.seconds, 3), "memory_mb": round(row.memory_mb, 1),
                "adapter_bytes": row.adapter_bytes, "features_kept": row.features_kept,
            }
            for row in compared
        ]
    )  # fmt: skip
    return csv_file.text(frame)


def labels(methods: Sequence[str]) -> dict[str, str]:
    """Return the label of each method in the picture: its first word, all of them if another begins alike."""
    first = [method.partition(" ")[0] for method in methods]
    return {
        method: word if first.count(word) == 1 else method.replace(" ", "\n")
        for method, word in zip(methods, first, strict=True)
    }


def draw(path: Path, compared: Sequence[Row]) -> None:
    """Draw top-1 with its interval against trained parameters, on a logarithmic axis, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    named = labels([row.method for row in compared])
    for number, row in enumerate(sorted(compared, key=lambda row: row.trained)):
        below, above = row.top1.value - row.top1.low, row.top1.high - row.top1.value
        axes.errorbar(
            row.trained, 100 * row.top1.value, yerr=[[100 * below], [100 * above]],
            fmt="o", color="#0b6e99", ecolor="#9aa5b1", capsize=3,
        )  # fmt: skip
        # Neighbours have their names on different sides, so that they do not overlap.
        side = 8 if number % 2 else -8
        axes.annotate(
            named[row.method], (row.trained, 100 * row.top1.value), (side, 6), textcoords="offset points",
            ha="left" if side > 0 else "right", fontsize=9,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.16)
    axes.set_xlabel("trained parameters, head included")
    axes.set_ylabel("top-1 on the test split, %; bars: 95 % interval")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    with files.replacing(path) as new_file:
        figure.savefig(new_file, dpi=120, metadata={"Software": None})
