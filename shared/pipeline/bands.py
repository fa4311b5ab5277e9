"""Where a sensor's signal has its power: BandPower; and how that power swells: Envelope."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Self

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.pipeline.base import Array, ArrayOperation, Floats, check_numbers, refuse
from shared.pipeline.series import SERIES
from shared.pipeline.signals import Taper, taper_of
from shared.pipeline.summary import spread

Hertz = Annotated[float, Meta(ge=0)]
QUIET = 1e-6
"""Share of the training data's mean power density below which a band counts as silent."""


class BandPower(ArrayOperation, frozen=True, tag="band_power"):
    """Logarithms of the mean power density of each channel in bands of frequency, over the window or over each part of
    ``size`` steps, one every ``step``.

    The mean is taken away, then the signal is multiplied by a periodic ``taper``; the density is the one-sided
    periodogram, ``2 |X|² / (rate * sum(taper²))`` (Welch 1967; ``scipy.signal.periodogram`` with ``detrend=
    "constant"``). A band is from one of ``edges`` (Hz, rising) up to the next; the last one has both its ends.
    ``sample_rate`` 1 makes ``edges`` cycles a time step.

    >>> BandPower(sample_rate=8.0, edges=(0.5, 2.0, 4.0))(np.cos(np.pi * np.arange(16) / 4)[None]).round(2) + 0.0
    array([[ -1.1 , -23.03]], dtype=float32)
    """

    sample_rate: Annotated[float, Meta(gt=0)]
    edges: Annotated[tuple[Hertz, ...], Meta(min_length=2, max_length=1025)]
    size: Annotated[int, Meta(ge=0, le=65_536)] = 0
    step: Annotated[int, Meta(ge=0, le=65_536)] = 0
    taper: Taper = "hann"
    floor: Annotated[float, Meta(gt=0)] = 1e-10

    def __post_init__(self) -> None:
        if any(low >= high for low, high in itertools.pairwise(self.edges)):
            raise ValueError("band_power: edges must rise")
        if self.edges[-1] > self.sample_rate / 2:
            raise ValueError(
                f"band_power: bands up to {self.edges[-1]:g} Hz; a rate of {self.sample_rate:g} Hz has none above "
                f"{self.sample_rate / 2:g}"
            )

    def __call__(self, batch: Array) -> Floats:
        """(n, time[, c]) -> (n, c * bands) float32, channel by channel; (n, frames, c * bands) with ``size``."""
        x = spread(self, batch, self.size, self.step)
        n, frames, channels, size = x.shape
        weights = _weights(self.sample_rate, self.edges, size)
        if weights is None:
            raise refuse(self, f"{SERIES} long enough to have a frequency in each band", batch)
        taper = taper_of(self.taper, size)
        x = (x - x.sum(axis=-1, keepdims=True) / size) * taper
        spectrum = np.fft.rfft(x.reshape(n, frames * channels, size))
        power = np.matmul(spectrum.real**2 + spectrum.imag**2, weights)  # one product a window
        log = np.log(np.maximum(power / (self.sample_rate * (taper**2).sum()), self.floor))
        out: Floats = log.reshape(n, frames, channels * weights.shape[1]).astype(np.float32)
        return out if self.size else out[:, 0]

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        """What each number of the answer is, for channels called ``columns``."""
        unit = "Hz" if self.sample_rate != 1 else "a step"
        bands = [f"{low:.3g} to {high:.3g} {unit}" for low, high in itertools.pairwise(self.edges)]
        return tuple(f"power of {column}, {band}" for column in columns for band in bands)

    @classmethod
    def fit(cls, batch: Array, sample_rate: float, *, bands: int = 12, size: int = 0, step: int = 0) -> Self:
        """At most ``bands`` bands between the lowest frequency that fits the window and half the rate, each wider than
        the one before by the same factor and at least one frequency wide; ``floor`` from the power of training data."""
        time = size or batch.shape[1]
        top = time // 2
        bins = np.unique(np.round(np.geomspace(1, top + 1, bands + 1)).astype(int)) if top else np.array([0, 1])
        edges = (bins - 0.5) * sample_rate / time
        edges[-1] = sample_rate / 2
        density = 2 * float(np.var(batch.astype(np.float64), axis=1).mean()) / sample_rate
        return cls(
            sample_rate=sample_rate,
            edges=(*(float(f"{edge:.6g}") for edge in edges[:-1]), float(edges[-1])),
            size=size,
            step=step,
            floor=float(f"{max(QUIET * density, 1e-12):.3g}"),
        )


class Envelope(ArrayOperation, frozen=True, tag="envelope"):
    """How loud a signal is between ``low_hz`` and ``high_hz`` (0: half the rate), moment by moment: the magnitude of
    its analytic signal (Gabor 1946; ``abs(scipy.signal.hilbert(x))`` without a band). The spectrum of an envelope shows
    how often something knocks: a damaged bearing, a tooth (Randall and Antoni 2011).

    >>> Envelope(sample_rate=8.0)(np.cos(np.pi * np.arange(8) / 2)[None])
    array([[1., 1., 1., 1., 1., 1., 1., 1.]], dtype=float32)
    """

    sample_rate: Annotated[float, Meta(gt=0)]
    low_hz: Hertz = 0.0
    high_hz: Hertz = 0.0

    def __post_init__(self) -> None:
        high = self.high_hz or self.sample_rate / 2
        if not self.low_hz < high <= self.sample_rate / 2:
            raise ValueError(
                f"envelope: a band from {self.low_hz:g} to {high:g} Hz; expected one below {self.sample_rate / 2:g}"
            )

    def __call__(self, batch: Array) -> Floats:
        """(n, time[, c]) -> (n, time[, c]) float32."""
        check_numbers(self, batch, (2, 3), SERIES)
        if batch.shape[1] < 2:
            raise refuse(self, f"{SERIES} of at least 2 time steps", batch)
        x = np.moveaxis(batch, 1, -1).astype(np.float64, order="C")
        time = x.shape[-1]
        frequency = np.arange(time) * (self.sample_rate / time)
        gain = np.where(frequency <= self.sample_rate / 2, 2.0, 0.0)  # negative frequencies fall away
        gain[0] = 1.0
        if time % 2 == 0:
            gain[time // 2] = 1.0
        gain[(frequency < self.low_hz) | (frequency > (self.high_hz or self.sample_rate / 2))] = 0.0
        analytic = np.fft.ifft(np.fft.fft(x) * gain)
        out = np.sqrt(analytic.real**2 + analytic.imag**2)
        return np.ascontiguousarray(np.moveaxis(out, -1, 1), dtype=np.float32)


@lru_cache(maxsize=16)
def _weights(sample_rate: float, edges: tuple[float, ...], size: int) -> NDArray[np.float64] | None:
    """(size // 2 + 1, bands): the mean over each band's frequencies, one-sided; ``None`` where a band has none."""
    frequency = np.arange(size // 2 + 1) * (sample_rate / size)
    low, high = np.array(edges[:-1]), np.array(edges[1:])
    inside = (frequency[:, None] >= low) & (frequency[:, None] < high)
    inside[:, -1] |= np.isclose(frequency, edges[-1], rtol=1e-9, atol=0.0)
    if not inside.any(axis=0).all():
        return None
    sides = np.full(len(frequency), 2.0)
    sides[0] = 1.0
    if size % 2 == 0:
        sides[-1] = 1.0
    out: NDArray[np.float64] = inside * sides[:, None] / inside.sum(axis=0)
    out.setflags(write=False)
    return out
