"""One epoch of training: the steps, the head's statistics, the validation.

Shapes: B images of a batch, N images of a split, s model side, C classes.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from adaptformer import randomness
from adaptformer.data import augmentation
from adaptformer.data.contract import ImageContract
from adaptformer.data.labelled import LabelledImages
from adaptformer.data.photos import StoredImages
from adaptformer.model import batch_norm, inference
from adaptformer.model.classifier import Classifier
from adaptformer.model.device import Precision, computing
from adaptformer.params import TuningParams
from adaptformer.tuning import balance, schedule
from adaptformer.tuning.history import EpochRow
from adaptformer.tuning.optimiser import learning_rate, set_learning_rate

log = logging.getLogger("adaptformer")

VALIDATION_BATCH = 256
STATISTICS_IMAGES = 2000
"""Over so many training images the head's BatchNorm statistics are computed; all, if there are fewer."""
SECONDS_BETWEEN_LOG_LINES = 15
"""A step's progress is logged this often: an epoch of a large model takes many minutes."""


@dataclass(frozen=True)
class Run:
    """Everything that one training run works with; `fingerprint` names all that its result depends on.

    `photos` are the images of `train`, in the same order, as training crops them.
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
    fingerprint: dict[str, Any]


def train_epoch(run: Run, phase: schedule.Phase, number: int, epoch: int, optimiser: torch.optim.Optimizer) -> EpochRow:
    """Train epoch `epoch` of the phase with that number, validate, and return the epoch's row."""
    trained = _train(run, phase, number, epoch, optimiser)
    if run.params.head_statistics == "recomputed":
        recompute_statistics(run)
    figures = {name: round(value, 6) for name, value in {**trained, **_validate(run)}.items()}
    return EpochRow(round=phase.round, phase=number, epoch=epoch, **figures, rolled_back=0)


def _train(
    run: Run, phase: schedule.Phase, number: int, epoch: int, optimiser: torch.optim.Optimizer
) -> dict[str, float]:
    """Make the steps of an epoch; return mean loss, top-1, and the learning rate of the last step, as in EpochRow."""
    params, labels = run.params, run.train.labels
    key = (params.seed, number, epoch)
    by_class = None
    if params.balance != "none":
        by_class = balance.class_weights(labels, run.model.head.linear.out_features, params.balance_power)
    order = torch.from_numpy(balance.order(labels, by_class if params.balance == "sampler" else None, *key))
    in_loss = torch.from_numpy(by_class).float() if by_class is not None and params.balance == "loss" else None
    shapes = run.photos.shapes[order.numpy()]  # by draw: an image that the sampler draws twice gets two crops
    boxes = augmentation.random_boxes(shapes, params.crop_scale, params.crop_ratio, params.flip, *key)
    batch_size = min(params.batch_size, len(order))
    batches = len(order) // batch_size  # the last incomplete batch is dropped: a batch of one breaks BatchNorm
    loss_sum, correct = torch.zeros((), device=run.device), torch.zeros((), device=run.device)
    rate, last_logged = 0.0, time.monotonic()
    run.model.train()
    for step in range(batches):
        rate = learning_rate(params, epoch - 1 + step / batches, phase.epochs, batches)
        set_learning_rate(optimiser, rate)
        randomness.seed_torch("step", *key, step)  # dropout and stochastic depth draw from it
        drawn = slice(step * batch_size, (step + 1) * batch_size)
        weights = balance.image_weights(torch.from_numpy(labels[order[drawn].numpy()]), in_loss)
        loss, hits = _step(run, optimiser, order[drawn], boxes[drawn], weights)
        # Summed on the device: reading a number here would make every step wait for the one before.
        loss_sum += loss
        correct += hits
        if time.monotonic() - last_logged > SECONDS_BETWEEN_LOG_LINES:
            last_logged = time.monotonic()
            log.info("epoch %d/%d: step %d of %d", epoch, phase.epochs, step + 1, batches)
    top1 = float(correct) / (batches * batch_size)
    return {"lr": rate, "train_loss": float(loss_sum) / batches, "train_top1": top1}


def _step(
    run: Run, optimiser: torch.optim.Optimizer, chosen: Tensor, boxes: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Make one optimiser step of several micro-batches; return its loss and how many images are right, both 0-d."""
    loss_sum, correct = torch.zeros((), device=run.device), torch.zeros((), device=run.device)
    optimiser.zero_grad(set_to_none=True)
    # Of equal size but for one image, where torch's `chunk` could leave a single image for the last.
    micro_batches = (tensor.tensor_split(run.params.accumulate) for tensor in (chosen, boxes, weights))
    for micro, crops, shares in zip(*micro_batches, strict=True):
        images, labels = _batch(run, micro, crops)
        with computing(run.device, run.precision):
            logits = run.model(images)
        loss = balance.weighted_cross_entropy(logits, labels, shares.to(run.device), run.params.label_smoothing)
        loss.backward()
        loss_sum += loss.detach()
        correct += (logits.argmax(1) == labels).sum()
    optimiser.step()
    return loss_sum, correct


def _batch(run: Run, chosen: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return crops of the chosen images, normalised [B, 3, s, s], and their labels [B], on the device."""
    index, device, contract = chosen.numpy(), run.device, run.contract
    cropped = augmentation.crop(run.photos.take(index), boxes, contract.size, contract.interpolation)
    mean, std = torch.tensor(contract.mean, device=device), torch.tensor(contract.std, device=device)
    labels = torch.from_numpy(run.train.labels[index]).to(device)
    return augmentation.normalise(augmentation.planes(cropped.to(device)), mean, std), labels


def statistics_rows(images: int, params: TuningParams) -> NDArray[np.int64]:
    """Return which of the training images, sorted, the head's BatchNorm statistics are computed over; maybe none."""
    count = STATISTICS_IMAGES if params.head_statistics == "recomputed" else 0
    return np.sort(randomness.permutation(images, "head statistics", params.seed)[:count])


def recompute_statistics(run: Run) -> None:
    """Compute the heads' BatchNorm statistics over the same training images each time."""
    rows = statistics_rows(len(run.train.labels), run.params)
    batch_norm.recompute_statistics(
        run.model, run.train.images, rows, run.contract,
        batch_size=VALIDATION_BATCH, device=run.device, precision=run.precision,
    )  # fmt: skip


def _validate(run: Run) -> dict[str, float]:
    """Return mean cross-entropy, top-1, balanced accuracy and macro-F1 on the validation split, as in EpochRow."""
    logits = inference.logits(
        run.model, run.validation.images, run.contract,
        batch_size=VALIDATION_BATCH, device=run.device, precision=run.precision,
    )  # fmt: skip
    labels = run.validation.labels
    loss = float(F.cross_entropy(logits, torch.from_numpy(labels).to(run.device)))
    predicted = logits.argmax(1).cpu().numpy()
    recall, f1 = balance.scores(predicted, labels)
    top1 = float((predicted == labels).mean())
    return {"val_loss": loss, "val_top1": top1, "val_balanced_accuracy": recall, "val_macro_f1": f1}
