"""A window of a sensor in a few numbers: Summary, Correlations.

Time is brought last, in C-ordered memory, so that sums add in one order whatever the number of windows is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from shared.pipeline.base import Array, ArrayOperation, Floats, check_numbers, refuse
from shared.pipeline.series import SERIES
from shared.pipeline.signals import framed

Statistic = Literal[
    "mean", "std", "min", "max", "range", "median", "q10", "q25", "q75", "q90", "rms", "skewness", "kurtosis",
    "crossings", "rate", "rate_std", "slope",
]  # fmt: skip
FLAT = 1e-18
"""A variance below this share of the mean square is rounding."""


class Summary(ArrayOperation, frozen=True, tag="summary"):
    """Statistics of each channel over the window, or over each part of ``size`` steps, one every ``step`` (rolling
    statistics).

    ``std``, ``skewness`` and ``kurtosis`` (3 for a normal distribution) are those of the population, 0 where a channel
    does not move; ``q10`` ... ``q90`` quantiles, interpolated; ``rms`` the root of the mean square; ``crossings`` the
    share of steps that cross the mean; ``rate`` and ``rate_std`` the mean absolute and the standard deviation of
    ``x[t] - x[t-1]``; ``slope`` that of the least-squares line, a time step.

    >>> Summary(statistics=("mean", "range"))(np.array([[1, 2, 6]]))
    array([[3., 5.]], dtype=float32)
    """

    statistics: Annotated[tuple[Statistic, ...], Meta(min_length=1, max_length=17)]
    size: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    step: Annotated[int, Meta(ge=0, le=1 << 20)] = 0

    def __call__(self, batch: Array) -> Floats:
        """(n, time[, c]) -> (n, statistics * c) float32, statistic by statistic; (n, frames, statistics * c) with
        ``size``. Without ``step``, frames lie end to end."""
        x = spread(self, batch, self.size, self.step)
        moments = _Moments(x)
        out = np.stack([STATISTICS[name](moments) for name in self.statistics], axis=2)  # (n, frames, k, c)
        flat = out.reshape(*out.shape[:2], out.shape[2] * out.shape[3]).astype(np.float32)
        return flat if self.size else flat[:, 0]

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        """What each number of the answer is, for channels called ``columns``."""
        return tuple(f"{statistic} of {column}" for statistic in self.statistics for column in columns)


class Correlations(ArrayOperation, frozen=True, tag="correlations"):
    """Pearson's correlation of every pair of channels over the window; 0 where one of them does not move.

    >>> Correlations()(np.array([[[1.0, 2.0], [2.0, 0.0], [3.0, -2.0]]]))
    array([[-1.]], dtype=float32)
    """

    def __call__(self, batch: Array) -> Floats:
        """(n, time, c) -> (n, c * (c - 1) / 2) float32: 0-1, 0-2, ..., 1-2, ..."""
        check_numbers(self, batch, (3,), "windows (n, time, channels)")
        if batch.shape[2] < 2:
            raise refuse(self, "windows of at least 2 channels", batch)
        z = _Moments(spread(self, batch, 0, 0)).z[:, 0]
        pairs = [(a, b) for a in range(z.shape[1]) for b in range(a + 1, z.shape[1])]
        products = [(z[:, a] * z[:, b]).sum(axis=-1) / z.shape[-1] for a, b in pairs]
        return np.stack(products, axis=1).astype(np.float32)

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        """What each number of the answer is, for channels called ``columns``."""
        return tuple(f"correlation of {a} and {b}" for i, a in enumerate(columns) for b in columns[i + 1 :])


def spread(operation: Struct, batch: Array, size: int, step: int) -> NDArray[np.float64]:
    """(n, time[, c]) -> (n, frames, c, size) float64 in C order; ``size`` 0: one frame of everything."""
    check_numbers(operation, batch, (2, 3), SERIES)
    if batch.shape[1] < max(size, 2):
        raise refuse(operation, f"{SERIES} of at least {max(size, 2)} time steps", batch)
    series = batch if batch.ndim == 3 else batch[..., None]
    frames = framed(series, size, step or size) if size else series[:, None]
    return np.moveaxis(frames, -1, 2).astype(np.float64, order="C")


class _Moments:
    """What several statistics of (..., time) share, each worked out once."""

    def __init__(self, x: NDArray[np.float64]) -> None:
        self.x = x
        self._sorted: NDArray[np.float64] | None = None
        time = x.shape[-1]
        self.mean = x.sum(axis=-1) / time
        self.centred = x - self.mean[..., None]
        variance = (self.centred**2).sum(axis=-1) / time
        self.power = variance + self.mean**2
        self.std = np.sqrt(np.where(variance > FLAT * self.power, variance, 0.0))
        self.z = self.centred / np.where(self.std > 0, self.std, np.inf)[..., None]
        self.steps = np.diff(x, axis=-1)

    def quantile(self, q: float) -> NDArray[np.float64]:
        if self._sorted is None:
            self._sorted = np.sort(self.x, axis=-1)
        place = q * (self.x.shape[-1] - 1)
        low = int(place)
        below, above = self._sorted[..., low], self._sorted[..., min(low + 1, self.x.shape[-1] - 1)]
        between: NDArray[np.float64] = below + (above - below) * (place - low)
        return between

    def power_of_z(self, exponent: int) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = (self.z**exponent).sum(axis=-1) / self.x.shape[-1]
        return mean

    def crossings(self) -> NDArray[np.float64]:
        above = self.centred > 0
        share: NDArray[np.float64] = (above[..., 1:] != above[..., :-1]).sum(axis=-1) / (self.x.shape[-1] - 1)
        return share

    def rate(self) -> NDArray[np.float64]:
        rate: NDArray[np.float64] = np.abs(self.steps).sum(axis=-1) / self.steps.shape[-1]
        return rate

    def rate_std(self) -> NDArray[np.float64]:
        count = self.steps.shape[-1]
        mean = self.steps.sum(axis=-1, keepdims=True) / count
        std: NDArray[np.float64] = np.sqrt(((self.steps - mean) ** 2).sum(axis=-1) / count)
        return std

    def slope(self) -> NDArray[np.float64]:
        t = np.arange(self.x.shape[-1]) - (self.x.shape[-1] - 1) / 2
        slope: NDArray[np.float64] = (self.centred * t).sum(axis=-1) / (t * t).sum()
        return slope


STATISTICS: dict[str, Callable[[_Moments], NDArray[np.float64]]] = {
    "mean": lambda m: m.mean,
    "std": lambda m: m.std,
    "min": lambda m: m.x.min(axis=-1),
    "max": lambda m: m.x.max(axis=-1),
    "range": lambda m: m.x.max(axis=-1) - m.x.min(axis=-1),
    "median": lambda m: m.quantile(0.5),
    "q10": lambda m: m.quantile(0.1),
    "q25": lambda m: m.quantile(0.25),
    "q75": lambda m: m.quantile(0.75),
    "q90": lambda m: m.quantile(0.9),
    "rms": lambda m: np.sqrt(m.power),
    "skewness": lambda m: m.power_of_z(3),
    "kurtosis": lambda m: m.power_of_z(4),
    "crossings": _Moments.crossings,
    "rate": _Moments.rate,
    "rate_std": _Moments.rate_std,
    "slope": _Moments.slope,
}
