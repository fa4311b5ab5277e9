"""Numbers spread out for a network: Piecewise."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Self

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.pipeline.base import Array, ArrayOperation, Floats, check_numbers, check_size, refuse

Knots = Annotated[tuple[float, ...], Meta(min_length=2, max_length=257)]


class Piecewise(ArrayOperation, frozen=True, tag="piecewise"):
    """Each column becomes a ramp for each interval between its ``knots``: 0 below it, 1 above it, and in between how
    far the number is through it (piecewise linear encoding, Gorishniy et al. 2022, arXiv 2203.05556, clipped at both
    ends). A network sees where in the training data's order a number is, whatever its scale; and all of its inputs lie
    in [0, 1], which integers of 8 bits hold well.

    >>> Piecewise(knots=((0.0, 1.0, 3.0),))(np.array([[2.0], [-7.0]]))
    array([[1. , 0.5],
           [0. , 0. ]], dtype=float32)
    """

    knots: Annotated[tuple[Knots, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        for column, knots in enumerate(self.knots):
            if any(not low < high for low, high in pairwise(knots)):
                raise ValueError(f"piecewise: the knots of column {column} must rise")
        check_size(self, sum(map(len, self.knots)))

    def __call__(self, batch: Array) -> Floats:
        """(n, ..., c) -> (n, ..., intervals) float32, column by column."""
        self._check(batch)
        columns, low, factor = self._parts()
        out: Floats = np.take(batch.astype(np.float32, copy=False), columns, axis=-1)
        out = (out - low) * factor
        return np.ascontiguousarray(np.minimum(np.maximum(out, np.float32(0)), np.float32(1)))

    def into(self, target: Array, source: Array) -> Callable[[Array], None]:
        """The same, written into ``target``, for batches like ``source``."""
        self._check(source)
        columns, low, factor = self._parts()
        take, subtract, multiply, maximum, minimum = np.take, np.subtract, np.multiply, np.maximum, np.minimum
        zero, one = np.float32(0).reshape(()), np.float32(1).reshape(())
        narrow = None if source.dtype == np.float32 else np.empty(source.shape, np.float32)

        def run(batch: Array) -> None:
            if narrow is not None:
                narrow[...] = batch
                batch = narrow
            take(batch, columns, -1, target, "clip")
            subtract(target, low, target)
            multiply(target, factor, target)
            maximum(target, zero, out=target)
            minimum(target, one, out=target)

        return run

    def _parts(self) -> tuple[NDArray[np.intp], Floats, Floats]:
        """For each interval its column, where it begins, and one over its length."""
        columns = np.repeat(np.arange(len(self.knots)), [len(knots) - 1 for knots in self.knots])
        low = np.array([knot for knots in self.knots for knot in knots[:-1]])
        high = np.array([knot for knots in self.knots for knot in knots[1:]])
        return columns, low.astype(np.float32), (1 / (high - low)).astype(np.float32)

    def _check(self, batch: Array) -> None:
        check_numbers(self, batch)
        if batch.ndim < 2 or batch.shape[-1] != len(self.knots):
            raise refuse(self, f"(n, ..., {len(self.knots)})", batch)

    @classmethod
    def fit(cls, batch: Array, intervals: int = 8) -> Self:
        """Knots at quantiles of training data (n, ..., c), which divide each column into ``intervals`` with about as
        many samples in each; at its values where a column has no more of them than that. NaN does not count."""
        columns = np.asarray(batch, np.float64).reshape(-1, batch.shape[-1])
        made = []
        for column in columns.T:
            values = np.unique(np.float32(column[~np.isnan(column)]))
            if len(values) > intervals + 1:
                known = column[~np.isnan(column)]
                values = np.unique(np.float32(np.quantile(known, np.linspace(0, 1, intervals + 1))))
            if len(values) < 2:
                start = float(values[0]) if len(values) else 0.0
                values = np.array([start, start + max(1.0, abs(start))], np.float32)
            made.append(tuple(float(str(value)) for value in values))
        return cls(knots=tuple(made))
