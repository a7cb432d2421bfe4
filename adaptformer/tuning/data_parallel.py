"""Training by several processes, each of which computes its share of every step.

The arithmetic is that of one process with the same batch: gradients are averaged by torch's DistributedDataParallel,
the head's BatchNorm sees the images of all processes, and dropout draws one mask for all of them, of which each takes
its rows. So one process and N agree within rounding. Shapes: B images of all processes, b of one, D width.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from adaptformer.model.backbone import DropPath
from adaptformer.model.classifier import Classifier

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""So long a process waits for another one, which may be decoding the images for its machine's cache."""


@dataclass
class Rows:
    """Which of a micro-batch's B images the present process computes: `first` and the `count` after it, of `total`."""

    first: int = 0
    count: int = 0
    total: int = 0


class World:
    """The processes that train together; by default the present one alone.

    `rank` is the number of this one, of `size`. All must call the methods that talk to each other in the same order.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self.rows = Rows()

    @property
    def leads(self) -> bool:
        """Say whether this process is the one that writes files and is listened to."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return which of `count` rows are this process's: equal shares but for one, in the order of the ranks."""
        least, more = divmod(count, self.size)
        first = self.rank * least + min(self.rank, more)
        return slice(first, first + least + (self.rank < more))

    def begin_micro_batch(self, total: int) -> None:
        """Tell what `spread` put into the model that its next images are this process's share of so many."""
        share = self.share(total)
        self.rows.first, self.rows.count, self.rows.total = share.start, share.stop - share.start, total

    def gathered(self, tensor: Tensor) -> Tensor:
        """Return the rows [B, …] of all processes, in the order of `share`, from those of each [b, …]."""
        if self.size == 1:
            return tensor
        counts = self._counts(len(tensor))
        padded = tensor.new_zeros((max(counts), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        found = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded)
        return torch.cat([rows[:count] for rows, count in zip(found, counts, strict=True)])

    def _counts(self, count: int) -> list[int]:
        """Return the number of rows that each process has."""
        counts: list[Any] = [None] * self.size
        dist.all_gather_object(counts, count)
        return counts

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


def from_environment() -> bool:
    """Say whether torchrun has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """Let this process be one of those that torchrun has started, for the body; alone if it has started none."""
    if not from_environment():
        yield World()
        return
    cuda = torch.cuda.is_available()
    if cuda:
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
                setattr(module, name, _SharedDropout(part.p, world.rows))
            elif isinstance(part, DropPath) and part.drop_prob:
                setattr(module, name, _SharedDropPath(part, world.rows))


class _SharedDropout(nn.Module):
    """Dropout of this process's rows [b, …] of the mask that one process would draw for all images [B, …]."""

    def __init__(self, p: float, rows: Rows) -> None:
        super().__init__()
        self.p = p
        self.rows = rows

    def forward(self, values: Tensor) -> Tensor:
        """Return the values, some of them zero and the others larger, in training."""
        if not self.training:
            return values
        rows = self.rows
        mask = F.dropout(values.new_ones((rows.total, *values.shape[1:])), self.p)
        return values * mask[rows.first : rows.first + rows.count]


class _SharedDropPath(nn.Module):
    """timm's DropPath with this process's part of the decisions about all images."""

    def __init__(self, plain: DropPath, rows: Rows) -> None:
        super().__init__()
        self.plain = plain
        self.rows = rows

    def forward(self, values: Tensor) -> Tensor:
        """Return the values [b, …], those of some images zero, in training."""
        rows = self.rows
        kept = self.plain(values.new_ones((rows.total,) + (1,) * (values.ndim - 1))) if self.training else None
        return values if kept is None else values * kept[rows.first : rows.first + rows.count]


class _GlobalBatchNorm(nn.BatchNorm1d):
    """BatchNorm without affine whose mean and variance are those of all processes' images, on a CPU too."""

    def __init__(self, plain: nn.BatchNorm1d, world: World) -> None:
        super().__init__(plain.num_features, plain.eps, plain.momentum, affine=False)
        self.load_state_dict(plain.state_dict())
        self.rows = world.rows
        self.train(plain.training)

    def forward(self, features: Tensor) -> Tensor:
        """Return normalised features [b, D]; in training the running statistics move as one process's would."""
        if not self.training:
            return super().forward(features)
        total = self.rows.total
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
