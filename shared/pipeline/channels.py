"""What a sensor's channels tell together and from step to step, (n, time, channels): Magnitude, Rates."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta

from shared.pipeline.base import Array, ArrayOperation, Floats, check_numbers, refuse
from shared.pipeline.series import SERIES, Steps

Channel = Annotated[int, Meta(ge=0, le=65_535)]


class Magnitude(ArrayOperation, frozen=True, tag="magnitude"):
    """The Euclidean length of several channels at each time step, as a further channel: what an accelerometer feels
    whichever way it is turned. ``channels``: which ones; none named: all. ``keep``: the channels themselves stay.

    >>> Magnitude()(np.array([[[3.0, 4.0]]]))
    array([[[3., 4., 5.]]], dtype=float32)
    """

    channels: Annotated[tuple[Channel, ...], Meta(max_length=1024)] = ()
    keep: bool = True

    def __call__(self, batch: Array) -> Floats:
        """(n, time, c) -> (n, time, c + 1) float32, or (n, time, 1) without ``keep``."""
        check_numbers(self, batch, (3,), "windows (n, time, channels)")
        if batch.shape[2] <= max(self.channels, default=0):
            raise refuse(self, f"at least {max(self.channels, default=0) + 1} channels", batch)
        length = np.zeros(batch.shape[:2])
        for channel in self.channels or range(batch.shape[2]):  # channel by channel: one order, whatever n is
            length += batch[:, :, channel].astype(np.float64) ** 2
        np.sqrt(length, out=length)
        parts = (batch, length[..., None]) if self.keep else (length[..., None],)
        return np.concatenate(parts, axis=2, dtype=np.float32, casting="unsafe")


class Rates(ArrayOperation, frozen=True, tag="rates"):
    """Each time step with its rates of change, ``x[t] - x[t - lag]``, as further channels, lag by lag. The first time
    steps, which have no such past, have a rate of 0, so that the window keeps its length.

    >>> Rates()(np.array([[1.0, 4.0, 9.0]])).tolist()
    [[[1.0, 0.0], [4.0, 3.0], [9.0, 5.0]]]
    """

    lags: Annotated[tuple[Steps, ...], Meta(min_length=1, max_length=64)] = (1,)

    def __call__(self, batch: Array) -> Floats:
        """(n, time[, c]) -> (n, time, c * (1 + len(lags))) float32."""
        check_numbers(self, batch, (2, 3), SERIES)
        if batch.shape[1] <= max(self.lags):
            raise refuse(self, f"{SERIES} of at least {max(self.lags) + 1} time steps", batch)
        series = batch if batch.ndim == 3 else batch[..., None]
        channels = series.shape[2]
        out = np.zeros((*series.shape[:2], channels * (1 + len(self.lags))), np.float32)
        out[..., :channels] = series
        for place, lag in enumerate(self.lags, 1):
            rate = np.subtract(series[:, lag:], series[:, :-lag], dtype=np.float64)
            out[:, lag:, place * channels : (place + 1) * channels] = rate
        return out
