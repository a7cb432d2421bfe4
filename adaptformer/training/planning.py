"""The predicted cost of a training run: parameters, tokens, memory, the largest batch, minutes.

Memory is predicted from the tensors that autograd keeps for a forward pass of two images; time is measured with a few
steps on random images. Shapes: B images, s model side.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptformer.base.errors import UserError
from adaptformer.config.params import TrainingParams
from adaptformer.model import device, inference
from adaptformer.model.classifier import Classifier, trainable
from adaptformer.model.device import Precision
from adaptformer.model.parts import parts
from adaptformer.training import head_statistics, schedule
from adaptformer.training.optimiser import build_optimiser

TIMED_PHASES = 3
"""The number of phases that are timed: the first, the last, and one between them."""
_GAPS, _HIDDEN = 1.4, 5
"""Fitted to ViT-S and ViT-B on a CPU: a factor for gaps between kept tensors, and extra hidden activations in use."""


@dataclass(frozen=True)
class Workload:
    """A training run to plan: its model and params, the numbers of its images, device, precision and processes."""

    model: Classifier
    params: TrainingParams
    images: int
    validation_images: int
    device: torch.device
    precision: Precision
    processes: int = 1


@dataclass(frozen=True)
class Plan:
    """The prediction for a run: `micro_batch` images are in memory at once, and at most `largest` would fit.

    With several `processes`, these two numbers and the memory are those of each process. Each epoch trains on `used` of
    the `images`: an incomplete last batch is dropped.
    """

    trained: int
    parameters: int
    kinds: tuple[str, ...]
    tokens: int
    micro_batch: int
    peak_mb: float
    free_mb: float
    largest: int
    images: int
    used: int
    processes: int = 1

    def lines(self) -> list[str]:
        """Return the plan as lines of text."""
        share = f"{self.trained:,} of {self.parameters:,} parameters ({100 * self.trained / self.parameters:.2f} %)"
        return [
            f"trains {share}: {', '.join(self.kinds)}; {self.tokens} tokens an image",
            f"memory{' of each process' if self.processes > 1 else ''}: about {self.peak_mb / 1000:.1f} GB with "
            f"{self.micro_batch} images at once, of {self.free_mb / 1000:.1f} GB that are free; "
            f"about {self.largest:,} images would fit",
            *([self._dropped] if self.used < self.images else []),
        ]

    @property
    def _dropped(self) -> str:
        share = 100 * self.used / self.images
        return (
            f"each epoch trains on {self.used:,} of {self.images:,} images ({share:.0f} %), different ones each time: "
            "an incomplete batch is dropped"
        )


def plan(work: Workload) -> Plan:
    """Predict the cost of a training run from the present state of this process."""
    model, params, images, processes = work.model, work.params, work.images, work.processes
    parts_by_name = parts(model)
    tuned = trainable(model)
    trained = sum(parameter.numel() for parameter in tuned.values())
    batch = min(params.batch_size, images)
    micro_batch = -(-(batch // params.gradient_accumulation) // processes)
    fixed, each = _fixed_mb(trained, params), _kept_mb(model, work.device, work.precision)
    # On a CPU the processes share its memory; on GPUs each process has its own.
    free = device.free_memory_mb(work.device) / (1 if work.device.type == "cuda" else processes)
    vit = model.vit
    kinds = {"adapter": "adapters", "backbone": "backbone", "prompts": "prompts", "head": "head"}
    return Plan(
        trained=trained,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        kinds=tuple(word for kind, word in kinds.items() if kind in {parts_by_name[name].kind for name in tuned}),
        tokens=vit.patch_embed.num_patches + vit.num_prefix_tokens,
        micro_batch=micro_batch,
        peak_mb=device.present_memory_mb(work.device) + fixed + micro_batch * each,
        free_mb=device.present_memory_mb(work.device) + free,
        largest=max(0, int((free - fixed) / each)),
        images=images,
        used=images - images % batch if batch else 0,
        processes=processes,
    )


def too_large(planned: Plan, params: TrainingParams) -> UserError:
    """Return the error for a run that needs too much memory; its remedy names micro-batches that fit."""
    splits = [
        count
        for count in range(params.gradient_accumulation + 1, params.batch_size // 2 + 1)
        if params.batch_size % count == 0 and params.batch_size // count <= planned.largest * planned.processes
    ]
    remedy = (
        f"set training.gradient_accumulation to {splits[0]}: "
        f"micro-batches of {params.batch_size // splits[0]} images fit"
        if splits
        else "choose a smaller backbone or image.size: not even two images fit"
    )
    return UserError(
        f"out of memory: {planned.micro_batch} images at once take about {planned.peak_mb / 1000:.1f} GB, and "
        f"{planned.free_mb / 1000:.1f} GB are free",
        remedy,
    )


@contextlib.contextmanager
def explained_memory(planned: Plan, params: TrainingParams) -> Iterator[None]:
    """Run the body; if memory does not suffice, raise UserError with a remedy that follows from the plan."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not device.is_out_of_memory(error):
            raise
        raise too_large(planned, params) from error


def minutes(work: Workload) -> float:
    """Return the minutes that training takes, from timed steps and forward passes on random images.

    The timing changes the model's parameters and statistics, so do not train the model afterwards.
    """
    model, params = work.model.to(work.device), work.params
    size = model.vit.patch_embed.img_size[0]
    tuned = {name: part for name, part in parts(model).items() if name in model.tuned}
    phases = schedule.plan(tuned, params)
    timed = sorted({0, len(phases) // 2, len(phases) - 1})[:TIMED_PHASES]
    batch = min(params.batch_size, work.images)
    inputs = torch.randn(batch // params.gradient_accumulation, 3, size, size, device=work.device)
    labels = torch.zeros(len(inputs), dtype=torch.int64, device=work.device)
    step = sum(_seconds(_step(work, phases[number], inputs, labels)) for number in timed)
    step *= params.gradient_accumulation / len(timed)

    def evaluate() -> None:
        with torch.no_grad(), device.autocast(work.device, work.precision):
            model(inputs)

    evaluated = work.validation_images + head_statistics.count(work.images, params)
    epoch = step * (work.images // batch) + _seconds(evaluate) * evaluated / len(inputs)
    return epoch * params.epochs * len(phases) / 60


def epochs_within(minutes: float, params: TrainingParams, predicted: float) -> int:
    """Return the largest number of epochs per phase that fits into `minutes`; params.epochs take `predicted` minutes.

    Raises UserError if not even one epoch fits.
    """
    each = predicted / params.epochs
    if minutes < each:
        raise UserError(
            f"one epoch of each phase takes about {each:.1f} minutes, and there are {minutes:g}",
            "give more minutes, or choose a smaller backbone, fewer phases, or --preset linear",
        )
    return int(minutes / each)


def _step(work: Workload, phase: schedule.Phase, images: Tensor, labels: Tensor) -> Callable[[], None]:
    model = work.model
    schedule.begin(model, phase)
    model.train()
    optimiser = build_optimiser(model, work.params)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        with device.autocast(images.device, work.precision):
            logits = model(images)
        F.cross_entropy(logits, labels).backward()
        optimiser.step()

    return run


def _seconds(work: Callable[[], None]) -> float:
    """Return the seconds of the faster of two runs, after one run to warm up."""
    seconds: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def _fixed_mb(trained: int, params: TrainingParams) -> float:
    """Return the megabytes that do not depend on the batch: gradients, moments, the best state and the last one."""
    copies = 1 + (2 if params.optimiser == "adamw" else 1) + 2
    return 4 * copies * trained / 1e6


def _kept_mb(model: Classifier, where: torch.device, precision: Precision) -> float:
    """Return the megabytes per image that autograd keeps until the backward pass, and of its largest gradients."""
    size = model.vit.patch_embed.img_size[0]
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    held: list[Any] = []  # keeps the graph alive, so that no memory is reused and counted only once
    with (
        inference.in_mode(model, training=True),
        torch.random.fork_rng(),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        model.to(where)
        statistics = [buffer.clone() for buffer in model.buffers()]
        with device.autocast(where, precision):
            held.append(model(torch.zeros(2, 3, size, size, device=where)))
        for buffer, before in zip(model.buffers(), statistics, strict=True):
            buffer.copy_(before)
    vit = model.vit
    hidden: int = 4 * vit.embed_dim * (vit.patch_embed.num_patches + vit.num_prefix_tokens) * 4  # of one block, fp32
    bytes_each: float = _GAPS * sum(kept.values()) / 2 + _HIDDEN * hidden
    return bytes_each / 1e6


def warnings(size: int, sides: Sequence[int]) -> list[str]:
    """Return warnings if the model's input side does not suit the shorter sides of the images, all in pixels."""
    middle = sorted(sides)[len(sides) // 2]
    if middle < size:
        return [f"half of the images are enlarged: image.size = {size}, but their median shorter side is {middle}"]
    if size <= 64 and middle >= 4 * size:
        return [
            f"image.size = {size} is small for photos with a median shorter side of {middle}: `--preset photos` has a "
            "backbone for 224 pixels"
        ]
    return []
