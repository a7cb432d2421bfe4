"""One epoch of training: for each batch load, augment, forward, loss, backward, step; then validate.

Shapes: B images of a micro-batch, C classes.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adaptformer.base import progress, randomness
from adaptformer.training import draws, evaluation_pass
from adaptformer.training.activation_cache import first_trained
from adaptformer.training.balance import weighted_cross_entropy
from adaptformer.training.draws import Draws
from adaptformer.training.history import EpochRow
from adaptformer.training.optimiser import learning_rate, set_learning_rate
from adaptformer.training.prefetch import MicroBatch
from adaptformer.training.resume import Partial
from adaptformer.training.run import Run
from adaptformer.training.schedule import Phase

log = logging.getLogger("adaptformer")

SECONDS_BETWEEN_LOG_LINES = 15
"""The progress of an epoch is logged this often: an epoch of a large model takes many minutes."""


@dataclass(frozen=True)
class PhaseTraining:
    """A phase of a run while it trains; its `number` counts from 1.

    `network` is the run's Network, wrapped by its world.
    """

    run: Run
    phase: Phase
    number: int
    optimiser: torch.optim.Optimizer
    network: nn.Module


def train_epoch(
    training: PhaseTraining,
    epoch: int,
    done: Partial | None = None,
    save: Callable[[Partial], None] = lambda _: None,
) -> EpochRow:
    """Train an epoch of a phase, which counts from 1, validate, and return the epoch's row.

    The steps of `done` are skipped. Every `checkpoint.every_steps` steps, `save` is called with the steps done so far.
    """
    run = training.run
    figures = train_steps(training, epoch, done or Partial(0, 0.0, 0.0), save)
    if run.params.head_statistics == "recomputed":
        evaluation_pass.recompute_statistics(run)
    figures |= evaluation_pass.validate(run)
    rounded = {name: round(value, 6) for name, value in figures.items()}
    return EpochRow(round=training.phase.round, phase=training.number, epoch=epoch, **rounded, rolled_back=0)


def train_steps(
    training: PhaseTraining, epoch: int, done: Partial, save: Callable[[Partial], None]
) -> dict[str, float]:
    """Run the steps of an epoch after those `done`; return mean loss, top-1 and the last rate, named as in EpochRow."""
    run = training.run
    key = (run.params.seed, training.number, epoch)
    drawn = draws.draw(run, *key)
    tally = Tally.after(done, run)
    rate = 0.0
    _set_training_mode(run)
    for step, micro_batches in _loaded(training, epoch, drawn, done.steps):  # loaded and augmented
        rate = _schedule_rate(training, epoch - 1 + step / drawn.steps, drawn)
        randomness.seed_torch("step", *key, step)  # for dropout and stochastic depth
        tally.add(train_step(training, micro_batches))
        if run.checkpoint.every_steps and (step + 1) % run.checkpoint.every_steps == 0 and step + 1 < drawn.steps:
            save(tally.over_processes(step + 1))
    total = tally.over_processes(drawn.steps)
    images = drawn.steps * drawn.batch_size
    return {"lr": rate, "train_loss": total.loss_sum / drawn.steps, "train_top1": total.correct / images}


def train_step(training: PhaseTraining, micro_batches: list[MicroBatch]) -> Tally:
    """Make one optimiser step of several micro-batches; return this process's part of the loss and of the hits."""
    run, world = training.run, training.run.compute.world
    tally = Tally.after(Partial(0, 0.0, 0.0), run)
    training.optimiser.zero_grad(set_to_none=True)
    for number, batch in enumerate((micro.to(run.compute.device) for micro in micro_batches), start=1):
        world.images = batch.total
        # Processes exchange gradients once per step, after the last micro-batch.
        alone = world.size > 1 and number < len(micro_batches)
        with training.network.no_sync() if alone else contextlib.nullcontext():  # type: ignore[operator]
            with run.compute.autocast():
                logits = training.network(batch)
            loss = weighted_cross_entropy(logits, batch.labels, batch.weights, run.params.label_smoothing)
            (loss * world.size).backward()  # undoes the mean over processes: weights are shares of the whole step
        tally.loss += loss.detach()
        tally.correct += (logits.argmax(1) == batch.labels).sum()
    training.optimiser.step()
    return tally


class Network(nn.Module):
    """The run's model as a module from a micro-batch on the device to logits."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.model = run.model
        self._run = run

    def forward(self, batch: MicroBatch) -> Tensor:
        """Return the logits [B, C] of the micro-batch, from its pixels or from cached outputs of frozen blocks."""
        run = self._run
        if batch.pixels is None:
            return self.model.logits(run.activation_cache.pooled("train", batch.numbers))
        logits: Tensor = self.model(run.normalised(batch.pixels))
        return logits


@dataclass
class Tally:
    """Sums of losses and of correctly classified images of this process, both 0-d on the device.

    They stay there: reading a value would make each step wait for the previous one.
    """

    loss: Tensor
    correct: Tensor
    run: Run

    @classmethod
    def after(cls, done: Partial, run: Run) -> Tally:
        """Return the tally after the steps `done`, which the main process counts for all."""
        device, is_main = run.compute.device, run.compute.world.is_main
        loss, correct = (
            torch.tensor(value if is_main else 0.0, device=device) for value in (done.loss_sum, done.correct)
        )
        return cls(loss, correct, run)

    def add(self, step: Tally) -> None:
        """Add the tally of one step."""
        self.loss += step.loss
        self.correct += step.correct

    def over_processes(self, steps: int) -> Partial:
        """Return the sums over all processes, after so many steps."""
        world = self.run.compute.world
        return Partial(steps, float(world.all_reduce(self.loss)), float(world.all_reduce(self.correct)))


def _set_training_mode(run: Run) -> None:
    run.model.train()
    if run.params.fixed_crops:
        # With fixed crops, frozen blocks must give the same outputs each time, cached or computed again.
        run.model.vit.blocks[: first_trained(run.model)].eval()


def _schedule_rate(training: PhaseTraining, progress: float, drawn: Draws) -> float:
    """Set the learning rate for a step at `progress` epochs of the phase, and return it."""
    rate = learning_rate(training.run.params, progress, training.phase.epochs, drawn.steps, drawn.batch_size)
    set_learning_rate(training.optimiser, rate)
    return rate


def _loaded(training: PhaseTraining, epoch: int, drawn: Draws, first: int) -> Iterator[tuple[int, list[MicroBatch]]]:
    """Yield the number and the micro-batches of each step from `first`; show progress in the terminal and the log."""
    phase, size = training.phase, drawn.batch_size
    steps = progress.steps(
        draws.load(training.run, drawn, first), f"{phase.name}, epoch {epoch} of {phase.epochs}",
        drawn.steps * size, "images", lambda _: size, first * size,
    )  # fmt: skip
    last_logged = time.monotonic()
    for step, micro_batches in enumerate(steps, start=first):
        yield step, micro_batches
        if time.monotonic() - last_logged > SECONDS_BETWEEN_LOG_LINES:
            last_logged = time.monotonic()
            log.info("epoch %d/%d: step %d of %d", epoch, phase.epochs, step + 1, drawn.steps)
