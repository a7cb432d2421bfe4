"""The training loop: phases of epochs of steps, resumable after every epoch.

Shapes: B images of a batch, N images of a split, S stored side, s model side, C classes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptformer import randomness
from adaptformer.data import augmentation
from adaptformer.data.contract import ImageContract
from adaptformer.data.labelled import LabelledImages
from adaptformer.errors import UserError
from adaptformer.model import inference, optimiser_state
from adaptformer.model.classifier import Classifier, restore, trainable, tuned_state
from adaptformer.model.device import Precision, computing
from adaptformer.params import TuningParams
from adaptformer.tuning import optimiser, resume, schedule
from adaptformer.tuning.history import EpochRow

log = logging.getLogger("adaptformer")

VALIDATION_BATCH = 256
SECONDS_BETWEEN_SIGNS = 15
"""A step's progress is logged this often: an epoch of a large model takes many minutes."""


@dataclass(frozen=True)
class Run:
    """Everything that one training run works with; `fingerprint` names all that its result depends on."""

    model: Classifier
    train: LabelledImages
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
    model = run.model.to(run.device)
    phases = schedule.joint(trainable(model), run.params.epochs)
    state = resume.load(run.state, run.fingerprint)
    if state:
        restore(model, state.tuned, str(run.state))
        log.info("training resumes after epoch %d", len(state.rows))
        for row in state.rows:
            on_epoch(row)
    else:
        state = resume.State([], -1, {}, {}, {})
    for number, phase, first in schedule.remaining(phases, len(state.rows)):
        steps = optimiser.build(schedule.begin(model, phase), run.params)
        if first > 1:
            optimiser_state.unpack(steps, state.optimiser)
        for epoch in range(first, phase.epochs + 1):
            row = _epoch(run, phase, number, epoch, steps)
            state = _advanced(state, row, tuned_state(model), optimiser_state.pack(steps), run.params)
            resume.save(run.state, state, run.fingerprint)
            log.info(
                "epoch %d/%d: train loss %.4f, validation loss %.4f, top-1 %.2f %%",
                epoch, phase.epochs, row.train_loss, row.val_loss, 100 * row.val_top1,
            )  # fmt: skip
            on_epoch(row)
    restore(model, state.best_tuned, "the best epoch")
    return state.rows, state.best


def _advanced(
    state: resume.State, row: EpochRow, tuned: dict[str, Tensor], moments: dict[str, Tensor], params: TuningParams
) -> resume.State:
    """Return the state after one more epoch; on a full tie the earlier epoch stays the best."""
    rows = [*state.rows, row]
    if state.best >= 0 and _merit(row, params) <= _merit(rows[state.best], params):
        return resume.State(rows, state.best, tuned, state.best_tuned, moments)
    copied = {name: tensor.clone() for name, tensor in tuned.items()}
    return resume.State(rows, len(rows) - 1, tuned, copied, moments)


def _merit(row: EpochRow, params: TuningParams) -> tuple[float, float]:
    """Return what is larger in a better epoch: the metric that chooses, then the other."""
    return (row.val_top1, -row.val_loss) if params.selection_metric == "top1" else (-row.val_loss, row.val_top1)


def _epoch(run: Run, phase: schedule.Phase, number: int, epoch: int, steps: torch.optim.Optimizer) -> EpochRow:
    """Train one epoch, validate, and return its row."""
    params, device, contract = run.params, run.device, run.contract
    key = (params.seed, number, epoch)
    order = torch.from_numpy(randomness.permutation(len(run.train.labels), "order", *key))
    boxes = augmentation.random_boxes(len(order), params.crop_scale, params.crop_ratio, params.flip, *key)
    mean, std = torch.tensor(contract.mean, device=device), torch.tensor(contract.std, device=device)
    batch_size = min(params.batch_size, len(order))
    batches = len(order) // batch_size  # the last incomplete batch is dropped: a batch of one breaks BatchNorm
    loss_sum, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    rate, last_sign = 0.0, time.monotonic()
    run.model.train()
    for step in range(batches):
        rate = optimiser.learning_rate(params, epoch - 1 + step / batches, phase.epochs)
        for group in steps.param_groups:
            group["lr"] = rate
        chosen = order[step * batch_size : (step + 1) * batch_size]
        images, labels = _batch(run.train, chosen, device)
        images = augmentation.crop(images, boxes[chosen].to(device), contract.size, contract.interpolation)
        randomness.seed_torch("step", *key, step)  # dropout and stochastic depth draw from it
        with computing(device, run.precision):
            logits = run.model(augmentation.normalise(images, mean, std))
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=params.label_smoothing)
        steps.zero_grad(set_to_none=True)
        loss.backward()
        steps.step()
        # Summed on the device: reading a number here would make every step wait for the one before.
        loss_sum += loss.detach()
        correct += (logits.argmax(1) == labels).sum()
        if time.monotonic() - last_sign > SECONDS_BETWEEN_SIGNS:
            last_sign = time.monotonic()
            log.info("epoch %d/%d: step %d of %d", epoch, phase.epochs, step + 1, batches)
    train_loss = float(loss_sum) / batches
    val_loss, val_top1 = _validate(run)
    for loss_of_split in (train_loss, val_loss):  # only the second one knows what the last step did
        if not math.isfinite(loss_of_split):
            raise UserError(
                f"training diverged in epoch {epoch}: the loss is {loss_of_split}",
                "lower tuning.base_lr, or lengthen tuning.warmup_epochs",
            )
    train_top1 = float(correct) / (batches * batch_size)
    return EpochRow(number, epoch, *(round(n, 6) for n in (rate, train_loss, train_top1, val_loss, val_top1)))


def _batch(split: LabelledImages, chosen: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the chosen images [B, S, S, 3] uint8 and labels [B] on the device."""
    index = chosen.numpy()
    return torch.from_numpy(split.images[index]).to(device), torch.from_numpy(split.labels[index]).to(device)


def _validate(run: Run) -> tuple[float, float]:
    """Return mean cross-entropy and top-1 on the validation split."""
    logits = inference.logits(
        run.model, run.validation.images, run.contract,
        batch_size=VALIDATION_BATCH, device=run.device, precision=run.precision,
    )  # fmt: skip
    labels = torch.from_numpy(run.validation.labels).to(run.device)
    return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).float().mean())
