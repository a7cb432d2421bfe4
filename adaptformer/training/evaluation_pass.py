"""Passes in evaluation mode during training: the head's BatchNorm statistics, and the validation.

Shapes: N images of a split, D width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from adaptformer.base.classification_scores import NAMES, score
from adaptformer.data.labelled import LabelledImages
from adaptformer.model import batch_norm, inference
from adaptformer.training import head_statistics
from adaptformer.training.run import Run

BATCH = 64
"""Number of images that pass through the model at once."""


def recompute_statistics(run: Run) -> None:
    """Compute the heads' BatchNorm statistics, over the same training images each time."""
    train = run.data.train
    rows = head_statistics.rows(len(train.labels), run.params)
    with _evaluating(run):
        batch_norm.recompute_statistics(run.model, [_pooled(run, "statistics", train, rows)])


def validate(run: Run) -> dict[str, float]:
    """Return mean cross-entropy and the scores on the validation split, named as in EpochRow."""
    validation = run.data.validation
    labels = validation.labels
    with _evaluating(run):
        logits = run.model.logits(_pooled(run, "validation", validation, np.arange(len(labels))))
    loss = float(F.cross_entropy(logits, torch.from_numpy(labels).to(run.compute.device)))
    predicted = logits.argmax(1).cpu().numpy()
    classes = logits.shape[1]
    return {"val_loss": loss} | {f"val_{metric}": score(metric, labels, predicted, classes) for metric in NAMES}


@contextlib.contextmanager
def _evaluating(run: Run) -> Iterator[None]:
    """Run the body with the model in evaluation mode, without gradients, in the run's precision."""
    with inference.in_mode(run.model, training=False), torch.no_grad(), run.compute.autocast():
        yield


def _pooled(run: Run, source: str, split: LabelledImages, rows: NDArray[np.int64]) -> tuple[Tensor, ...]:
    """Return pooled features [N, D], for each head, of images of a split as evaluation uses them.

    Each process computes its share, from the cached outputs for `source` if there are any.
    """
    model, compute = run.model, run.compute
    share = compute.world.share(len(rows))
    if run.activation_cache.depth:
        batches = run.activation_cache.batches(source, share, BATCH)
    else:
        images = inference.prepared(
            split.images, rows[share], run.data.contract, batch_size=BATCH, device=compute.device
        )
        batches = map(model.pooled, images)
    features = [torch.stack(heads, dim=1) for heads in batches]
    none = torch.empty((0, len(model.heads), model.vit.embed_dim), device=compute.device)
    return compute.world.all_gather(torch.cat(features) if features else none, len(rows)).unbind(1)
