"""Audio and vibration, (n, time) or (n, time, channels): Resample, Window, Detrend."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from shared.pipeline.base import Array, ArrayOperation, Floats, check_numbers, refuse
from shared.pipeline.series import SERIES

Taper = Literal["none", "hann", "hamming", "blackman"]
COSINES: dict[str, tuple[float, ...]] = {
    "none": (1.0,),
    "hann": (0.5, -0.5),
    "hamming": (0.54, -0.46),
    "blackman": (0.42, -0.5, 0.08),
}
"""Coefficients of the cosine sums (Harris 1978)."""


class Resample(ArrayOperation, frozen=True, tag="resample"):
    """Change the sample rate by ``up / down`` with a polyphase FIR filter: a sinc cut off at the lower of both Nyquist
    frequencies, under a Kaiser window (beta 5) of 10 periods to each side; outside, the signal counts as zero
    (``scipy.signal.resample_poly`` with its defaults).

    >>> Resample(up=1, down=2)(np.ones((1, 64))).shape
    (1, 32)
    """

    up: Annotated[int, Meta(ge=1, le=4096)]
    down: Annotated[int, Meta(ge=1, le=4096)]

    def __call__(self, batch: Array) -> Floats:
        """(n, time[, c]) -> (n, ceil(time * up / down)[, c]) float32."""
        check_numbers(self, batch, (2, 3), SERIES)
        if batch.shape[1] < 1:
            raise refuse(self, f"{SERIES} of at least one time step", batch)
        common = math.gcd(self.up, self.down)
        up, down = self.up // common, self.down // common
        if up == down:
            return batch.astype(np.float32)
        time = batch.shape[1]
        count = -(-time * up // down)
        first, taps = _phases(up, down, count)
        before, after = max(0, -int(first.min(initial=0))), len(taps)
        tail = [(0, 0)] * (batch.ndim - 2)
        padded = np.pad(batch.astype(np.float64), [(0, 0), (before, after + int(down)), *tail])
        out = np.zeros((len(batch), count, *batch.shape[2:]))
        for k, tap in enumerate(taps):
            out += padded[:, np.minimum(first + (before + k), padded.shape[1] - 1)] * tap.reshape(-1, *[1] * len(tail))
        return out.astype(np.float32)


class Window(ArrayOperation, frozen=True, tag="window"):
    """Cut the signal into frames of ``size``, one every ``step``, each multiplied by a periodic ``taper``; what is
    left at the end is dropped.

    >>> Window(size=2, step=1)(np.array([[1, 2, 3]])).tolist()
    [[[1.0, 2.0], [2.0, 3.0]]]
    """

    size: Annotated[int, Meta(ge=1, le=1 << 20)]
    step: Annotated[int, Meta(ge=1, le=1 << 20)]
    taper: Taper = "none"

    def __call__(self, batch: Array) -> Floats:
        """(n, time[, c]) -> (n, frames, size[, c]) float32, with 1 + (time - size) // step frames."""
        check_numbers(self, batch, (2, 3), SERIES)
        if batch.shape[1] < self.size:
            raise refuse(self, f"{SERIES} of at least {self.size} time steps", batch)
        frames = framed(batch, self.size, self.step).astype(np.float32)
        if self.taper != "none":
            taper = taper_of(self.taper, self.size).astype(np.float32)
            frames *= taper.reshape(-1, *[1] * (batch.ndim - 2))
        return frames


class Detrend(ArrayOperation, frozen=True, tag="detrend"):
    """Subtract each signal's mean (``constant``) or its least-squares line (``linear``), like
    ``scipy.signal.detrend``.

    >>> Detrend()(np.array([[1.0, 2.0, 3.0]])).round(6) + 0.0
    array([[0., 0., 0.]], dtype=float32)
    """

    kind: Literal["linear", "constant"] = "linear"

    def __call__(self, batch: Array) -> Floats:
        """(n, time[, c]) -> (n, time[, c]) float32."""
        check_numbers(self, batch, (2, 3), SERIES)
        if batch.shape[1] < 1:
            raise refuse(self, f"{SERIES} of at least one time step", batch)
        x = np.moveaxis(batch, 1, -1).astype(np.float64, order="C")  # time last: sums add in one order
        time = x.shape[-1]
        x -= x.sum(axis=-1, keepdims=True) / time
        if self.kind == "linear" and time > 1:
            t = np.arange(time) - (time - 1) / 2
            slope = (x * t).sum(axis=-1, keepdims=True) / (t * t).sum()
            x -= slope * t
        return np.ascontiguousarray(np.moveaxis(x, -1, 1), dtype=np.float32)


def framed(batch: Array, size: int, step: int) -> Array:
    """(n, time[, c]) -> (n, frames, size[, c]); a view."""
    frames = sliding_window_view(batch, size, axis=1)[:, ::step]
    return frames if batch.ndim == 2 else np.moveaxis(frames, -1, 2)


@lru_cache(maxsize=32)
def taper_of(name: str, size: int) -> NDArray[np.float64]:
    """The periodic window called ``name``, (size,): the one before a Fourier transform."""
    angle = 2 * np.pi * np.arange(size) / size
    out = sum((c * np.cos(k * angle) for k, c in enumerate(COSINES[name])), start=np.zeros(size))
    out.setflags(write=False)
    return out


@lru_cache(maxsize=16)
def _phases(up: int, down: int, count: int) -> tuple[NDArray[np.intp], list[NDArray[np.float64]]]:
    """For each of ``count`` outputs the first input that its filter touches, and the filter, tap by tap (count,).

    Output m is the sum over inputs k of h[m * down - k * up], h centred on 0.
    """
    rate = max(up, down)
    half = 10 * rate
    m = np.arange(-half, half + 1)
    h = np.sinc(m / rate) / rate * np.kaiser(2 * half + 1, 5.0)
    h *= up / h.sum()
    centre = np.arange(count) * down
    first = -((half - centre) // up)  # the smallest k with m * down - k * up <= half
    taps = []
    for k in range((2 * half) // up + 1):
        lag = centre - (first + k) * up + half
        taps.append(np.where((lag >= 0) & (lag <= 2 * half), h[np.clip(lag, 0, 2 * half)], 0.0))
    return first, taps
