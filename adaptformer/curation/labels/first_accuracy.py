"""The accuracy of simple classifiers on the frozen backbone's features: a quick baseline before any training."""

from __future__ import annotations

import time

from adaptformer.config.params import Params
from adaptformer.config.run_folder import RunFolder
from adaptformer.curation.labels import probe
from adaptformer.data import manifest
from adaptformer.model import device
from adaptformer.model.embedding import BATCH, Embedding

SECONDS = 20.0
"""The time limit for embedding images; of a large data set, only a part is embedded."""
_FIRST, _GROWTH = BATCH, 4
"""The number of images that are always embedded, and the factor by which it grows while there is time."""
_MOST = 20_000
"""The largest number of images for fitting and evaluating the classifiers: more would take minutes."""
_FEWEST = 20
"""The smallest number of validation images in a part for a meaningful accuracy."""


def text(params: Params, folder: RunFolder, seconds: float = SECONDS) -> str:
    """Return a line for the terminal: accuracies of simple classifiers on the validation images, and the time taken.

    The images are taken in the order of their hashes: as many as the backbone embeds in about `seconds`, and at least
    _FIRST. Their features are stored as `data label-errors` does. Raises UserError if `data/` no longer matches the
    manifest.
    """
    if not folder.backbone.is_file():
        return "`adaptformer fetch`, then `adaptformer validate` tells how far the frozen backbone alone gets"
    table = manifest.read_manifest(folder.manifest)
    table = table[table["split"].isin(["train", "validation"])].sort_values("sha256", ignore_index=True)
    compute = device.choose(params.runtime.device, params.runtime.threads)
    embedding = Embedding(folder.backbone, params.image, compute, folder.embeddings)
    began = time.perf_counter()
    embedded, done, goal = began, 0, min(_FIRST, len(table))
    while goal > done:
        part, before = table[:goal], embedded
        features = embedding.of_data(part, folder.data, None)
        embedded = time.perf_counter()
        each, done = (embedded - before) / (goal - done), goal
        goal = min(len(table), _MOST, _GROWTH * done, done + int((seconds - (embedded - began)) / each))
    train, validation = (int((part["split"] == split).sum()) for split in ("train", "validation"))
    whole = len(part) == len(table)
    if validation < _FEWEST and not whole:
        return (
            f"no first accuracy: {seconds:.0f} s suffice for too few images; `adaptformer data label-errors` takes all"
        )
    accuracies = probe.first_accuracies(features, list(part["label"]), list(part["split"]))
    if not accuracies:
        return "no first accuracy: it needs validation images, and two classes in train"
    shares = ", ".join(f"{name} {share:.1%}" for name, share in accuracies.items())
    of = "" if whole else f" (a part of {len(table):,} images)"
    return (
        f"before any training: {shares} of {validation:,} validation images, from {train:,} training images{of}; took "
        f"{embedded - began:.1f} s for the features, then {time.perf_counter() - embedded:.1f} s"
    )
