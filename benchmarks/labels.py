"""Search for planted wrong labels: `python -m benchmarks.labels RUN_FOLDER`, after `validate` and `fetch`.

A random share of all labels is replaced by other random classes; then the average precision of the ranking of
`adaptformer data label-errors` is measured. A random ranking has an average precision of that share.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from adaptformer.config import params
from adaptformer.config.run_folder import RunFolder
from adaptformer.curation.labels import ranking
from adaptformer.data import manifest
from adaptformer.data.cache import ImageCache
from adaptformer.model.embedding import Embedding
from benchmarks import measuring


def main() -> None:
    """Plant wrong labels a few times and print how many of them are found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("artifacts"), help="a run folder")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--share", type=float, default=0.05, help="share of all labels that are made wrong")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    folder = RunFolder(given.folder, given.data)
    table = manifest.read_manifest(folder.manifest)
    image = params.read().params.image
    cache = ImageCache(folder.image_cache, None)
    embedding = Embedding(folder.backbone, image, torch.device("cpu"), folder.embeddings)
    features = embedding.of_data(table, folder.data, cache)
    classes = np.unique(table["label"])
    rows = []
    for seed in range(given.seeds):
        numbers = np.random.default_rng(seed)
        planted = numbers.permutation(len(table)) < round(given.share * len(table))
        steps = numbers.integers(1, len(classes), len(table))
        right = np.searchsorted(classes, table["label"])
        labels = classes[np.where(planted, (right + steps) % len(classes), right)]
        began = time.perf_counter()
        ranked = ranking.rank(table.assign(label=labels), features, None).set_index("path").loc[table["path"]]
        seconds = time.perf_counter() - began
        precision = average_precision_score(planted, 1 - ranked["label_probability"])
        named = (ranked["likely_wrong"] == "yes").to_numpy()
        row = {
            "average precision": round(float(precision), 3),
            "times chance": round(float(precision / given.share), 1),
            "named": int(named.sum()),
            "of them planted": round(float((named & planted).sum() / max(1, named.sum())), 3),
            "of planted named": round(float((named & planted).sum() / planted.sum()), 3),
            "seconds": round(seconds, 1),
        }
        rows.append({"seed": seed, **row})
    print(f"{len(table):,} images, {len(classes)} classes, {planted.sum()} labels made wrong")
    cells = [[str(value) for value in row.values()] for row in rows]
    measuring.report("labels", list(rows[0]), cells, {"images": len(table), "share": given.share, "runs": rows})


if __name__ == "__main__":
    main()
