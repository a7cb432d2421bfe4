"""The training loop: phases of epochs of steps, resumable after every epoch.

Shapes: B images of a batch, N images of a split, s model side, C classes.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adaptformer import randomness
from adaptformer.data import augmentation
from adaptformer.data.contract import ImageContract
from adaptformer.data.labelled import LabelledImages
from adaptformer.data.photos import Photos
from adaptformer.errors import UserError
from adaptformer.model import batch_norm, inference
from adaptformer.model.classifier import Classifier, restore, tuned_state
from adaptformer.model.device import Precision, computing
from adaptformer.model.parts import parts
from adaptformer.params import TuningParams
from adaptformer.tuning import balance, losses, optimiser_state, resume, schedule
from adaptformer.tuning.history import EpochRow
from adaptformer.tuning.optimiser import build_optimiser, learning_rate, set_learning_rate

log = logging.getLogger("adaptformer")

VALIDATION_BATCH = 256
STATISTICS_IMAGES = 2000
"""Over so many training images the head's BatchNorm statistics are computed; all, if there are fewer."""
SECONDS_BETWEEN_SIGNS = 15
"""A step's progress is logged this often: an epoch of a large model takes many minutes."""


@dataclass(frozen=True)
class Run:
    """Everything that one training run works with; `fingerprint` names all that its result depends on.

    `photos` are the images of `train`, in the same order, as training crops them.
    """

    model: Classifier
    train: LabelledImages
    photos: Photos
    validation: LabelledImages
    contract: ImageContract
    params: TuningParams
    device: torch.device
    precision: Precision
    state: Path
    fingerprint: dict[str, Any]


def train(run: Run, on_epoch: Callable[[EpochRow], None] = lambda _: None) -> tuple[list[EpochRow], int]:
    """Train `run.model`, leave it with the parameters of the best epoch, and return all rows and the index of that one.

    A state of the same run at `run.state` is resumed; rows from before the kill are handed to `on_epoch` again, so that
    every listener sees the whole history. Raises UserError when the loss is no longer finite.
    """
    began = time.perf_counter()
    model = run.model.to(run.device)
    phases = plan(run)
    state = resume.load(run.state, run.fingerprint)
    if state:
        restore(model, state.tuned, str(run.state))
        log.info("training resumes after epoch %d", len(state.rows))
        for row in state.rows:
            on_epoch(row)
    else:
        state = resume.State([], -1, {}, {}, {}, {})
    spent = state.seconds
    for number, phase, first in schedule.remaining(phases, state.rows):
        schedule.begin(model, phase)
        optimiser = build_optimiser(model, run.params)
        if first > 1:
            optimiser_state.unpack(optimiser, state.optimiser)
        else:
            _begin(run)
            state = dataclasses.replace(state, start=_copied(tuned_state(model)))
            if len(phases) > 1:
                log.info("phase %d of %d: %s, round %d", number, len(phases), phase.name, phase.round)
        for epoch in range(first, phase.epochs + 1):
            row = _guarded(run, phase, _epoch(run, phase, number, epoch, optimiser), state)
            if row.rolled_back:
                log.warning("phase %d, %s, is rolled back: validation loss %.4f", number, phase.name, row.val_loss)
                restore(model, state.start, "the state before the phase")
            state = _advanced(state, row, tuned_state(model), optimiser_state.pack(optimiser), run.params)
            state = dataclasses.replace(state, seconds=spent + time.perf_counter() - began)
            resume.save(run.state, state, run.fingerprint)
            log.info(
                "epoch %d/%d: train loss %.4f, validation loss %.4f, top-1 %.2f %%",
                epoch, phase.epochs, row.train_loss, row.val_loss, 100 * row.val_top1,
            )  # fmt: skip
            on_epoch(row)
            if row.rolled_back:
                break
    restore(model, state.best_tuned, "the best epoch")
    return state.rows, state.best


def plan(run: Run) -> list[schedule.Phase]:
    """Return the phases of a run. Raises UserError for params that do not fit its model or its data."""
    images = len(run.train.labels)
    if images < 2:
        raise UserError(
            f"the training split has {images} image{'' if images == 1 else 's'}, and BatchNorm needs two at least",
            "add images to data/, then run `adaptformer validate` again",
        )
    batch = min(run.params.batch_size, images)
    if batch // run.params.accumulate < 2:
        raise UserError(
            f"tuning.accumulate = {run.params.accumulate} makes micro-batches of one image out of a batch of {batch}",
            f"set it to {batch // 2} or less: BatchNorm needs two images in each",
        )
    tuned = {name: part for name, part in parts(run.model).items() if name in run.model.tuned}
    return schedule.plan(tuned, run.params)


def _begin(run: Run) -> None:
    """Bring the heads' BatchNorm statistics to where a phase starts from."""
    if run.params.head_statistics == "recomputed":
        _recompute_statistics(run)
    elif run.params.reset_statistics:
        for head in run.model.heads:
            head.batch_norm.reset_running_stats()


def _recompute_statistics(run: Run) -> None:
    """Compute the heads' BatchNorm statistics over the same training images each time."""
    rows = np.sort(
        randomness.permutation(len(run.train.labels), "head statistics", run.params.seed)[:STATISTICS_IMAGES]
    )
    batch_norm.recompute_statistics(
        run.model, run.train.images, rows, run.contract,
        batch_size=VALIDATION_BATCH, device=run.device, precision=run.precision,
    )  # fmt: skip


def _guarded(run: Run, phase: schedule.Phase, row: EpochRow, state: resume.State) -> EpochRow:
    """Mark the row where its phase must be taken back: it diverged, or ends clearly worse than the best before it.

    Phases that were taken back themselves are no measure: nothing of them is left in the model.
    Raises UserError where there is nothing to go back to.
    """
    diverged = not (math.isfinite(row.train_loss) and math.isfinite(row.val_loss))
    undone = {earlier.phase for earlier in state.rows if earlier.rolled_back}
    before = [earlier.val_loss for earlier in state.rows if earlier.phase not in undone | {row.phase}]
    if not before:
        if diverged:
            loss = row.val_loss if math.isfinite(row.train_loss) else row.train_loss
            raise UserError(
                f"training diverged in epoch {row.epoch}: the loss is {loss}",
                "lower tuning.base_lr, or lengthen the warm-up (tuning.warmup_epochs)",
            )
        return row
    worse = row.epoch == phase.epochs and row.val_loss > min(before) + run.params.guard
    return dataclasses.replace(row, rolled_back=int(diverged or worse))


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _advanced(
    state: resume.State, row: EpochRow, tuned: dict[str, Tensor], moments: dict[str, Tensor], params: TuningParams
) -> resume.State:
    """Return the state after one more epoch; on a full tie the earlier epoch stays the best."""
    rows = [*state.rows, row]
    state = dataclasses.replace(state, rows=rows, tuned=tuned, optimiser=moments)
    if row.rolled_back or (state.best >= 0 and not _merit(row, params) > _merit(rows[state.best], params)):
        return state
    return dataclasses.replace(state, best=len(rows) - 1, best_tuned=_copied(tuned))


def _merit(row: EpochRow, params: TuningParams) -> tuple[float, float]:
    """Return what is larger in a better epoch: the metric that chooses, then the loss (top-1 where loss chooses)."""
    if params.selection_metric == "loss":
        return -row.val_loss, row.val_top1
    return float(getattr(row, f"val_{params.selection_metric}")), -row.val_loss


def _epoch(run: Run, phase: schedule.Phase, number: int, epoch: int, optimiser: torch.optim.Optimizer) -> EpochRow:
    """Train one epoch, validate, and return its row."""
    params, device = run.params, run.device
    key = (params.seed, number, epoch)
    weights = None
    if params.balance != "none":
        weights = balance.class_weights(run.train.labels, run.model.head.linear.out_features, params.balance_power)
    order = torch.from_numpy(balance.order(run.train.labels, weights if params.balance == "sampler" else None, *key))
    in_loss = None
    if weights is not None and params.balance == "loss":
        in_loss = torch.from_numpy(weights).float()
    shapes = run.photos.shapes[order.numpy()]  # by draw: an image that the sampler draws twice gets two crops
    boxes = augmentation.random_boxes(shapes, params.crop_scale, params.crop_ratio, params.flip, *key)
    batch_size = min(params.batch_size, len(order))
    batches = len(order) // batch_size  # the last incomplete batch is dropped: a batch of one breaks BatchNorm
    loss_sum, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    rate, last_sign = 0.0, time.monotonic()
    run.model.train()
    for step in range(batches):
        rate = learning_rate(params, epoch - 1 + step / batches, phase.epochs, batches)
        set_learning_rate(optimiser, rate)
        drawn = slice(step * batch_size, (step + 1) * batch_size)
        chosen = order[drawn]
        randomness.seed_torch("step", *key, step)  # dropout and stochastic depth draw from it
        optimiser.zero_grad(set_to_none=True)
        weights = losses.image_weights(torch.from_numpy(run.train.labels[chosen.numpy()]), in_loss).to(device)
        micro_batches = (tensor.tensor_split(params.accumulate) for tensor in (chosen, boxes[drawn], weights))
        for micro, crops, share in zip(*micro_batches, strict=True):
            images, labels = _batch(run, micro, crops)
            with computing(device, run.precision):
                logits = run.model(images)
            loss = losses.weighted_cross_entropy(logits.float(), labels, share, params.label_smoothing)
            loss.backward()
            # Summed on the device: reading a number here would make every step wait for the one before.
            loss_sum += loss.detach()
            correct += (logits.argmax(1) == labels).sum()
        optimiser.step()
        if time.monotonic() - last_sign > SECONDS_BETWEEN_SIGNS:
            last_sign = time.monotonic()
            log.info("epoch %d/%d: step %d of %d", epoch, phase.epochs, step + 1, batches)
    if params.head_statistics == "recomputed":
        _recompute_statistics(run)
    val_loss, val_top1, balanced, macro_f1 = _validate(run)
    return EpochRow(
        round=phase.round,
        phase=number,
        epoch=epoch,
        lr=round(rate, 6),
        train_loss=round(float(loss_sum) / batches, 6),
        train_top1=round(float(correct) / (batches * batch_size), 6),
        val_loss=round(val_loss, 6),
        val_top1=round(val_top1, 6),
        val_balanced_accuracy=round(balanced, 6),
        val_macro_f1=round(macro_f1, 6),
        rolled_back=0,
    )


def _batch(run: Run, chosen: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return crops of the chosen images, normalised [B, 3, s, s], and their labels [B], on the device."""
    index, device, contract = chosen.numpy(), run.device, run.contract
    cropped = augmentation.crop([run.photos[i] for i in index], boxes, contract.size, contract.interpolation)
    mean, std = torch.tensor(contract.mean, device=device), torch.tensor(contract.std, device=device)
    labels = torch.from_numpy(run.train.labels[index]).to(device)
    return augmentation.normalise(augmentation.planes(cropped.to(device)), mean, std), labels


def _validate(run: Run) -> tuple[float, float, float, float]:
    """Return mean cross-entropy, top-1, balanced accuracy and macro-F1 on the validation split."""
    logits = inference.logits(
        run.model, run.validation.images, run.contract,
        batch_size=VALIDATION_BATCH, device=run.device, precision=run.precision,
    )  # fmt: skip
    labels = run.validation.labels
    loss = float(F.cross_entropy(logits, torch.from_numpy(labels).to(run.device)))
    predicted = logits.argmax(1).cpu().numpy()
    return loss, float((predicted == labels).mean()), *balance.scores(predicted, labels, logits.shape[1])
