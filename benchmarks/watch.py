"""How often the expected accuracy holds: `python -m benchmarks.watch [RUN_FOLDER]`, after the pipeline.

Draws images of the test split, which neither training nor validation saw, hides their labels, and asks whether the
share that the model gets right lies within the interval of monitoring/expected_accuracy.py. It should in 95 % of the
draws.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from adaptformer import randomness
from adaptformer.data import manifest
from adaptformer.export.predictor import Predictor
from adaptformer.monitoring import expected_accuracy
from adaptformer.run_folder import RunFolder
from benchmarks import measuring


def main() -> None:
    """Print the share of draws inside, by the number of images drawn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("artifacts"), help="a run folder")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200])
    given = parser.parse_args()
    folder = RunFolder(given.folder, given.data)
    predictor, table = Predictor(folder.model, device="cpu"), manifest.read_manifest(folder.manifest)
    confidence, right = {}, {}
    for split in ("validation", "test"):
        rows = manifest.rows(table, split)
        contents = ((folder.data / path).read_bytes() for path in rows["path"])
        probabilities = np.concatenate(list(predictor.probabilities(contents)))
        confidence[split] = probabilities.max(axis=1)
        right[split] = np.array(predictor.classes)[probabilities.argmax(axis=1)] == rows["label"].to_numpy()
    rows, targets = [], []
    for size in given.sizes:
        inside, error, width = [], [], []
        for draw in range(given.draws):
            chosen = randomness.generator("watch draw", size, draw).choice(len(right["test"]), size, replace=False)
            found = expected_accuracy.estimate(
                confidence["validation"], right["validation"], confidence["test"][chosen]
            )
            true = right["test"][chosen].mean()
            inside.append(found.low <= true <= found.high)
            error.append(abs(found.value - true))
            width.append(found.high - found.low)
        share = float(np.mean(inside))
        rows.append([f"{size}", f"{share:.1%}", f"{np.mean(error):.3f}", f"{np.mean(width):.3f}"])
        targets.append(measuring.Target(f"inside, {size} images", share, 0.9))
    print(f"accuracy: {right['validation'].mean():.3f} validation ({len(right['validation'])}), ", end="")
    print(f"{right['test'].mean():.3f} test ({len(right['test'])}); {given.draws} draws each")
    measuring.report("watch", ["images", "inside", "mean error", "mean width"], rows, {"rows": rows}, targets)


if __name__ == "__main__":
    main()
