"""G: growth of a training step's CPU seconds with images, blocks and bottleneck: `python -m benchmarks.growth`.

One thread, fp32, AdaptFormer with a class-token head on random images. Prints each series with its exponent, the slope
of log seconds over log size by least squares: 1 for images and blocks means that time grows only as fast as the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks import measuring, models
from benchmarks.step import step

SIZES: dict[str, Sequence[int]] = {"images": (4, 8, 16, 32), "blocks": (3, 6, 12), "bottleneck": (16, 64, 256)}


def sides(model: str) -> dict[str, Callable[[], object]]:
    """Return one step for each size of each series."""
    made: dict[str, Callable[[], object]] = {}
    for name, sizes in SIZES.items():
        for size in sizes:
            images = torch.randn(size if name == "images" else 8, 3, 224, 224)
            settings: dict[str, Any] = {"bottlenecks": [size]} if name == "bottleneck" else {}
            classified = models.classified(model, **settings)
            if name == "blocks":
                classified.vit.blocks = classified.vit.blocks[:size]
            labels = torch.zeros(len(images), dtype=torch.int64)
            made[f"{name} {size}"] = step(classified, images, labels, classified)
    return made


def main() -> None:
    """Time all series and print them with their exponents."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--model", default="vit_tiny_patch16_224", help="timm's name (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    medians = measuring.medians(measuring.interleaved(sides(given.model), given.repeats))
    rows, exponents = [], {}
    for name, sizes in SIZES.items():
        seconds = [medians[f"{name} {size}"] for size in sizes]
        exponents[name] = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
        values = ", ".join(f"{size}: {value:.2f} s" for size, value in zip(sizes, seconds, strict=True))
        rows.append([name, values, f"{exponents[name]:.2f}"])
    wider = medians["bottleneck 256"] / medians["bottleneck 64"]
    targets = [
        measuring.Target("exponent of the images", exponents["images"], 1.03, at_most=True),
        measuring.Target("a step with r = 256 over one with r = 64", wider, 1.08, at_most=True),
    ]
    measured = {"seconds": medians, "exponents": exponents}
    measuring.report("growth", ("series", "one step", "exponent"), rows, measured, targets)


if __name__ == "__main__":
    main()
