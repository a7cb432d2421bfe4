"""The training loop: phases of epochs, resumable after every epoch; the result is the model of the best epoch."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from adaptformer.base.errors import UserError
from adaptformer.config.params import TuningParams
from adaptformer.model import device
from adaptformer.model.classifier import restore, trainable_state_dict
from adaptformer.model.parts import parts
from adaptformer.tuning import resume, schedule
from adaptformer.tuning.data_parallel import make_distributed
from adaptformer.tuning.epoch import Network, Run, hold_prefix, recompute_statistics, train_epoch
from adaptformer.tuning.history import EpochRow
from adaptformer.tuning.optimiser import build_optimiser, pack_state, unpack_state, warmup_epochs

log = logging.getLogger("adaptformer")


def train(run: Run, on_epoch: Callable[[EpochRow], None] = lambda _: None) -> tuple[list[EpochRow], int]:
    """Train `run.model`, set it to the parameters of the best epoch, and return all rows and the index of the best.

    A state of the same run at `run.state` is resumed. Its rows are passed to `on_epoch` again, so that the caller sees
    the whole history. Of several processes, only the leader reads and writes the state. Raises UserError if the loss
    is no longer finite.
    """
    began = time.perf_counter()
    model, world = run.model.to(run.device), run.world
    phases = plan(run)
    make_distributed(model, world)
    state = _resumed(run, on_epoch)
    spent = state.seconds

    def seconds() -> float:
        return spent + time.perf_counter() - began

    for number, phase, first in schedule.remaining(phases, state.rows):
        schedule.begin(model, phase)
        hold_prefix(run)
        optimiser = build_optimiser(model, run.params)
        network = world.wrap(Network(run))
        if first > 1 or state.partial:
            unpack_state(optimiser, state.optimiser)
        else:
            _begin(run)
            # The first phase is never rolled back: nothing comes before it.
            state = dataclasses.replace(state, start=_copied(trainable_state_dict(model)) if number > 1 else {})
            if len(phases) > 1:
                log.info("phase %d of %d: %s, round %d", number, len(phases), phase.name, phase.round)
        later = sum(other.epochs for other in phases[number:])
        for epoch in range(first, phase.epochs + 1):
            images = len(run.train.labels) - (state.partial.steps * run.params.batch_size if state.partial else 0)
            before = seconds()
            save = _saver(run, state, optimiser, seconds)
            row = world.broadcast(train_epoch(run, phase, number, epoch, optimiser, network, state.partial, save))
            row = _guarded(run, phase, row, state)
            if row.rolled_back:
                log.warning("phase %d, %s, is rolled back: validation loss %.4f", number, phase.name, row.val_loss)
                restore(model, state.start, "the state before the phase")
            ended = row.rolled_back or epoch == phase.epochs
            state = _advanced(
                state, row, trainable_state_dict(model), {} if ended else pack_state(optimiser), run.params
            )
            state = dataclasses.replace(state, seconds=seconds())
            _save(run, state)
            on_epoch(row)
            log.info(
                "epoch %d/%d: train loss %.4f, validation loss %.4f, top-1 %.2f %%; %s",
                epoch, phase.epochs, row.train_loss, row.val_loss, 100 * row.val_top1,
                _pace(run, images / (state.seconds - before), phase.epochs - epoch + later),
            )  # fmt: skip
            if row.rolled_back:
                break
    restore(model, state.best_tuned, "the best epoch")
    return state.rows, state.best


def _resumed(run: Run, on_epoch: Callable[[EpochRow], None]) -> resume.State:
    """Return the state to continue from, after loading it into the model, or the empty state."""
    world = run.world
    state = world.broadcast(
        resume.load(run.state, run.fingerprint, world.size, run.any_code) if world.is_main else None
    )
    if state is None:
        return resume.State([], -1, {}, {}, {}, {})
    restore(run.model, state.tuned, str(run.state))
    within = f", step {state.partial.steps}" if state.partial else ""
    log.info("training resumes after epoch %d%s", len(state.rows), within)
    for row in state.rows:
        on_epoch(row)
    return state


def plan(run: Run) -> list[schedule.Phase]:
    """Return the phases of a run. Raises UserError if the params do not fit the model or the data."""
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
    if batch // run.params.accumulate < run.world.size:
        raise UserError(
            f"a micro-batch of {batch // run.params.accumulate} images is too small for {run.world.size} processes",
            "raise tuning.batch_size, or lower runtime.devices",
        )
    _require_peak(run.params, images // batch)
    tuned = {name: part for name, part in parts(run.model).items() if name in run.model.tuned}
    return schedule.plan(tuned, run.params)


def _require_peak(params: TuningParams, steps: int) -> None:
    """Raise UserError if a phase's warm-up lasts until the middle of its last step: the rate would never peak."""
    warmup, total = warmup_epochs(params, params.epochs, steps) * steps, params.epochs * steps
    if warmup <= total - 0.5:
        return
    name = "warmup" if params.warmup_steps is None else "warmup_steps"
    phase = "training" if params.schedule == "joint" else "each phase"
    raise UserError(
        f"tuning.{name} = {getattr(params, name)} lasts {warmup:g} steps, and {phase} has {total}: the learning rate "
        "would never reach its peak",
        f"lower tuning.{name}, raise tuning.epochs, or lower tuning.batch_size",
    )


def _begin(run: Run) -> None:
    """Set the heads' BatchNorm statistics for the start of a phase."""
    if run.params.head_statistics == "recomputed":
        recompute_statistics(run)
    elif run.params.reset_statistics:
        for head in run.model.heads:
            head.batch_norm.reset_running_stats()


def _guarded(run: Run, phase: schedule.Phase, row: EpochRow, state: resume.State) -> EpochRow:
    """Return the row, marked if its phase must be rolled back: it diverged, or ends worse than the best by `guard`.

    Phases that were rolled back themselves do not count: the model keeps nothing of them.
    Raises UserError if training diverged and there is no earlier phase to return to.
    """
    diverged = not (math.isfinite(row.train_loss) and math.isfinite(row.val_loss))
    undone = {earlier.phase for earlier in state.rows if earlier.rolled_back}
    before = [earlier.val_loss for earlier in state.rows if earlier.phase not in undone | {row.phase}]
    if not before:
        if diverged:
            loss = row.val_loss if math.isfinite(row.train_loss) else row.train_loss
            raise UserError(
                f"training diverged in epoch {row.epoch}: the loss is {loss}",
                "lower tuning.base_lr, or lengthen the warm-up (tuning.warmup)",
            )
        return row
    worse = row.epoch == phase.epochs and row.val_loss > min(before) + run.params.guard
    return dataclasses.replace(row, rolled_back=int(diverged or worse))


def _pace(run: Run, rate: float, epochs_left: int) -> str:
    """Return an epoch's speed (training images per second, validation included), peak memory and the time left."""
    seconds = epochs_left * len(run.train.labels) / rate
    left = f"{seconds / 60:,.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
    return f"{rate:,.{0 if rate >= 10 else 1}f} images/s, {device.peak_memory_mb(run.device):,.0f} MB, {left} left"


def _saver(
    run: Run, state: resume.State, optimiser: torch.optim.Optimizer, seconds: Callable[[], float]
) -> Callable[[resume.Partial], None]:
    """Return a function that saves the first steps of the epoch after `state`."""

    def save(done: resume.Partial) -> None:
        tuned, moments = trainable_state_dict(run.model), pack_state(optimiser)
        now = dataclasses.replace(state, tuned=tuned, optimiser=moments, seconds=seconds(), partial=done)
        _save(run, now)

    return save


def _save(run: Run, state: resume.State) -> None:
    if run.world.is_main:
        resume.save(run.state, state, run.fingerprint, run.world.size)


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _advanced(
    state: resume.State, row: EpochRow, tuned: dict[str, Tensor], moments: dict[str, Tensor], params: TuningParams
) -> resume.State:
    """Return the state after one more epoch; on a full tie, the earlier epoch stays the best."""
    rows = [*state.rows, row]
    state = dataclasses.replace(state, rows=rows, tuned=tuned, optimiser=moments, partial=None)
    if row.rolled_back or (state.best >= 0 and not _merit(row, params) > _merit(rows[state.best], params)):
        return state
    return dataclasses.replace(state, best=len(rows) - 1, best_tuned=_copied(tuned))


def _merit(row: EpochRow, params: TuningParams) -> tuple[float, float]:
    """Return a key that is larger for a better epoch: the selection metric, then the loss (top-1 if loss selects)."""
    if params.selection_metric == "loss":
        return -row.val_loss, row.val_top1
    return float(getattr(row, f"val_{params.selection_metric}")), -row.val_loss
