from __future__ import annotations

from pathlib import Path

import pytest

from adaptformer.config.params import load
from benchmarks import gate_rates

BOUNDS = load(Path("params.yaml")).gate
CASES = {(case.name, case.size, case.metric): case for case in gate_rates.scenarios()}


@pytest.mark.parametrize(
    ("name", "refusing"),
    [
        ("2 points better in every class", []),
        ("equal", ["gain in top-1"]),
        ("one class 30 points worse, the others 2 points better", ["loss in a class"]),
    ],
)
def test_of_100_classes_the_better_is_promoted_and_the_worse_refused(name: str, refusing: list[str]) -> None:
    decision = gate_rates.simulate(CASES[name, "100 × 100", "top1"], BOUNDS, 0, 0)
    assert [check.name for check in decision.checks if check.verdict == "fail"] == refusing


def test_a_line_of_the_table_counts_the_promotions() -> None:
    case = CASES["equal", "10 × 36", "balanced_accuracy"]
    assert gate_rates.row(0, case, BOUNDS, 2)[:4] == ("equal", "10 × 36", "balanced accuracy", "0.0%")
