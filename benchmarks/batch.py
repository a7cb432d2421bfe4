"""Batch prediction of very many small images by each engine: images/s, and the cost of a million images by part.

`python -m benchmarks.batch --images 300000 --engine local` writes the images to a temporary folder (or to `--folder`,
which is kept and reused), lists them, predicts them, and prints one line per engine. Peak memory is that of the
command, which holds no images; each of its processes holds the model and one shard.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from adaptformer.base import memory, text_table
from adaptformer.batch_prediction import job, running
from adaptformer.batch_prediction.shard import PARTS
from adaptformer.sharding.engines import ENGINES, Engine
from benchmarks.measuring import machine

IN_A_FOLDER = 10_000
SIDE = 32


def write_images(folder: Path, count: int) -> None:
    """Write the missing ones of `count` grey PNG images of SIDE pixels, no two of which are alike."""
    for number in range(count):
        path = folder / f"{number // IN_A_FOLDER:05}" / f"{number:09}.png"
        if number % IN_A_FOLDER == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            coarse = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(np.kron(coarse, np.ones((4, 4), dtype=np.uint8))).resize((SIDE, SIDE)).save(path)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--engine", action="append", choices=list(ENGINES))
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--model", type=Path, default=Path("artifacts/model.onnx"))
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        images = given.folder or Path(temporary) / "images"
        began = time.perf_counter()
        write_images(images, given.images)
        print(f"{given.images:,} images written in {time.perf_counter() - began:.0f} s")
        rows = []
        for engine in given.engine or list(ENGINES):
            began = time.perf_counter()
            folder = str(Path(temporary) / engine)
            prepared = job.prepare(folder, [str(images)], given.model, 3, job.SHARD_SIZE)
            listing = time.perf_counter() - began
            summary = running.run(prepared, Engine(engine, given.workers), "cpu")
            each = [f"{summary.parts[part] * 1e6 / summary.computed:,.0f}" for part in (*PARTS, "total")]
            rows.append(
                (engine, str(summary.workers), f"{listing:.1f}", f"{summary.seconds:.1f}",
                 f"{summary.computed / summary.seconds:,.0f}", *each, f"{memory.peak_mb():.0f}")
            )  # fmt: skip
            print(" ".join(rows[-1]), flush=True)
    header = ("engine", "processes", "listing s", "s", "images/s", *PARTS, "total", "peak MB")
    print(text_table.aligned(rows, header))
    print("columns from read to total: process seconds for a million images")


if __name__ == "__main__":
    main()
