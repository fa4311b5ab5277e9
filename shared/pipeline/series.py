"""Windows over time, (n, time) or (n, time, channels): Lags, Difference, Rolling.

Sums are made by adding whole slices, one after the other: the order does not depend on the shape.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct

from shared.pipeline.base import Array, ArrayOperation, Floats, check_numbers, refuse

SERIES = "windows (n, time) or (n, time, channels)"
Steps = Annotated[int, Meta(ge=1, le=65_536)]
Statistic = Literal["mean", "std", "min", "max"]


class Lags(ArrayOperation, frozen=True, tag="lags"):
    """Each time step with what was measured ``steps`` before it, as further channels; the first ``max(steps)`` time
    steps, which have no such past, fall away.

    >>> Lags(steps=(1, 2))(np.array([[1, 2, 3, 4]])).tolist()
    [[[3.0, 2.0, 1.0], [4.0, 3.0, 2.0]]]
    """

    steps: Annotated[tuple[Steps, ...], Meta(min_length=1, max_length=1024)]

    def __call__(self, batch: Array) -> Floats:
        """(n, time[, c]) -> (n, time - max(steps), c * (1 + len(steps))) float32: now, then lag by lag."""
        first = max(self.steps)
        series = _series(self, batch, first + 1)
        time = series.shape[1]
        parts = [series[:, first - lag : time - lag] for lag in (0, *self.steps)]
        return np.concatenate(parts, axis=2).astype(np.float32, copy=False)


class Difference(ArrayOperation, frozen=True, tag="difference"):
    """``x[t] - x[t - lag]``: takes a trend (``lag`` 1) or a season (``lag`` its length) away.

    >>> Difference()(np.array([[1, 4, 9]]))
    array([[3., 5.]], dtype=float32)
    """

    lag: Steps = 1

    def __call__(self, batch: Array) -> Floats:
        """(n, time[, c]) -> (n, time - lag[, c]) float32."""
        series = _series(self, batch, self.lag + 1)
        out = np.subtract(series[:, self.lag :], series[:, : -self.lag], dtype=np.float64).astype(np.float32)
        return out if batch.ndim == 3 else out[..., 0]


class Rolling(ArrayOperation, frozen=True, tag="rolling"):
    """Statistics of the last ``size`` time steps at every time step that has so many; ``std`` divides by ``size``.

    >>> Rolling(size=2, statistics=("mean", "max"))(np.array([[1, 3, 7]])).tolist()
    [[[2.0, 3.0], [5.0, 7.0]]]
    """

    size: Steps
    statistics: Annotated[tuple[Statistic, ...], Meta(min_length=1, max_length=4)] = ("mean",)

    def __call__(self, batch: Array) -> Floats:
        """(n, time[, c]) -> (n, time - size + 1, c * len(statistics)) float32, statistic by statistic."""
        series = _series(self, batch, self.size).astype(np.float64)
        count = series.shape[1] - self.size + 1
        slices = [series[:, k : k + count] for k in range(self.size)]
        parts = [_statistic(name, slices) for name in self.statistics]
        return np.concatenate(parts, axis=2).astype(np.float32)


def _statistic(name: Statistic, slices: list[Array]) -> Array:
    if name in {"min", "max"}:
        choose = np.minimum if name == "min" else np.maximum
        out = slices[0]
        for values in slices[1:]:
            out = choose(out, values)
        return out
    mean = np.zeros(slices[0].shape)
    for values in slices:
        mean += values
    mean /= len(slices)
    if name == "mean":
        return mean
    square = np.zeros(mean.shape)
    for values in slices:
        square += (values - mean) ** 2
    return np.sqrt(square / len(slices))


def _series(operation: Struct, batch: Array, least: int) -> Array:
    """``batch`` as (n, time, channels)."""
    check_numbers(operation, batch, (2, 3), SERIES)
    if batch.shape[1] < least:
        raise refuse(operation, f"{SERIES} of at least {least} time steps", batch)
    return batch if batch.ndim == 3 else batch[..., None]
