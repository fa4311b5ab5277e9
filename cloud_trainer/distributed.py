"""Training in several processes, one for each core or GPU: data parallel, under ``torchrun``.

1. Every worker holds the whole network and the whole data, and computes its share of each batch; the shares' gradients
   are added in one all-reduce. That is what DistributedDataParallel does (Li et al. 2020, arXiv 2006.15704) for a
   network that fits into one of its buckets of 25 MB, as all of this zoo do; done here by hand it can carry the loss
   and the wish to stop along, and knows no "unused parameters".
2. Batch normalisation uses the statistics of the whole batch, over all workers (``gloo`` has no SyncBatchNorm).
3. So N workers train the same network as one, but for the order in which floats are added, and for dropout, whose masks
   each worker draws for its own share.
4. The first worker alone validates, writes checkpoints, and reports. One that fails ends all of them, with one line.
"""

from __future__ import annotations

import os
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from shared.errors import TrainingError

LOST = 75
"""Exit status of a worker that ended because another one did; it says nothing, the other one has."""
T = TypeVar("T")
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class World:
    """All workers of this training, seen from one of them; a world of one needs no process group."""

    def __init__(self) -> None:
        joined = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if joined else 0
        self.size = dist.get_world_size() if joined else 1

    @property
    def first(self) -> bool:
        """Is this the worker that validates and writes?"""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This worker's part of a batch's rows; may be empty."""
        return rows if self.size == 1 else torch.tensor_split(rows, self.size)[self.rank]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over workers, in place."""
        with _lost_together():
            dist.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Sequence[nn.Parameter], *extra: Tensor) -> list[float]:
        """Replace every gradient by its sum over workers; returns the sums of ``extra`` scalars, which travel along."""
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        buffer = torch.cat([*(g.flatten() for g in gradients), *(value.detach().reshape(1) for value in extra)])
        self.sum(buffer)
        start = 0
        for parameter in parameters:
            end = start + parameter.numel()
            parameter.grad = buffer[start:end].view_as(parameter)
            start = end
        return [float(value) for value in buffer[start:]]

    def agree(self, value: T) -> T:
        """The first worker's ``value``, for all."""
        if self.size == 1:
            return value
        box = [value]
        with _lost_together():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def failed(self, error: TrainingError) -> BaseException:
        """What to raise when all workers found the same ``error``: the first one says it, the others end silently."""
        return error if self.first else SystemExit(LOST)


@contextmanager
def _lost_together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # the connection to another worker is gone
        raise SystemExit(LOST) from error


@contextmanager
def session() -> Iterator[World]:
    """The process group that ``torchrun`` has set out in the environment; without one, a world of one.

    ``gloo`` on CPUs; ``nccl`` where each worker has a GPU of its own.

    Raises:
        TrainingError: the other workers cannot be reached.
    """
    if not under_torchrun() or dist.is_initialized():
        yield World()
        return
    gpu = torch.cuda.is_available() and torch.cuda.device_count() > int(os.environ.get("LOCAL_RANK", "0"))
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group("nccl" if gpu else "gloo")
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"the other workers cannot be reached: {error}") from error
    try:
        yield World()
    finally:
        dist.destroy_process_group()


def under_torchrun() -> bool:
    """Is this process one of several that ``torchrun`` started?"""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "MASTER_ADDR" in os.environ


class _Sum(torch.autograd.Function):
    """The sum over workers; its gradient is the sum of the workers' gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        del ctx
        return World().sum(values.clone())

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        del ctx
        return World().sum(gradients[0].contiguous().clone())


def _whole_batch(layer: BatchNorm, x: Tensor) -> Tensor:
    """Batch normalisation (Ioffe and Szegedy 2015) with mean and variance of the rows of all workers."""
    if not layer.training:
        plain: Tensor = type(layer).forward(layer, x)
        return plain
    axes = [0, *range(2, x.ndim)]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    count = x.new_tensor([x.numel() / x.shape[1]])
    sums = _Sum.apply(torch.cat([x.sum(axes), count]))  # type: ignore[no-untyped-call]  # torch leaves it so
    total = sums[-1].detach()
    mean = sums[:-1] / total
    centred = x - mean.view(shape)
    variance = _Sum.apply(centred.square().sum(axes)) / total  # type: ignore[no-untyped-call]
    if layer.track_running_stats and layer.running_mean is not None and layer.running_var is not None:
        with torch.no_grad():
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked.add_(1)
            share = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
            layer.running_mean.lerp_(mean.detach(), share)
            layer.running_var.lerp_(variance.detach() * total / (total - 1).clamp(min=1), share)
    found: Tensor = centred * torch.rsqrt(variance + layer.eps).view(shape)
    if layer.affine:
        found = found * layer.weight.view(shape) + layer.bias.view(shape)
    return found


@contextmanager
def whole_batch_statistics(model: nn.Module, world: World) -> Iterator[None]:
    """While it lasts, batch normalisation in ``model`` looks at the whole batch, over all workers."""
    layers = [m for m in model.modules() if isinstance(m, BATCH_NORMS)] if world.size > 1 else []
    for layer in layers:
        layer.forward = types.MethodType(_whole_batch, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
