"""Several augmentations one after the other; random numbers for them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from msgspec import Struct
from torch import Generator, Tensor

Alter = Callable[[Tensor, Generator], Tensor]


class Chain(Struct, frozen=True):
    """Each of ``steps`` on what the one before it gave; each with the chance ``share`` for a row, so that some samples
    stay as they were recorded."""

    steps: tuple[Alter, ...]
    share: float = 1.0

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, ...) -> (b, ...)."""
        for step in self.steps:
            altered = step(x, generator)
            if self.share < 1:
                chosen = uniform((len(x),), generator, x) < self.share
                altered = torch.where(chosen.reshape(-1, *[1] * (x.ndim - 1)), altered, x)
            x = altered
        return x


def chain(*steps: Alter, share: float = 1.0) -> Chain:
    """``steps`` as one augmentation."""
    return Chain(steps, share)


def uniform(shape: tuple[int, ...], generator: Generator, like: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Numbers between ``low`` and ``high``, float32, on the device of ``like``."""
    return (torch.rand(shape, generator=generator) * (high - low) + low).to(like.device)


def normal(shape: tuple[int, ...], generator: Generator, like: Tensor) -> Tensor:
    """Standard normal numbers, float32, on the device of ``like``."""
    return torch.randn(shape, generator=generator).to(like.device)


def stretch_of(length: int, share: float, rows: int, generator: Generator, like: Tensor) -> Tensor:
    """(rows, length) bool: in each row one stretch of up to ``share`` of the length, somewhere, is true."""
    size = uniform((rows, 1), generator, like, 0.0, share * length)
    start = uniform((rows, 1), generator, like) * (length - size)
    place = torch.arange(length, device=like.device)
    return (place >= start) & (place < start + size)
