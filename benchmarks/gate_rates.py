"""Rates at which the champion gate promotes simulated challengers whose true accuracy is known.

    python benchmarks/gate_rates.py --simulations 100

Every simulation draws two models' answers to the same test images and asks `decide`, with the bounds of params.yaml.
Each image has a difficulty that both models share, each model adds an error of its own, and a model is right if the sum
is below the quantile of its accuracy in the image's class (evaluation/power.py). Wrong answers are uniform over the
other classes; in half of the cases two wrong models give the same wrong answer. The simulation has no probabilities, so
the log loss does not change; latency, size and parity are equal.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from adaptformer.base import randomness, text_table
from adaptformer.base.classification_scores import NAMES, Metric
from adaptformer.config.params import GateParams, load
from adaptformer.evaluation.intervals import wilson
from adaptformer.evaluation.power import RHO
from adaptformer.gate.decision import Decision
from adaptformer.gate.judging import decide
from adaptformer.gate.pairing import Side

SAME_MISTAKE = 0.5
ACCURACY = 0.859
COLUMNS = ("challenger", "test images", "metric", "promoted", "95 % interval", "failed checks")


@dataclass(frozen=True)
class Scenario:
    """Two models with known accuracies [C] in classes with known numbers of test images [C]."""

    name: str
    size: str
    metric: Metric
    images: NDArray[np.int64]
    champion: NDArray[np.float64]
    challenger: NDArray[np.float64]


def scenarios() -> list[Scenario]:
    """Return every case of the table."""
    cases_of_all: list[Scenario] = []
    sizes: tuple[tuple[int, int, Metric], ...] = (
        (100, 100, "top1"), (10, 36, "top1"), (10, 36, "balanced_accuracy"),
    )  # fmt: skip
    for classes, images, metric in sizes:
        size, counts, before = f"{classes} × {images}", np.full(classes, images), np.full(classes, ACCURACY)
        one_worse = before + 0.02
        one_worse[0] = ACCURACY - 0.3
        cases = {
            "2 points better in every class": before + 0.02,
            "equal": before,
            "one class 30 points worse, the others 2 points better": one_worse,
        }
        cases_of_all += [Scenario(name, size, metric, counts, before, after) for name, after in cases.items()]
    cases_of_all += [Scenario("5 points better in every class", "10 × 36", "top1", counts, before, before + 0.05)]
    counts = np.array([700, *[30] * 9])
    before, after = np.full(10, 0.8), np.array([0.77, *[0.9] * 9])
    name, size = "9 rare classes 10 points better, the frequent one 3 worse", "700 + 9 × 30"
    metrics: tuple[Metric, ...] = ("top1", "balanced_accuracy", "macro_f1")
    cases_of_all += [Scenario(name, size, metric, counts, before, after) for metric in metrics]
    return cases_of_all


def simulate(scenario: Scenario, bounds: GateParams, *key: int) -> Decision:
    """Return the gate's decision on one draw of both models' answers."""
    random = randomness.generator("gate-rates", *key)
    labels = np.repeat(np.arange(len(scenario.images)), scenario.images)
    difficulty = np.sqrt(RHO) * random.standard_normal(len(labels))
    shared = _wrong(labels, len(scenario.images), random)
    sides = []
    for version, accuracy in (("2", scenario.challenger), ("1", scenario.champion)):
        error = difficulty + np.sqrt(1 - RHO) * random.standard_normal(len(labels))
        alone = _wrong(labels, len(scenario.images), random)
        wrong = np.where(random.random(len(labels)) < np.sqrt(SAME_MISTAKE), shared, alone)
        answers = np.where(error < norm.ppf(accuracy)[labels], labels, wrong)
        sides.append(_judged(version, len(scenario.images), labels, answers))
    return decide(sides[0], sides[1], bounds, earlier_looks=0)


def _wrong(labels: NDArray[np.int64], classes: int, random: np.random.Generator) -> NDArray[np.int64]:
    return (labels + random.integers(1, classes, len(labels))) % classes


def _judged(version: str, classes: int, labels: NDArray[np.int64], answers: NDArray[np.int64]) -> Side:
    names = np.array([f"class {number:03}" for number in range(classes)])
    numbers = [f"{number:064x}" for number in range(len(labels))]
    predictions = pd.DataFrame(
        {
            "path": numbers, "sha256": numbers, "label": names[labels], "predicted": names[answers],
            "confidence": 1.0, "probability_of_label": 1.0,
        }
    )  # fmt: skip
    return Side(version, tuple(names), predictions, frozenset(), megabytes=1.0, latency_ms=1.0, parity=0.0)


def row(number: int, scenario: Scenario, bounds: GateParams, simulations: int) -> tuple[str, ...]:
    """Return a line of the table."""
    bounds = bounds.model_copy(update={"metric": scenario.metric})
    decisions = [simulate(scenario, bounds, number, draw) for draw in range(simulations)]
    promoted = wilson(sum(decision.promoted for decision in decisions), simulations)
    refusing = Counter(check.name for decision in decisions for check in decision.checks if check.verdict == "fail")
    return (
        scenario.name, scenario.size, NAMES[scenario.metric], f"{promoted.value:.1%}",
        f"{promoted.low:.1%} to {promoted.high:.1%}",
        ", ".join(f"{name} {count}" for name, count in refusing.most_common()) or "–",
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of rates in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--simulations", type=int, default=100, help="draws of each case (default 100)")
    simulations = parser.parse_args(arguments).simulations
    bounds = load(Path("params.yaml")).gate
    cases = scenarios()
    print(text_table.markdown([], COLUMNS, numbers=("promoted",)), end="")
    with ProcessPoolExecutor() as processes:
        for cells in processes.map(row, range(len(cases)), cases, repeat(bounds), repeat(simulations)):
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
