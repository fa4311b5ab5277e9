"""Spectra of sound and vibration: LogMel, Mfcc."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.pipeline.base import Array, ArrayOperation, Floats, check_numbers, refuse
from shared.pipeline.signals import Taper, framed, taper_of

Scale = Literal["slaney", "htk"]


class LogMel(ArrayOperation, frozen=True, tag="log_mel"):
    """Logarithms of the power in ``bands`` on the mel scale, frame by frame.

    Each frame of ``size`` samples, one every ``step``, is multiplied by a periodic ``taper``, padded with zeros to
    ``fft`` samples (0: ``size``), and transformed; the power |X|² goes through triangular filters between ``low_hz``
    and ``high_hz`` (0: half the sample rate); then ``log(max(power, floor))``, or ``10 log10`` with ``decibel``.

    ``scale`` "slaney": linear below 1 kHz, logarithmic above (Slaney, Auditory Toolbox, 1998), "htk": 2595 log10(1 +
    f/700) (Young et al., The HTK Book). ``normalize``: each triangle has the area 1 instead of the height 1. The
    defaults are librosa's, without its padding at both ends (``center=False``).
    """

    sample_rate: Annotated[int, Meta(ge=1, le=1_000_000)]
    size: Annotated[int, Meta(ge=2, le=65_536)]
    step: Annotated[int, Meta(ge=1, le=65_536)]
    bands: Annotated[int, Meta(ge=1, le=1024)] = 64
    fft: Annotated[int, Meta(ge=0, le=65_536)] = 0
    low_hz: Annotated[float, Meta(ge=0)] = 0.0
    high_hz: Annotated[float, Meta(ge=0)] = 0.0
    scale: Scale = "slaney"
    normalize: bool = True
    taper: Taper = "hann"
    floor: Annotated[float, Meta(gt=0)] = 1e-10
    decibel: bool = False

    def __post_init__(self) -> None:
        if self.fft and self.fft < self.size:
            raise ValueError(f"log_mel: fft {self.fft} is smaller than a frame of {self.size}")
        if self._high <= self.low_hz or self._high > self.sample_rate / 2:
            raise ValueError(
                f"log_mel: bands from {self.low_hz} to {self._high} Hz; expected a range below {self.sample_rate / 2}"
            )

    @property
    def _high(self) -> float:
        return self.high_hz or self.sample_rate / 2

    def __call__(self, batch: Array) -> Floats:
        """(n, time) -> (n, 1 + (time - size) // step, bands) float32."""
        check_numbers(self, batch, (2,), "signals (n, time)")
        if batch.shape[1] < self.size:
            raise refuse(self, f"signals of at least {self.size} samples", batch)
        length = self.fft or self.size
        filters = mel_filters(self.sample_rate, length, self.bands, self.low_hz, self._high, self.scale, self.normalize)
        frames = framed(batch, self.size, self.step) * taper_of(self.taper, self.size)
        spectrum = np.fft.rfft(frames, n=length)
        power = np.matmul(spectrum.real**2 + spectrum.imag**2, filters)  # one product a sample
        log = np.log(np.maximum(power, self.floor))
        out: Floats = (log * (10 / np.log(10)) if self.decibel else log).astype(np.float32)
        return out


class Mfcc(ArrayOperation, frozen=True, tag="mfcc"):
    """Mel-frequency cepstral coefficients of log-mel bands: the first ``coefficients`` of their orthonormal DCT-II
    (Davis and Mermelstein 1980; ``scipy.fft.dct(type=2, norm="ortho")``).

    >>> Mfcc(coefficients=1)(np.ones((1, 1, 4)))
    array([[[2.]]], dtype=float32)
    """

    coefficients: Annotated[int, Meta(ge=1, le=1024)] = 13

    def __call__(self, batch: Array) -> Floats:
        """(n, frames, bands) -> (n, frames, coefficients) float32."""
        check_numbers(self, batch, (3,), "bands (n, frames, bands)")
        if batch.shape[-1] < self.coefficients:
            raise refuse(self, f"at least {self.coefficients} bands", batch)
        basis = _cosines(batch.shape[-1], self.coefficients)
        out: Floats = np.matmul(batch.astype(np.float64, order="C"), basis).astype(np.float32)
        return out


@lru_cache(maxsize=8)
def mel_filters(
    sample_rate: int, fft: int, bands: int, low: float, high: float, scale: Scale, normalize: bool
) -> NDArray[np.float64]:
    """(fft // 2 + 1, bands): each column the triangle of one band."""
    first, last = _to_mel(np.array([low, high]), scale).tolist()
    mel = np.linspace(first, last, bands + 2)
    corners = _to_hertz(mel, scale)
    frequency = np.arange(fft // 2 + 1) * (sample_rate / fft)
    rising = (frequency[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequency[:, None]) / (corners[2:] - corners[1:-1])
    filters: NDArray[np.float64] = np.maximum(np.minimum(rising, falling), 0)
    if normalize:
        filters = filters * (2 / (corners[2:] - corners[:-2]))
    filters.setflags(write=False)
    return filters


LINEAR = 200 / 3  # Hz a mel below 1 kHz
STEP = np.log(6.4) / 27  # and the logarithmic step above


def _to_mel(hertz: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    if scale == "htk":
        return 2595 * np.log10(1 + hertz / 700)
    high = 15 + np.log(np.maximum(hertz, 1000) / 1000) / STEP
    return np.where(hertz < 1000, hertz / LINEAR, high)


def _to_hertz(mel: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return np.where(mel < 15, mel * LINEAR, 1000 * np.exp(STEP * (mel - 15)))


@lru_cache(maxsize=8)
def _cosines(bands: int, coefficients: int) -> NDArray[np.float64]:
    """(bands, coefficients) of the orthonormal DCT-II."""
    angle = np.pi / bands * (np.arange(bands)[:, None] + 0.5) * np.arange(coefficients)
    basis: NDArray[np.float64] = np.cos(angle) * np.sqrt(2 / bands)
    basis[:, 0] /= np.sqrt(2)
    basis.setflags(write=False)
    return basis
