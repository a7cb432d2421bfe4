"""The picture of docs/performance.md, drawn from the benchmarks' results: `python -m benchmarks.picture`."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks import measuring

PATH = Path(__file__).parents[1] / "docs/images/performance.png"
SHOWN = ("step", "frozen", "growth", "photos", "pipeline")
_REACHED, _MISSED = "#0b6e99", "#d1495b"


def main() -> None:
    """Draw the reached share of each target, on a logarithmic scale, because some are exceeded many times over."""
    paths = [measuring.RESULTS / f"{name}.json" for name in SHOWN]
    results = [json.loads(path.read_text()) for path in paths if path.is_file()]
    targets = [measuring.Target(**target) for result in results for target in result.get("targets", [])]
    shares = [target.reached for target in targets]
    figure = Figure(figsize=(9, 0.8 + 0.32 * len(targets)), layout="constrained")
    axes = figure.subplots()
    axes.barh(
        [target.label for target in targets], [share - 1 for share in shares], left=1, height=0.6,
        color=[_REACHED if share >= 1 else _MISSED for share in shares],
    )  # fmt: skip
    for row, target in enumerate(targets):
        bound = "\N{LESS-THAN OR EQUAL TO}" if target.at_most else "\N{GREATER-THAN OR EQUAL TO}"
        label = f" {target.measured:.3g} ({bound} {target.target:g})"
        axes.text(max(shares[row], 1), row, label, va="center", fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 4]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(min(*shares, 0.5) * 0.9, max(shares) * 2)
    axes.set_xlabel("measured over target: to the right of 1 the target is reached")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PATH, dpi=120, metadata={"Software": None})
    print(PATH)


if __name__ == "__main__":
    main()
