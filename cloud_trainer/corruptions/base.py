"""What a corruption is, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Samples = NDArray[Any]
Alter = Callable[[Samples, int, np.random.Generator, Samples], Samples]
"""(raw samples (n, *shape), severity 1 to 5, randomness, samples to take scales and values from) -> the same, altered:
a new array of the same shape and dtype."""

SEVERITIES = (1, 2, 3, 4, 5)


class Corruption(Struct, frozen=True):
    """One way in which samples go wrong. ``what``: what happens at severities 1 and 5, for people."""

    name: str
    what: str
    alter: Alter

    def __call__(
        self,
        x: Samples,
        severity: int,
        rng: np.random.Generator,
        like: Samples | None = None,
        keep: tuple[int, ...] = (),
    ) -> Samples:
        """``x`` (n, *shape) altered; ``like``: clean samples whose spread is the unit of noise, ``x`` itself where
        there are none; ``keep``: places of the last axis that stay as they are (a time column)."""
        found = self.alter(x, severity, rng, x if like is None else like)
        if keep:
            found[..., list(keep)] = x[..., list(keep)]
        return found


def level(severity: int, *values: float) -> float:
    """The one of five ``values`` that belongs to a severity."""
    return values[severity - 1]


def restored(values: NDArray[np.floating[Any]], like: Samples) -> Samples:
    """Floats back in the dtype of ``like``: rounded and kept within its range where it is whole numbers."""
    if like.dtype.kind in "iu":
        limits = np.iinfo(like.dtype)
        return np.asarray(np.clip(np.rint(values), limits.min, limits.max), like.dtype)
    return np.asarray(values, like.dtype)
