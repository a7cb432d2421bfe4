"""B11: overhead of a run around the training: `python -m benchmarks.pipeline`.

In a clone of this repository, on the sample: the wall-clock time of `python -m flows run`, and its share outside of
training and evaluation (a temporary Prefect server, MLflow's database, DVC, the other stages); then, when nothing is
left to do, `dvc repro` against `dvc status`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import measuring

ROOT = Path(__file__).parents[1]
PAID_FOR = ("train", "evaluate")


def command(clone: Path, *words: str) -> Callable[[], None]:
    """Return a function that runs a command in the clone and raises CalledProcessError if it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours = {"PATH": path, "PYTHONPATH": str(clone), "PREFECT_HOME": str(clone / ".prefect"), "DO_NOT_TRACK": "true"}

    def run() -> None:
        subprocess.run(
            words, cwd=clone, env={**os.environ, **ours}, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    return run


def main() -> None:
    """Measure a run and two commands that find nothing to do."""
    given = measuring.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch, "clone")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        began = time.perf_counter()
        command(clone, sys.executable, "-m", "flows", "run")()
        run = time.perf_counter() - began
        timings = {path.stem: json.loads(path.read_text()) for path in (clone / "artifacts/timing").glob("*.json")}
        stages = {name: timing["seconds"] for name, timing in timings.items()}
        idle = measuring.medians(
            measuring.interleaved(
                {words: command(clone, *words.split()) for words in ("dvc status", "dvc repro")},
                given.repeats, time.perf_counter,
            )
        )  # fmt: skip
    outside = run - sum(stages[name] for name in PAID_FOR)
    rows = [["the whole run", f"{run:.1f}", ""]]
    rows += [[f"  {name}", f"{stages[name]:.1f}", f"{stages[name] / run:.0%}"] for name in sorted(stages)]
    rows += [["outside of train and evaluate", f"{outside:.1f}", f"{outside / run:.0%}"]]
    rows += [
        [f"{name}, nothing to do", f"{seconds:.2f}", f"{seconds / idle['dvc status']:.2f}"]
        for name, seconds in idle.items()
    ]
    measuring.report(
        "pipeline",
        ("work", "seconds", "share, or over dvc status"),
        rows,
        {"run": run, "stages": stages, "outside": outside, "idle": idle},
        [
            measuring.Target("share outside of training and evaluation", outside / run, 0.15, at_most=True),
            measuring.Target("dvc repro over dvc status", idle["dvc repro"] / idle["dvc status"], 2, at_most=True),
        ],
    )


if __name__ == "__main__":
    main()
