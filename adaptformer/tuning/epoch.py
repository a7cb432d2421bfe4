"""One epoch of training: the steps, the head's statistics, the validation.

Shapes: B images of a batch, N images of a split, s model side, C classes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from adaptformer.base import progress, randomness
from adaptformer.base.scores import NAMES, score
from adaptformer.config.params import TuningParams
from adaptformer.data import augmentation
from adaptformer.data.contract import ImageContract
from adaptformer.data.labelled import LabelledImages
from adaptformer.data.photos import StoredImages
from adaptformer.data.squares import Images
from adaptformer.model import batch_norm, inference
from adaptformer.model.classifier import Classifier
from adaptformer.model.device import Precision, autocast
from adaptformer.model.parts import parts
from adaptformer.tuning import balance, schedule, stored_features, views
from adaptformer.tuning.batches import MicroBatch, prefetch
from adaptformer.tuning.data_parallel import World
from adaptformer.tuning.history import EpochRow
from adaptformer.tuning.optimiser import learning_rate, set_learning_rate
from adaptformer.tuning.prefix import Prefix, Source, first_trained
from adaptformer.tuning.resume import Partial

log = logging.getLogger("adaptformer")

VALIDATION_BATCH = 64
STATISTICS_IMAGES = 2000
"""Number of training images over which the head's BatchNorm statistics are computed; all, if there are fewer."""
SECONDS_BETWEEN_LOG_LINES = 15
"""The progress of an epoch is logged this often: an epoch of a large model takes many minutes."""
_PREPARED_AHEAD = {"cuda"}
"""Devices for which batches are prepared in a thread: on a CPU the thread would only take cores from training."""


@dataclass(frozen=True)
class Run:
    """The inputs of one training run; `fingerprint` holds everything on which its result depends.

    `photos` are the images of `train`, in the same order, as training crops them. The state is saved after each epoch
    and, unless `save_steps` is 0, every `save_steps` steps within an epoch. `prefix` caches outputs of frozen blocks in
    at most `activations_gb` of memory. Unless `features` is None, the features of a linear probe are kept in that
    folder for later runs, in at most as much disk space. With `any_code` a state of other code is resumed too. `world`
    are the processes that train together.
    """

    model: Classifier
    train: LabelledImages
    photos: StoredImages
    validation: LabelledImages
    contract: ImageContract
    params: TuningParams
    device: torch.device
    precision: Precision
    state: Path
    save_steps: int
    activations_gb: float
    fingerprint: dict[str, Any]
    features: Path | None = None
    any_code: bool = False
    prefix: Prefix = dataclasses.field(default_factory=Prefix)
    world: World = dataclasses.field(default_factory=World)

    @cached_property
    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        """The contract's mean and std on the device, each [3]."""
        mean, std = (torch.tensor(values, device=self.device) for values in (self.contract.mean, self.contract.std))
        return mean, std


class Network(nn.Module):
    """The run's model as a module from a micro-batch on the device to logits."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.model = run.model
        self._run = run

    def forward(self, batch: MicroBatch) -> Tensor:
        """Return the logits [B, C] of the micro-batch, from its pixels or from cached outputs of frozen blocks."""
        run = self._run
        if batch.pixels is not None:
            logits: Tensor = self.model(_normalised(run, batch.pixels))
            return logits
        return self.model.logits(run.prefix.pooled(self.model, "train", batch.chosen, run.device))


def train_epoch(
    run: Run,
    phase: schedule.Phase,
    number: int,
    epoch: int,
    optimiser: torch.optim.Optimizer,
    network: nn.Module,
    done: Partial | None = None,
    save: Callable[[Partial], None] = lambda _: None,
) -> EpochRow:
    """Train epoch `epoch` of the phase with that number, validate, and return the epoch's row.

    The steps of `done` are skipped. Every `run.save_steps` steps, `save` is called with the steps done so far.
    `network` is the run's Network, wrapped by its `world`.
    """
    trained = _train(run, phase, number, epoch, optimiser, network, done or Partial(0, 0.0, 0.0), save)
    if run.params.head_statistics == "recomputed":
        recompute_statistics(run)
    figures = {name: round(value, 6) for name, value in {**trained, **_validate(run)}.items()}
    return EpochRow(round=phase.round, phase=number, epoch=epoch, **figures, rolled_back=0)


def _train(
    run: Run,
    phase: schedule.Phase,
    number: int,
    epoch: int,
    optimiser: torch.optim.Optimizer,
    network: nn.Module,
    done: Partial,
    save: Callable[[Partial], None],
) -> dict[str, float]:
    """Run the steps of an epoch after those `done`; return mean loss, top-1 and the last rate, named as in EpochRow."""
    params, labels = run.params, run.train.labels
    key = (params.seed, number, epoch)
    by_class = None
    if params.balance != "none":
        by_class = balance.class_weights(labels, run.model.head.linear.out_features, params.balance_power)
    order = torch.from_numpy(balance.order(labels, by_class if params.balance == "sampler" else None, *key))
    in_loss = torch.from_numpy(by_class).float() if by_class is not None and params.balance == "loss" else None
    boxes, numbers = views.boxes(params, run.photos.shapes, order.numpy(), *key)
    batch_size = min(params.batch_size, len(order))
    batches = len(order) // batch_size  # the last incomplete batch is dropped: a batch of one breaks BatchNorm
    world = run.world
    before = (done.loss_sum, done.correct) if world.is_main else (0.0, 0.0)
    loss_sum, correct = (torch.tensor(value, device=run.device) for value in before)
    rate, last_logged = 0.0, time.monotonic()
    run.model.train()
    if numbers is not None:
        # With fixed views, frozen blocks must give the same outputs each time, cached or computed again.
        run.model.vit.blocks[: first_trained(run.model)].eval()
    prepared = (
        _micro_batches(run, order[drawn], boxes[drawn], None if numbers is None else numbers[drawn], in_loss)
        for drawn in (slice(step * batch_size, (step + 1) * batch_size) for step in range(done.steps, batches))
    )
    steps = prefetch(prepared) if run.device.type in _PREPARED_AHEAD else prepared
    label = f"{phase.name}, epoch {epoch} of {phase.epochs}"
    steps = progress.steps(steps, label, batches * batch_size, "images", lambda _: batch_size, done.steps * batch_size)
    for step, micro_batches in enumerate(steps, start=done.steps):
        rate = learning_rate(params, epoch - 1 + step / batches, phase.epochs, batches, batch_size)
        set_learning_rate(optimiser, rate)
        randomness.seed_torch("step", *key, step)  # for dropout and stochastic depth
        loss, hits = _step(run, network, optimiser, micro_batches)
        # Summed on the device: reading a value here would make each step wait for the previous one.
        loss_sum += loss
        correct += hits
        if run.save_steps and (step + 1) % run.save_steps == 0 and step + 1 < batches:
            save(Partial(step + 1, float(world.all_reduce(loss_sum)), float(world.all_reduce(correct))))
        if time.monotonic() - last_logged > SECONDS_BETWEEN_LOG_LINES:
            last_logged = time.monotonic()
            log.info("epoch %d/%d: step %d of %d", epoch, phase.epochs, step + 1, batches)
    top1 = float(world.all_reduce(correct)) / (batches * batch_size)
    return {"lr": rate, "train_loss": float(world.all_reduce(loss_sum)) / batches, "train_top1": top1}


def _micro_batches(
    run: Run, images: Tensor, boxes: Tensor, numbers: Tensor | None, in_loss: Tensor | None
) -> list[MicroBatch]:
    """Return this process's share of the micro-batches of a step; `numbers` are those of fixed views, if any."""
    labels = torch.from_numpy(run.train.labels[images.numpy()])
    weights = balance.image_weights(labels, in_loss)
    chosen = images if numbers is None else numbers
    made = []
    # Sizes differ by at most one image; torch's `chunk` could leave a single image for the last.
    split = (tensor.tensor_split(run.params.accumulate) for tensor in (images, boxes, chosen, labels, weights))
    for whole in zip(*split, strict=True):
        total = len(whole[0])
        rows, crops, drawn, classes, shares = (tensor[run.world.share(total)] for tensor in whole)
        batch = MicroBatch(drawn, classes, shares, None if run.prefix.depth else _cropped(run, rows, crops), total)
        made.append(batch.pinned() if run.device.type == "cuda" else batch)
    return made


def _step(
    run: Run, network: nn.Module, optimiser: torch.optim.Optimizer, micro_batches: list[MicroBatch]
) -> tuple[Tensor, Tensor]:
    """Make one optimiser step of several micro-batches.

    Return this process's part of the loss, and its number of correctly classified images, both 0-d.
    """
    loss_sum, correct = torch.zeros((), device=run.device), torch.zeros((), device=run.device)
    optimiser.zero_grad(set_to_none=True)
    for number, batch in enumerate((micro.to(run.device) for micro in micro_batches), start=1):
        run.world.images = batch.total
        # Processes exchange gradients once per step, after the last micro-batch.
        alone = run.world.size > 1 and number < len(micro_batches)
        with network.no_sync() if alone else contextlib.nullcontext():  # type: ignore[operator]
            with autocast(run.device, run.precision):
                logits = network(batch)
            loss = balance.weighted_cross_entropy(logits, batch.labels, batch.weights, run.params.label_smoothing)
            (loss * run.world.size).backward()  # undoes the mean over processes: weights are shares of the whole step
        loss_sum += loss.detach()
        correct += (logits.argmax(1) == batch.labels).sum()
    optimiser.step()
    return loss_sum, correct


def _cropped(run: Run, images: Tensor, boxes: Tensor) -> Tensor:
    """Return crops of images [B, s, s, 3] uint8."""
    contract = run.contract
    return augmentation.crop(run.photos.take(images.numpy()), boxes, contract.size, contract.interpolation)


def _normalised(run: Run, pixels: Tensor) -> Tensor:
    """Return crops on the device as the model's input [B, 3, s, s]."""
    return augmentation.normalise(augmentation.planes(pixels), *run.mean_and_std)


def hold_prefix(run: Run) -> None:
    """Cache the outputs of the frozen blocks below the first block that trains now, if views are fixed."""
    if not run.params.views:
        return
    number = views.count(run.params)
    boxes = views.fixed(run.params, run.photos.shapes).flatten(0, 1)
    statistics = torch.from_numpy(statistics_rows(len(run.train.labels), run.params))

    def squares(images: Images, chosen: Tensor) -> Tensor:
        rows = chosen.numpy()
        (batch,) = inference.prepared(images, rows, run.contract, batch_size=len(rows), device=run.device)
        return batch

    sources = {
        "train": Source(
            len(boxes), lambda chosen: _normalised(run, _cropped(run, chosen // number, boxes[chosen]).to(run.device))
        ),
        "validation": Source(len(run.validation.labels), lambda chosen: squares(run.validation.images, chosen)),
    }
    if run.params.head_statistics == "recomputed":
        sources["statistics"] = Source(len(statistics), lambda chosen: squares(run.train.images, statistics[chosen]))
    stored = None
    if run.features and all(part.kind == "head" for name, part in parts(run.model).items() if name in run.model.tuned):
        stored = stored_features.of_run(run.features, run.fingerprint, run.device, run.activations_gb)
    run.prefix.move(run.model, first_trained(run.model), sources, run.precision, run.activations_gb, stored)


def statistics_rows(images: int, params: TuningParams) -> NDArray[np.int64]:
    """Return the sorted indices of the training images for the head's BatchNorm statistics; empty if not recomputed."""
    count = STATISTICS_IMAGES if params.head_statistics == "recomputed" else 0
    return np.sort(randomness.permutation(images, "head statistics", params.seed)[:count])


def recompute_statistics(run: Run) -> None:
    """Compute the heads' BatchNorm statistics, over the same training images each time."""
    rows = statistics_rows(len(run.train.labels), run.params)
    with _evaluating(run):
        batch_norm.recompute_statistics(run.model, [_pooled(run, "statistics", run.train, rows)])


def _pooled(run: Run, part: str, split: LabelledImages, rows: NDArray[np.int64]) -> tuple[Tensor, ...]:
    """Return pooled features [N, D], for each head, of images of a split as evaluation uses them.

    Each process computes its share, from the cached outputs for `part` if there are any.
    """
    share = run.world.share(len(rows))
    if run.prefix.depth:
        batches = run.prefix.batches(run.model, part, share, VALIDATION_BATCH, run.device)
    else:
        images = inference.prepared(
            split.images, rows[share], run.contract, batch_size=VALIDATION_BATCH, device=run.device
        )
        batches = map(run.model.pooled, images)
    found = [torch.stack(heads, dim=1) for heads in batches]
    none = torch.empty((0, len(run.model.heads), run.model.vit.embed_dim), device=run.device)
    return run.world.all_gather(torch.cat(found) if found else none, len(rows)).unbind(1)


@contextlib.contextmanager
def _evaluating(run: Run) -> Iterator[None]:
    """Run the body with the model in evaluation mode, without gradients, in the run's precision."""
    training = run.model.training
    run.model.eval()
    with torch.no_grad(), autocast(run.device, run.precision):
        yield
    run.model.train(training)


def _validate(run: Run) -> dict[str, float]:
    """Return mean cross-entropy and the scores on the validation split, named as in EpochRow."""
    labels = run.validation.labels
    rows = np.arange(len(labels))
    with _evaluating(run):
        logits = run.model.logits(_pooled(run, "validation", run.validation, rows))
    loss = float(F.cross_entropy(logits, torch.from_numpy(labels).to(run.device)))
    predicted = logits.argmax(1).cpu().numpy()
    classes = logits.shape[1]
    return {"val_loss": loss} | {f"val_{metric}": score(metric, labels, predicted, classes) for metric in NAMES}
