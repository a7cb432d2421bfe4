"""The images that each step of an epoch trains on: their order, their crops, and their loading.

Shapes: N draws of an epoch, B images of a micro-batch, C classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptformer.training import balance, fixed_crops
from adaptformer.training.prefetch import MicroBatch, prefetch
from adaptformer.training.run import Run

PREFETCHING_DEVICES = {"cuda"}
"""Devices for which batches are prepared in a thread: on a CPU the thread would only take cores from training."""


@dataclass(frozen=True)
class Draws:
    """The draws of an epoch in order: the index of each image [N], its crop [N, 5], and its fixed crop [N].

    `views` is None if every draw has a new crop. `class_weights` [C] are the weights in the loss, None if all images
    count the same.
    """

    images: Tensor
    boxes: Tensor
    views: Tensor | None
    class_weights: Tensor | None
    batch_size: int

    @property
    def steps(self) -> int:
        """The number of steps; the last incomplete batch is dropped: a batch of one breaks BatchNorm."""
        return len(self.images) // self.batch_size

    def of_step(self, step: int) -> Draws:
        """Return the draws of one step, which counts from 0."""
        rows = slice(step * self.batch_size, (step + 1) * self.batch_size)
        numbers = None if self.views is None else self.views[rows]
        return dataclasses.replace(self, images=self.images[rows], boxes=self.boxes[rows], views=numbers)


def draw(run: Run, *key: int) -> Draws:
    """Return the draws of an epoch, which depend on its key (seed, phase, epoch) alone."""
    params, labels = run.params, run.data.train.labels
    weights = None
    if params.class_balance != "none":
        weights = balance.class_weights(labels, run.model.head.linear.out_features, params.class_balance_power)
    images = balance.order(labels, weights if params.class_balance == "sampler" else None, *key)
    boxes, numbers = fixed_crops.boxes(params, run.data.photos.shapes, images, *key)
    in_loss = torch.from_numpy(weights).float() if weights is not None and params.class_balance == "loss" else None
    return Draws(torch.from_numpy(images), boxes, numbers, in_loss, min(params.batch_size, len(images)))


def load(run: Run, draws: Draws, first: int) -> Iterator[list[MicroBatch]]:
    """Yield this process's share of the micro-batches of each step from the step `first` on."""
    steps = (micro_batches(run, draws.of_step(step)) for step in range(first, draws.steps))
    return prefetch(steps) if run.compute.device.type in PREFETCHING_DEVICES else steps


def micro_batches(run: Run, step: Draws) -> list[MicroBatch]:
    """Return this process's share of the micro-batches of a step, with crops unless outputs are cached."""
    labels = torch.from_numpy(run.data.train.labels[step.images.numpy()])
    weights = balance.image_weights(labels, step.class_weights)
    numbers = step.images if step.views is None else step.views
    batches = []
    # Sizes differ by at most one image; torch's `chunk` could leave a single image for the last.
    columns = (step.images, step.boxes, numbers, labels, weights)
    for whole in zip(*(column.tensor_split(run.params.gradient_accumulation) for column in columns), strict=True):
        total = len(whole[0])
        images, boxes, ids, classes, shares = (column[run.compute.world.share(total)] for column in whole)
        pixels = None if run.activation_cache.depth else run.data.crops(images, boxes)
        batch = MicroBatch(ids, classes, shares, pixels, total)
        batches.append(batch.pinned() if run.compute.device.type == "cuda" else batch)
    return batches
