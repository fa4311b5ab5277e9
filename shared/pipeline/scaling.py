"""Values into the range that the model was trained on: Scale, Standardize, Clip."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Self

import numpy as np
from msgspec import Meta

from shared.pipeline.base import Array, ArrayOperation, Floats, check_numbers, check_size, refuse

FLOAT32 = np.dtype(np.float32)
SPREAD = 1 << 16
"""Numbers up to which one value for each entry of the last axis is written out for every number of a sample."""


class Scale(ArrayOperation, frozen=True, tag="scale"):
    """``x * factor + offset`` as float32, e.g. ``factor = 1/255`` for images of bytes.

    >>> Scale(factor=0.5)(np.array([[2, 4]], dtype=np.uint8))
    array([[1., 2.]], dtype=float32)
    """

    factor: float
    offset: float = 0.0

    def __call__(self, batch: Array) -> Floats:
        """(n, ...) any numeric dtype -> (n, ...) float32."""
        check_numbers(self, batch)
        out: Floats = np.multiply(batch, np.float32(self.factor), dtype=np.float32)
        if self.offset:
            out += np.float32(self.offset)
        return out

    def into(self, target: Array, source: Array) -> Callable[[Array], None]:
        """The same, written into ``target``, for batches like ``source``."""
        factor, offset = np.array(self.factor, np.float32), np.array(self.offset, np.float32)
        multiply, add = np.multiply, np.add
        if source.dtype == FLOAT32 and target.dtype == FLOAT32:  # an explicit dtype costs a third of a small call

            def run(batch: Array) -> None:
                multiply(batch, factor, target)

        else:

            def run(batch: Array) -> None:
                multiply(batch, factor, target, dtype=FLOAT32)

        if not self.offset:
            return run

        def run_with_offset(batch: Array) -> None:
            run(batch)
            add(target, offset, target)

        return run_with_offset


class Standardize(ArrayOperation, frozen=True, tag="standardize"):
    """``(x - mean) / std`` as float32; one pair for the whole sample, or one for each entry of the last axis.

    >>> Standardize(mean=(1.0, 0.0), std=(2.0, 4.0))(np.array([[5.0, 1.0]]))
    array([[2.  , 0.25]], dtype=float32)
    """

    mean: tuple[float, ...]
    std: tuple[Annotated[float, Meta(gt=0)], ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"standardize: {len(self.mean)} means for {len(self.std)} standard deviations")

    def __call__(self, batch: Array) -> Floats:
        """(n, ..., c) -> (n, ..., c) float32."""
        self._check(batch)
        mean = np.asarray(self.mean, np.float32)
        inverse = np.float32(1) / np.asarray(self.std, np.float32)
        out: Floats = np.subtract(batch, mean, dtype=np.float32)
        out *= inverse
        return out

    def into(self, target: Array, source: Array) -> Callable[[Array], None]:
        """The same, written into ``target``, for batches like ``source``."""
        self._check(source)
        mean = _spread(np.asarray(self.mean, np.float32), target)
        inverse = _spread(np.float32(1) / np.asarray(self.std, np.float32), target)
        subtract, multiply = np.subtract, np.multiply
        if source.dtype == FLOAT32 and target.dtype == FLOAT32:

            def run(batch: Array) -> None:
                subtract(batch, mean, target)
                multiply(target, inverse, target)

        else:

            def run(batch: Array) -> None:
                subtract(batch, mean, target, dtype=FLOAT32)
                multiply(target, inverse, target)

        return run

    def _check(self, batch: Array) -> None:
        check_numbers(self, batch)
        if len(self.mean) != 1 and (batch.ndim < 2 or batch.shape[-1] != len(self.mean)):
            raise refuse(self, f"(n, ..., {len(self.mean)})", batch)

    @classmethod
    def fit(cls, batch: Array, *, per_column: bool = False) -> Self:
        """Mean and standard deviation of training data; a constant column gets a standard deviation of 1."""
        axes = tuple(range(batch.ndim - 1)) if per_column else None
        mean = np.atleast_1d(np.mean(batch, axis=axes, dtype=np.float64))
        std = np.atleast_1d(np.std(batch, axis=axes, dtype=np.float64))
        std[std < 1e-12] = 1.0
        made = cls(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
        check_size(made, 2 * mean.size)
        return made


def _spread(values: Floats, target: Array) -> Floats:
    """``values`` as ufuncs are fastest on it: one number without axes, several in the shape of ``target``. Both are one
    inner loop; an axis of three, as colours are, would be a loop for each pixel."""
    if values.size == 1:
        return values.reshape(())
    return np.ascontiguousarray(np.broadcast_to(values, target.shape)) if target.size <= SPREAD else values


class Clip(ArrayOperation, frozen=True, tag="clip"):
    """Limit values to ``[low, high]``; for integer samples to the integers in between.

    >>> Clip(low=0, high=10)(np.array([[-3, 5, 99]]))
    array([[ 0,  5, 10]])
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"clip: low {self.low} must not be above high {self.high}")

    def __call__(self, batch: Array) -> Array:
        """(n, ...) -> (n, ...), dtype kept."""
        check_numbers(self, batch)
        low, high = self._limits(batch.dtype)
        out: Array = np.minimum(np.maximum(batch, low), high)
        return out

    def into(self, target: Array, source: Array) -> Callable[[Array], None]:
        """The same, written into ``target``, for batches like ``source``."""
        check_numbers(self, source)
        low, high = (np.asarray(limit) for limit in self._limits(target.dtype))
        minimum, maximum = np.minimum, np.maximum  # a third of np.clip's time on a small batch

        def run(batch: Array) -> None:
            maximum(batch, low, out=target)
            minimum(target, high, out=target)

        return run

    def _limits(self, dtype: np.dtype[Any]) -> tuple[Any, Any]:
        """Both limits as ``dtype``: as Python floats they would turn integers into float64."""
        low, high = self.low, self.high
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            low, high = (min(max(limit, info.min), info.max) for limit in (math.ceil(low), math.floor(high)))
        return dtype.type(low), dtype.type(high)
