"""Training by several processes, each of which computes its share of every step.

The arithmetic is that of one process with the same batch: torch's DistributedDataParallel averages the gradients, the
head's BatchNorm sees the images of all processes, and dropout draws one mask for all images, of which each process
takes its rows. So one process and N processes agree within rounding. Shapes: B images of all processes, b of one
process, D width.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from adaptformer.base.errors import UserError
from adaptformer.model.backbone import DropPath
from adaptformer.model.classifier import Classifier
from adaptformer.training import processes

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""The time that a process waits for another one, which may be decoding images for the cache of its machine."""


class World:
    """The processes that train together; by default only this one.

    `rank` is the number of this process, from 0, of `size` processes. All processes must call the methods that
    communicate in the same order. `images` is the size B of the current micro-batch, of which each process has a share.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self.images = 0

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which writes the files and reports to the caller."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return this process's slice of `count` rows: shares in rank order, equal up to one row."""
        least, more = divmod(count, self.size)
        first = self.rank * least + min(self.rank, more)
        return slice(first, first + least + (self.rank < more))

    def all_gather(self, tensor: Tensor, count: int) -> Tensor:
        """Return all `count` rows in order, from the shares [b, …] of the processes."""
        if self.size == 1:
            return tensor
        most = -(-count // self.size)  # all_gather needs equal sizes
        padded = tensor.new_zeros((most, *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        of_ranks = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(of_ranks, padded)
        shares = (World(rank, self.size).share(count) for rank in range(self.size))
        return torch.cat([rows[: share.stop - share.start] for rows, share in zip(of_ranks, shares, strict=True)])

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes, without a gradient."""
        if self.size == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    def broadcast(self, value: T) -> T:
        """Return the main process's value in every process."""
        if self.size == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]  # type: ignore[no-any-return]

    def wrap(self, forward: nn.Module) -> nn.Module:
        """Return the module that computes logits, wrapped so that its backward pass averages over the processes.

        Call this again when the set of trainable parameters changes.
        """
        if self.size == 1:
            return forward
        return DistributedDataParallel(forward, forward_sync_buffers=False, gradient_as_bucket_view=True)


@contextlib.contextmanager
def joined(device: str) -> Iterator[World]:
    """Yield the world of the processes that torchrun has started, or of this process alone if it has started none.

    `device` is runtime.device of params.yaml. Raises UserError if this machine has fewer GPUs than processes.
    """
    if not processes.started_by_torchrun():
        yield World()
        return
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if here > gpus:
            raise UserError(
                f"{here} processes were started on this machine, which has {gpus} GPU{'' if gpus == 1 else 's'}",
                f"set runtime.processes to {gpus}, or runtime.device to cpu",
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # gloo carries objects and CPU tensors, nccl GPU tensors.
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
    # torchrun's store survives a restart and still has the addresses of the earlier processes.
    store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def make_distributed(model: Classifier, world: World) -> None:
    """Replace modules that mix images or draw random numbers by ones that work over all processes.

    The names and the number of parameters and buffers stay the same.
    """
    if world.size == 1:
        return
    for head in model.heads:
        head.batch_norm = _GlobalBatchNorm(head.batch_norm, world)
    for module in list(model.modules()):
        for name, part in list(module.named_children()):
            if isinstance(part, nn.Dropout) and part.p and name != "attn_drop":
                setattr(module, name, _SharedMask(part, world, per_image=False))
            elif isinstance(part, DropPath) and part.drop_prob:
                setattr(module, name, _SharedMask(part, world, per_image=True))


class _SharedMask(nn.Module):
    """Dropout or stochastic depth of this process's images [b, …], by the mask that one process draws for [B, …]."""

    def __init__(self, plain: nn.Module, world: World, per_image: bool) -> None:
        super().__init__()
        self.plain = plain
        self.world = world
        self.per_image = per_image

    def forward(self, values: Tensor) -> Tensor:
        """Return the values; in training some of them (or all of some images) are zero and the others are scaled up."""
        if not self.training:
            return values
        others = (1,) * (values.ndim - 1) if self.per_image else values.shape[1:]
        mask: Tensor = self.plain(values.new_ones((self.world.images, *others)))
        return values * mask[self.world.share(self.world.images)]


class _GlobalBatchNorm(nn.BatchNorm1d):
    """BatchNorm without affine, with mean and variance over the images of all processes; works on a CPU too."""

    def __init__(self, plain: nn.BatchNorm1d, world: World) -> None:
        super().__init__(plain.num_features, plain.eps, plain.momentum, affine=False)
        self.load_state_dict(plain.state_dict())
        self.world = world
        self.train(plain.training)

    def forward(self, features: Tensor) -> Tensor:
        """Return normalised features [b, D]; in training, update the running statistics as one process would."""
        if not self.training:
            return super().forward(features)
        total = self.world.images
        mean = _sum_over_processes(features.sum(0)) / total
        centred = features - mean
        variance = _sum_over_processes(centred.square().sum(0)) / total
        with torch.no_grad():
            momentum = self.momentum or 0.0
            statistics = dict(self.named_buffers())
            statistics["running_mean"].lerp_(mean, momentum)
            statistics["running_var"].lerp_(variance * (total / (total - 1)), momentum)
            statistics["num_batches_tracked"].add_(1)
        return centred * (variance + self.eps).rsqrt()


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def _sum_over_processes(values: Tensor) -> Tensor:
    result: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return result
