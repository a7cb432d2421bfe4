"""How OpenMP's threads should wait (base/environment.py): `python -m benchmarks.waiting_threads`.

Training steps are timed alone and beside busy processes, with threads that sleep at once, that spin for a while first,
and that spin as by default. The first model is as small as the bundled backbone. Each side is a process of its own; all
run in turns, there and back, so that a slow change of the machine's load meets all sides alike. Compare ratios: seconds
depend on the machine and its load.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import torch

from adaptformer.base import memory
from adaptformer.model import device
from benchmarks import measuring, models
from benchmarks.step import step

SIDES: dict[str, dict[str, str]] = {
    "sleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 1,000": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"},
    "spin 5,000": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "5000"},
    "spin 20,000": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"},
    "the default": {},
}
SIZES = {"vit_nano_patch4_32": (32, 32), "vit_small_patch16_224": (224, 8)}
"""Side of the images in pixels, and images of a step."""
BUSY = [sys.executable, "-c", "while True: pass"]


def once(model: str, steps: int) -> float:
    """Return the median milliseconds of a training step in this process, after two to warm up."""
    size, batch = SIZES[model]
    torch.manual_seed(0)
    torch.set_num_threads(device.default_threads())
    memory.keep_freed()
    adapted = models.classified(model, size, classes=10, bottlenecks=[16], pooling="mean")
    train = step(adapted, torch.randn(batch, 3, size, size), torch.arange(batch) % 10, adapted)
    seconds = []
    for _ in range(2 + steps):
        began = time.perf_counter()
        train()
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[2:])


def in_a_process(model: str, steps: int, variables: dict[str, str]) -> float:
    """Return what `once` returns in a new process with these variables."""
    names = {name for side in SIDES.values() for name in side}
    environment = {name: value for name, value in os.environ.items() if name not in names} | variables
    command = [sys.executable, "-m", "benchmarks.waiting_threads", "--steps", str(steps), "--once", model]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout))


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Run the body beside processes that each keep a core busy."""
    with contextlib.ExitStack() as running:
        for _ in range(count):
            process = subprocess.Popen(BUSY)
            running.callback(process.wait)
            running.callback(process.kill)
        yield


def main() -> None:
    """Time all sides alone and beside busy processes, and print their medians."""
    parser = measuring.parser(__doc__, repeats=1)
    parser.add_argument("--steps", type=int, default=20, help="steps timed per process (default: %(default)s)")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="numbers of busy processes beside it")
    parser.add_argument("--models", nargs="+", default=list(SIZES), choices=SIZES, help="(default: all)")
    parser.add_argument("--once", metavar="MODEL", help="measure in this process and print JSON")
    given = parser.parse_args()
    if given.once:
        print(json.dumps(once(given.once, given.steps)))
        return
    rows, measured = [], []
    for model in given.models:
        for count in given.busy:
            runs: dict[str, list[float]] = {side: [] for side in SIDES}
            with busy(count):
                for side in [*SIDES, *reversed(SIDES)] * given.repeats:
                    runs[side].append(in_a_process(model, given.steps, SIDES[side]))
            medians = measuring.medians(runs)
            first = medians["sleep at once"]
            rows.append([model, str(count), *(f"{medians[side]:.0f} ({medians[side] / first:.2f})" for side in SIDES)])
            measured.append({"model": model, "busy": count, "milliseconds": runs})
    measuring.report(
        "waiting_threads", ("model", "busy beside it", *(f"{side}, ms" for side in SIDES)), rows, {"runs": measured}
    )


if __name__ == "__main__":
    main()
