"""Time that a process saves on a CPU by keeping freed memory (memory.keep_freed): `python -m benchmarks.freed_memory`.

Training steps with adapters and forward passes are timed in separate processes, which keep freed memory and give it
back in turns. Prints wall-clock seconds on all cores, and the peak memory of the process.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

import torch

from adaptformer.base import memory
from adaptformer.model import device
from benchmarks import measuring, models
from benchmarks.step import step

SIDES = ("given back", "kept")
WORK = ("training step", "forward pass")


def once(work: str, model: str, batch: int, kept: bool, steps: int) -> tuple[float, float]:
    """Return the seconds of a training step, or of a forward pass, in this process, and its peak memory in MB."""
    torch.manual_seed(0)
    torch.set_num_threads(device.default_threads())
    if kept:
        memory.keep_freed()
    images, labels = torch.randn(batch, 3, 224, 224), torch.randint(100, (batch,))
    labels[0] = 99
    adapted = models.classified(model)
    train = step(adapted, images, labels, adapted)

    def run() -> None:
        if work == WORK[0]:
            train()
        else:
            with torch.no_grad():
                adapted.vit.forward_features(images)

    run()
    began = time.perf_counter()
    for _ in range(steps):
        run()
    return (time.perf_counter() - began) / steps, memory.peak_mb()


def main() -> None:
    """Run both sides in turns and print their medians."""
    parser = measuring.parser(__doc__, repeats=3)
    parser.add_argument("--model", default="vit_small_patch16_224", help="timm's name (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="images per step (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="steps timed per process (default: %(default)s)")
    parser.add_argument("--once", nargs=2, metavar=("WORK", "SIDE"), help="measure in this process and print JSON")
    given = parser.parse_args()
    if given.once:
        work, side = given.once
        print(json.dumps(once(work, given.model, given.batch, side == "kept", given.steps)))
        return
    sizes = ["--model", given.model, "--batch", str(given.batch), "--steps", str(given.steps)]
    runs: dict[str, dict[str, list[tuple[float, float]]]] = {work: {side: [] for side in SIDES} for work in WORK}
    for _ in range(given.repeats):
        for work in WORK:
            for side in SIDES:
                command = [sys.executable, "-m", "benchmarks.freed_memory", *sizes, "--once", work, side]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs[work][side].append(json.loads(done.stdout))
    rows = []
    for work, sides in runs.items():
        medians = {side: statistics.median(seconds for seconds, _ in sides[side]) for side in SIDES}
        peaks = [statistics.median(peak for _, peak in sides[side]) for side in SIDES]
        seconds = [f"{medians[side]:.2f}" for side in SIDES]
        rows.append(
            [work, *seconds, f"{medians['given back'] / medians['kept']:.2f}", *(f"{peak:,.0f}" for peak in peaks)]
        )
    measuring.report(
        "freed_memory",
        ("freed memory", "given back, s", "kept, s", "times as fast", "given back, MB", "kept, MB"),
        rows,
        {"model": given.model, "batch": given.batch, "repeats": given.repeats, "runs": runs},
    )


if __name__ == "__main__":
    main()
