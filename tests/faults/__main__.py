"""`python -m tests.faults`: kills, turned bits and full disks, at random from a seed (`make faults`).

docs/reliability.md says what it finds. It works in a checkout in miniature, whose stages take tenths of a second, and
in forked processes, which have imported torch and MLflow before. Each try is repeatable: its random numbers come from
the seed, its kind and its number, but for the moment of a kill, which the machine's speed moves. The exit code is 1 if
anything was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a process with threads cannot be forked
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("MLFLOW_TRACKING_URI", None)

from adaptformer.model import torchvision_ops
from tests.faults import disks, flips, kills
from tests.faults.projects import CASES, SLOW, Case, Projects
from tests.faults.table import Table

KINDS = {"kill": kills.one, "flip": flips.one, "full disk": disks.one}
SHARES = {"kill": 0.45, "flip": 0.45, "full disk": 0.1}
"""Of the time."""
SLOW_MINUTES = 30
IMPORTED = (
    "torch", "adaptformer.pipeline.stages", "timm", "pandas", "pandera", "sklearn.datasets", "sklearn.linear_model",
    "scipy.stats", "matplotlib.pyplot", "onnx", "onnxruntime", "onnxscript", "mlflow", "mlflow.pyfunc", "optuna",
    "cleanlab", "pyarrow.parquet", "ruamel.yaml",
    "adaptformer.curation.importing.importing", "adaptformer.curation.importing.relabelling",
    "adaptformer.curation.sharded_checks.checking", "adaptformer.curation.labels.label_errors",
    "adaptformer.registry.promotion", "adaptformer.pipeline.sweep_runs", "adaptformer.pipeline.method_runs",
    "adaptformer.batch_prediction.running", "adaptformer.sweeps.study", "small_project",
)  # fmt: skip
"""Imported once for all tries."""


def main() -> int:
    """Run the faults, print the table, and return the exit code."""
    given = _parser().parse_args()
    kinds = given.kind or [kind for kind in KINDS if kind != "full disk" or disks.possible()]
    if not given.kind and not disks.possible():
        print("full disks are left out: only root can mount small file systems")
    began, results = time.monotonic(), Table()
    torchvision_ops.import_torchvision()  # beside a CPU build of torch it needs this before anything else imports it
    for name in IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it unmounts and removes what it made
    try:
        _run(kinds, given, began, Projects(folder, _cases(given)), results)
    except KeyboardInterrupt:
        print("stopped; what was tried until here:")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - began
    print(f"\nseed {given.seed}, {seconds / 60:.1f} minutes\n\n{results.text(given.markdown)}")
    return 1 if results.wrong else 0


def _run(kinds: list[str], given: argparse.Namespace, began: float, made: Projects, results: Table) -> None:
    """Try faults of each kind in turn, for its share of the time, until the time or the number of tries is over."""
    spent, tries, shown = dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0), 0
    while time.monotonic() - began < given.minutes * 60 and (left := _left(kinds, tries, given.tries)):
        kind = min(left, key=lambda one: spent[one] / SHARES[one])
        moment = time.monotonic()
        KINDS[kind](made, random.Random(f"{given.seed} {kind} {tries[kind]}"), results)
        tries[kind] += 1
        spent[kind] += time.monotonic() - moment
        if results.wrong[shown:]:
            print("\n".join(results.wrong[shown:]), flush=True)
            shown = len(results.wrong)
        if sys.stderr.isatty():
            counts = ", ".join(f"{results.tries(one)} of {one}" for one in kinds)
            print(f"\r  {counts}; wrong: {len(results.wrong)}  ", end="", file=sys.stderr)


def _cases(given: argparse.Namespace) -> list[Case]:
    """Return the commands to kill."""
    if given.command:
        return [case for case in (*CASES, *SLOW) if case.name in given.command]
    return [*CASES, *(SLOW if given.minutes >= SLOW_MINUTES else ())]


def _left(kinds: list[str], tries: dict[str, int], most: int | None) -> list[str]:
    return [kind for kind in kinds if most is None or tries[kind] < most]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=5, help="how long (default: %(default)s)")
    parser.add_argument("--seed", default="1", help="for the random numbers (default: %(default)s)")
    parser.add_argument("--tries", type=int, help="at most so many of each kind")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only this kind; repeatable")
    names = [case.name for case in (*CASES, *SLOW)]
    parser.add_argument(
        "--command", action="append", choices=names, metavar="NAME", help=f"kill only this one; repeatable: {names}"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return parser


if __name__ == "__main__":
    sys.exit(main())
