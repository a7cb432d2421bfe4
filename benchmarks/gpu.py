"""B5, B7: a training step on a GPU in bf16, its share of the GPU's speed and its memory: `python -m benchmarks.gpu`.

All sides run in one process, in turns, on the same random images: adapters without and with compiled blocks, our full
fine-tuning, and, if the extra `bench` is installed, Hugging Face's ViT with PEFT's LoRA. The table also gives the rate
predicted for adapters with compiled blocks on an H200, which multiplies matrices at 790 TFLOP/s: half of that speed, at
two forward passes per step. `--device cpu` runs the same code anywhere, to test it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adaptformer.model import device
from adaptformer.model.classifier import Classifier
from benchmarks import measuring, models, step

PREDICTED = {"vit_base_patch16_224": 6400, "vit_large_patch16_224": 1940, "vit_huge_patch14_224": 730}
"""Images per second, by timm's name."""
FORWARD_GFLOP = {"vit_base_patch16_224": 35.1, "vit_large_patch16_224": 123.0, "vit_huge_patch14_224": 335.0}
PEAK_TFLOPS = 790
EAGER, COMPILED, WHOLE = "adapters", "adapters, compiled blocks", "whole fine-tuning"


def prepared(model: Classifier, where: torch.device) -> Classifier:
    """Return one of our models on the device, with its frozen matrices in bf16, as in training."""
    device.store_frozen(model, "bf16")
    return model.to(where)


def timed(run: Callable[[], Tensor], where: torch.device) -> Callable[[], None]:
    """Return a function that makes a step and waits until the device has finished it."""

    def step() -> None:
        with device.autocast(where, "bf16"):
            run()
        if where.type == "cuda":
            torch.cuda.synchronize(where)

    return step


def measure(name: str, batch: int, where: torch.device, repeats: int) -> dict[str, dict[str, float]]:
    """Return the seconds per step and the peak megabytes of each side, for one architecture."""
    images, labels = torch.randn(batch, 3, 224, 224, device=where), torch.randint(100, (batch,), device=where)
    labels[0] = 99
    sides: dict[str, Callable[[], None]] = {}
    methods: dict[str, dict[str, Any]] = {EAGER: {}, COMPILED: {}, WHOLE: {"method": "full"}}
    for side, settings in methods.items():
        model = prepared(models.classified(name, **settings), where)
        if side == COMPILED:
            model.compile_blocks()
        sides[side] = timed(step.step(model, images, labels, model), where)
    sides |= {side: timed(run, where) for side, run in step.peers(name, images, labels).items()}
    seconds = measuring.medians(measuring.interleaved(sides, repeats, time.perf_counter))
    return {side: {"seconds": seconds[side], "peak_mb": _peak_mb(run, where)} for side, run in sides.items()}


def _peak_mb(run: Callable[[], None], where: torch.device) -> float:
    """Return the most megabytes that a step adds to the device's memory; NaN on a CPU, which does not report it."""
    if where.type != "cuda":
        return float("nan")
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(where)
    torch.cuda.reset_peak_memory_stats(where)
    run()
    return (torch.cuda.max_memory_allocated(where) - before) / 1e6


def main() -> None:
    """Measure every architecture and print the table."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--model", action="append", help=f"timm's name, repeatable (default: {', '.join(PREDICTED)})")
    parser.add_argument("--batch", type=int, default=128, help="images per step (default: %(default)s)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    given = parser.parse_args()
    where = device.choose(given.device, 0)
    torch.manual_seed(0)
    rows: list[list[str]] = []
    measured: dict[str, Any] = {}
    for name in given.model or PREDICTED:
        measured[name] = measure(name, given.batch, where, given.repeats)
        whole = measured[name][WHOLE]
        for side, costs in measured[name].items():
            rate = given.batch / costs["seconds"]
            adapters = side in {EAGER, COMPILED} and name in FORWARD_GFLOP
            share = f"{rate * 2 * FORWARD_GFLOP[name] / 1000 / PEAK_TFLOPS:.0%}" if adapters else ""
            predicted = f"{PREDICTED[name]:,}" if side == COMPILED and name in PREDICTED else ""
            rows.append([
                name, side, f"{rate:,.0f}", predicted, share, f"{whole['seconds'] / costs['seconds']:.2f}",
                f"{costs['peak_mb']:,.0f}", f"{costs['peak_mb'] / whole['peak_mb']:.2f}",
            ])  # fmt: skip
    headers = ("model", "one step", "images/s", "predicted", f"of {PEAK_TFLOPS} TFLOP/s", "speed over whole",
               "MB", "MB over whole")  # fmt: skip
    about = {"batch": given.batch, "repeats": given.repeats, "device": device.describe(where)}
    measuring.report("gpu", headers, rows, {**about, "measured": measured})


if __name__ == "__main__":
    main()
