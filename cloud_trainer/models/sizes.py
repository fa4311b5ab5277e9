"""How big a network is, and the biggest that keeps to limits."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import torch
from msgspec import Struct
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cloud_trainer.models.base import Architecture
from cloud_trainer.models.macs import macs_of
from shared.errors import TrainingError

A = TypeVar("A", bound=Architecture)

LEAST_WIDTH = 4  # before depth is given up for it


class Limits(Struct, frozen=True):
    """For one sample, and for the int8 weights; 0: no limit."""

    macs: int = 0
    bytes: int = 0

    def allow(self, macs: int, size: int) -> bool:
        """Whether both are within."""
        return (not self.macs or macs <= self.macs) and (not self.bytes or size <= self.bytes)

    def fits(self, architecture: Architecture) -> bool:
        """Whether the network is within."""
        return self.allow(
            macs_of(architecture) if self.macs else 0,
            bytes_of(architecture) if self.bytes else 0,
        )


def weight_bytes(model: nn.Module) -> int:
    """Bytes of the weights in int8: one for each weight of a matrix or kernel, four for each number of a bias or of a
    normalisation. Batch normalisation is folded and leaves one bias a channel; what two layers share counts once."""
    total, seen = 0, set[int]()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            total += 4 * module.num_features
            continue
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                total += parameter.numel() * (1 if parameter.ndim > 1 else 4)
        total += sum(4 * buffer.numel() for buffer in module.buffers(recurse=False) if buffer is not None)
    return total


@lru_cache(maxsize=4096)
def bytes_of(architecture: Architecture) -> int:
    """Bytes of its int8 weights, see :func:`weight_bytes`. A file adds its graph and a scale for each channel."""
    with torch.device("meta"):
        return weight_bytes(architecture.network())


def fit_to(architecture: A, limits: Limits, *, most: int = 0) -> A | None:
    """The widest network like ``architecture`` within ``limits``: of its depth if any width of at least
    ``LEAST_WIDTH`` fits, else of the next smaller depth that has one, else the widest of any depth. ``None``: nothing
    fits. Without limits it stays as it is; ``most`` is the largest width, where it is not the family's.

    >>> from cloud_trainer.models.ds_cnn import DsCnn
    >>> found = fit_to(DsCnn(input=(1, 28, 28), outputs=10), Limits(macs=1_000_000))
    >>> macs_of(found) <= 1_000_000 < macs_of(found.with_width(found.width + 1))
    True
    """
    if not limits.macs and not limits.bytes:
        return architecture
    most = most or architecture.max_width
    for least in (min(LEAST_WIDTH, most), 1):
        for depth in range(architecture.depth, 0, -1):
            found = _widest(architecture.with_depth(depth), limits, most)
            if found is not None and found.width >= least:
                return found
    return None


def _widest(architecture: A, limits: Limits, most: int) -> A | None:
    low, high = 0, most
    while low < high:  # invariant: low fits (or is 0), everything above high does not
        middle = (low + high + 1) // 2
        low, high = (middle, high) if limits.fits(architecture.with_width(middle)) else (low, middle - 1)
    return architecture.with_width(low) if low else None


def widest_within(architecture: A, limit: float) -> A:
    """``architecture`` with the largest width up to its own whose MACs are at most ``limit``.

    Raises:
        TrainingError: even a width of 1 costs more.
    """
    found = _widest(architecture, Limits(macs=max(1, int(limit))), architecture.width)
    if found is None:
        raise TrainingError(
            f"no student fits into {limit:.0f} MACs: width 1 needs {macs_of(architecture.with_width(1))}; "
            "raise model.mac_share or model.teacher_width"
        )
    return found
