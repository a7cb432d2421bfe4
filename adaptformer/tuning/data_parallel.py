"""Training by several processes, each of which computes its share of every step.

The arithmetic is that of one process with the same batch: gradients are averaged by torch's DistributedDataParallel,
the head's BatchNorm sees the images of all processes, and dropout draws one mask for all of them, of which each takes
its rows. So one process and N agree within rounding. Shapes: B images of all processes, b of one, D width.
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

from adaptformer.errors import UserError
from adaptformer.model.backbone import DropPath
from adaptformer.model.classifier import Classifier
from adaptformer.tuning import processes

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""So long a process waits for another one, which may be decoding the images for its machine's cache."""


class World:
    """The processes that train together; by default the present one alone.

    `rank` is the number of this one, of `size`. All must call the methods that talk to each other in the same order.
    `images` is the number B of the micro-batch that is being computed, of which this process has its share.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self.images = 0

    @property
    def leads(self) -> bool:
        """Say whether this process is the one that writes files and is listened to."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return which of `count` rows are this process's: equal shares but for one, in the order of the ranks."""
        least, more = divmod(count, self.size)
        first = self.rank * least + min(self.rank, more)
        return slice(first, first + least + (self.rank < more))

    def gathered(self, tensor: Tensor, count: int) -> Tensor:
        """Return all `count` rows, in order, of which each process has its share [b, …]."""
        if self.size == 1:
            return tensor
        most = -(-count // self.size)  # all_gather wants equal sizes
        padded = tensor.new_zeros((most, *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        found = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded)
        shares = (World(rank, self.size).share(count) for rank in range(self.size))
        return torch.cat([rows[: share.stop - share.start] for rows, share in zip(found, shares, strict=True)])

    def summed(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes, without a gradient."""
        if self.size == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    def same(self, value: T) -> T:
        """Return the value of the process that leads, in all of them."""
        if self.size == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]  # type: ignore[no-any-return]

    def network(self, forward: nn.Module) -> nn.Module:
        """Return the module that computes logits, so wrapped that its backward pass averages over the processes.

        To be made anew when other parameters train than before.
        """
        if self.size == 1:
            return forward
        return DistributedDataParallel(forward, forward_sync_buffers=False, gradient_as_bucket_view=True)


@contextlib.contextmanager
def joined(device: str) -> Iterator[World]:
    """Let this process be one of those that torchrun has started, for the body; alone if it has started none.

    `device` is that of params.yaml. Raises UserError where this machine has fewer GPUs than processes.
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
                f"set runtime.devices to {gpus}, or runtime.device to cpu",
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Objects and the CPU's tensors go by gloo, a GPU's by nccl.
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
    # torchrun's store outlives a restart, and still holds where the processes before it could be reached.
    store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def spread(model: Classifier, world: World) -> None:
    """Replace what sees several images at once, or draws random numbers, by what counts on all processes.

    Names and number of parameters and buffers stay.
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
    """Dropout or stochastic depth of this process's images [b, …] by the mask that one process draws for all [B, …]."""

    def __init__(self, plain: nn.Module, world: World, per_image: bool) -> None:
        super().__init__()
        self.plain = plain
        self.world = world
        self.per_image = per_image

    def forward(self, values: Tensor) -> Tensor:
        """Return the values, some of them (or all of some images) zero and the others larger, in training."""
        if not self.training:
            return values
        others = (1,) * (values.ndim - 1) if self.per_image else values.shape[1:]
        mask: Tensor = self.plain(values.new_ones((self.world.images, *others)))
        return values * mask[self.world.share(self.world.images)]


class _GlobalBatchNorm(nn.BatchNorm1d):
    """BatchNorm without affine whose mean and variance are those of all processes' images, on a CPU too."""

    def __init__(self, plain: nn.BatchNorm1d, world: World) -> None:
        super().__init__(plain.num_features, plain.eps, plain.momentum, affine=False)
        self.load_state_dict(plain.state_dict())
        self.world = world
        self.train(plain.training)

    def forward(self, features: Tensor) -> Tensor:
        """Return normalised features [b, D]; in training the running statistics move as one process's would."""
        if not self.training:
            return super().forward(features)
        total = self.world.images
        mean = _summed(features.sum(0)) / total
        centred = features - mean
        variance = _summed(centred.square().sum(0)) / total
        with torch.no_grad():
            momentum = self.momentum or 0.0
            statistics = dict(self.named_buffers())
            statistics["running_mean"].lerp_(mean, momentum)
            statistics["running_var"].lerp_(variance * (total / (total - 1)), momentum)
            statistics["num_batches_tracked"].add_(1)
        return centred * (variance + self.eps).rsqrt()


class _Sum(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of their gradients."""

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


def _summed(values: Tensor) -> Tensor:
    result: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return result
