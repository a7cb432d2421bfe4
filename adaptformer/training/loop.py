"""The training loop: phases of epochs, resumable after every epoch; the result is the model of the best epoch."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from adaptformer.base.errors import UserError
from adaptformer.config.params import TrainingParams
from adaptformer.model import device
from adaptformer.model.classifier import restore, trainable_state_dict
from adaptformer.model.parts import parts
from adaptformer.training import resume, schedule
from adaptformer.training.activation_cache import first_trained
from adaptformer.training.data_parallel import make_distributed
from adaptformer.training.epoch import Network, PhaseTraining, train_epoch
from adaptformer.training.history import EpochRow
from adaptformer.training.optimiser import build_optimiser, pack_state, unpack_state, warmup_epochs
from adaptformer.training.run import Run

log = logging.getLogger("adaptformer")


class Trained(NamedTuple):
    """The rows of all epochs, and the index of the best one, whose parameters the model has."""

    rows: list[EpochRow]
    best: int


def train(run: Run, on_epoch: Callable[[EpochRow], None] = lambda _: None) -> Trained:
    """Train `run.model`, set it to the parameters of the best epoch, and return all rows and the index of the best.

    A state of the same run at `run.checkpoint.path` is resumed. Its rows are passed to `on_epoch` again, so that the
    caller sees the whole history. Of several processes, only the main one reads and writes the state. Raises UserError
    if the loss is no longer finite.
    """
    began = time.perf_counter()
    model, world = run.model.to(run.compute.device), run.compute.world
    phases = plan(run)
    make_distributed(model, world)
    state = _resumed(run, on_epoch)
    clock = Clock(began, state.seconds)
    for number, phase, first in schedule.remaining(phases, state.rows):
        training = _phase_training(run, phase, number)
        if first > 1 or state.partial:
            unpack_state(training.optimiser, state.optimiser)
        else:
            state = _begun(training, state, len(phases))
        epochs_later = sum(other.epochs for other in phases[number:])
        for epoch in range(first, phase.epochs + 1):
            images, before = _images_left(run, state), clock.seconds()
            save_steps = functools.partial(_save_steps, training, state, clock)
            row = world.broadcast(train_epoch(training, epoch, state.partial, save_steps))
            row = _guarded(training, row, state)
            if row.rolled_back:
                log.warning("phase %d, %s, is rolled back: validation loss %.4f", number, phase.name, row.val_loss)
                restore(model, state.start, "the state before the phase")
            state = _with_best(training, row, state)
            state = dataclasses.replace(state, seconds=clock.seconds())
            _save(run, state)
            on_epoch(row)
            epochs_left = phase.epochs - epoch + epochs_later
            _log_epoch(training, row, pace(run, images / (state.seconds - before), epochs_left))
            if row.rolled_back:
                break
    restore(model, state.best_tuned, "the best epoch")
    return Trained(state.rows, state.best)


@dataclass(frozen=True)
class Clock:
    """Measures training time in seconds: `earlier` seconds of earlier processes, and those since `began`."""

    began: float
    earlier: float

    def seconds(self) -> float:
        """Return the seconds of training so far."""
        return self.earlier + time.perf_counter() - self.began


def _resumed(run: Run, on_epoch: Callable[[EpochRow], None]) -> resume.State:
    """Return the state to continue from, after loading it into the model, or the empty state."""
    world, checkpoint = run.compute.world, run.checkpoint
    state = None
    if world.is_main:
        state = resume.load(checkpoint.path, checkpoint.fingerprint, world.size, checkpoint.any_code)
    state = world.broadcast(state)
    if state is None:
        return resume.State([], -1, {}, {}, {}, {})
    restore(run.model, state.tuned, str(checkpoint.path))
    within = f", step {state.partial.steps}" if state.partial else ""
    log.info("training resumes after epoch %d%s", len(state.rows), within)
    for row in state.rows:
        on_epoch(row)
    return state


def _phase_training(run: Run, phase: schedule.Phase, number: int) -> PhaseTraining:
    """Make the parameters of a phase trainable and cache the blocks below; return the phase with a new optimiser."""
    schedule.begin(run.model, phase)
    if run.params.fixed_crops:  # other crops have new outputs of the frozen blocks in every epoch
        run.activation_cache.advance_to(first_trained(run.model))
    optimiser = build_optimiser(run.model, run.params)
    return PhaseTraining(run, phase, number, optimiser, run.compute.world.wrap(Network(run)))


def _begun(training: PhaseTraining, state: resume.State, phases: int) -> resume.State:
    """Reset running statistics of the heads' BatchNorm if the params say so; return the state with the phase's start.

    Recomputed statistics are already those of the present weights: they come from the last epoch that was kept. In the
    first phase nothing reads them before the end of its first epoch.
    """
    run, number, phase = training.run, training.number, training.phase
    if run.params.head_statistics == "running" and run.params.reset_statistics:
        for head in run.model.heads:
            head.batch_norm.reset_running_stats()
    if phases > 1:
        log.info("phase %d of %d: %s, round %d", number, phases, phase.name, phase.round)
    # The first phase is never rolled back: nothing comes before it.
    return dataclasses.replace(state, start=_copied(trainable_state_dict(run.model)) if number > 1 else {})


def _images_left(run: Run, state: resume.State) -> int:
    """Return the number of training images of the next epoch that the state has not seen."""
    return len(run.data.train.labels) - (state.partial.steps * run.params.batch_size if state.partial else 0)


def plan(run: Run) -> list[schedule.Phase]:
    """Return the phases of a run. Raises UserError if the params do not fit the model or the data."""
    images = len(run.data.train.labels)
    if images < 2:
        raise UserError(
            f"the training split has {images} image{'' if images == 1 else 's'}, and BatchNorm needs two at least",
            "add images to data/, then run `adaptformer validate` again",
        )
    batch, processes = min(run.params.batch_size, images), run.compute.world.size
    micro_batch = batch // run.params.gradient_accumulation
    if micro_batch < 2:
        raise UserError(
            f"training.gradient_accumulation = {run.params.gradient_accumulation} makes micro-batches of one image "
            f"out of a batch of {batch}",
            f"set it to {batch // 2} or less: BatchNorm needs two images in each",
        )
    if micro_batch < processes:
        raise UserError(
            f"a micro-batch of {micro_batch} images is too small for {processes} processes",
            "raise training.batch_size, or lower runtime.processes",
        )
    _require_peak(run.params, images // batch)
    tuned = {name: part for name, part in parts(run.model).items() if name in run.model.tuned}
    return schedule.plan(tuned, run.params)


def _require_peak(params: TrainingParams, steps: int) -> None:
    """Raise UserError if a phase's warm-up lasts until the middle of its last step: the rate would never peak."""
    warmup, total = warmup_epochs(params, params.epochs, steps) * steps, params.epochs * steps
    if warmup <= total - 0.5:
        return
    name = "warmup_fraction" if params.warmup_steps is None else "warmup_steps"
    phase = "training" if params.schedule == "joint" else "each phase"
    raise UserError(
        f"training.{name} = {getattr(params, name)} lasts {warmup:g} steps, and {phase} has {total}: the learning rate "
        "would never reach its peak",
        f"lower training.{name}, raise training.epochs, or lower training.batch_size",
    )


def _guarded(training: PhaseTraining, row: EpochRow, state: resume.State) -> EpochRow:
    """Return the row, marked if its phase must be rolled back: it diverged, or ends too far above the best loss.

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
                "lower training.base_lr, or lengthen the warm-up (training.warmup_fraction)",
            )
        return row
    ended = row.epoch == training.phase.epochs
    worse = ended and row.val_loss > min(before) + training.run.params.rollback_above
    return dataclasses.replace(row, rolled_back=int(diverged or worse))


def pace(run: Run, speed: float, epochs_left: int) -> str:
    """Return an epoch's speed (training images per second, validation included), peak memory and the time left."""
    seconds = epochs_left * len(run.data.train.labels) / speed
    left = f"{seconds / 60:,.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
    megabytes = device.peak_memory_mb(run.compute.device)
    return f"{speed:,.{0 if speed >= 10 else 1}f} images/s, {megabytes:,.0f} MB, {left} left"


def _log_epoch(training: PhaseTraining, row: EpochRow, speed: str) -> None:
    log.info(
        "epoch %d/%d: train loss %.4f, validation loss %.4f, top-1 %.2f %%; %s",
        row.epoch, training.phase.epochs, row.train_loss, row.val_loss, 100 * row.val_top1, speed,
    )  # fmt: skip


def _save_steps(training: PhaseTraining, state: resume.State, clock: Clock, done: resume.Partial) -> None:
    """Save the first steps of the epoch after `state`."""
    tuned, moments = trainable_state_dict(training.run.model), pack_state(training.optimiser)
    state = dataclasses.replace(state, tuned=tuned, optimiser=moments, seconds=clock.seconds(), partial=done)
    _save(training.run, state)


def _save(run: Run, state: resume.State) -> None:
    if run.compute.world.is_main:
        resume.save(run.checkpoint.path, state, run.checkpoint.fingerprint, run.compute.world.size)


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _with_best(training: PhaseTraining, row: EpochRow, state: resume.State) -> resume.State:
    """Return the state after one more epoch; on a full tie, the earlier epoch stays the best."""
    run, rows = training.run, [*state.rows, row]
    tuned = trainable_state_dict(run.model)
    ended = row.rolled_back or row.epoch == training.phase.epochs
    moments = {} if ended else pack_state(training.optimiser)
    state = dataclasses.replace(state, rows=rows, tuned=tuned, optimiser=moments, partial=None)
    if row.rolled_back or (state.best >= 0 and not _merit(row, run.params) > _merit(rows[state.best], run.params)):
        return state
    return dataclasses.replace(state, best=len(rows) - 1, best_tuned=_copied(tuned))


def _merit(row: EpochRow, params: TrainingParams) -> tuple[float, float]:
    """Return a key that is larger for a better epoch: the selection metric, then the loss (top-1 if loss selects)."""
    if params.selection_metric == "loss":
        return -row.val_loss, row.val_top1
    return float(getattr(row, f"val_{params.selection_metric}")), -row.val_loss
