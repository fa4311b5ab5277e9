"""Sounds (n, samples) as int16 or floats; every sound is its own unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.corruptions.base import Corruption, Samples, level, restored


def _noise(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del like
    wave = x.astype(np.float64)
    power = np.sqrt((wave**2).mean(axis=1, keepdims=True)) * 10 ** (-level(severity, 30, 20, 15, 10, 5) / 20)
    return restored(wave + rng.normal(0, 1, x.shape) * power, x)


def _quiet(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del rng, like
    return restored(x * 10 ** (-level(severity, 6, 12, 18, 24, 30) / 20), x)


def _clip(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del rng, like
    wave = x.astype(np.float64)
    limit: NDArray[np.float64] = np.abs(wave).max(axis=1, keepdims=True) * level(severity, 0.7, 0.5, 0.3, 0.2, 0.1)
    return restored(np.clip(wave, -limit, limit), x)


def _low_pass(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del rng, like
    bands = np.fft.rfft(x.astype(np.float64), axis=1)
    bands[:, max(1, round(bands.shape[1] * level(severity, 0.7, 0.5, 0.35, 0.25, 0.15))) :] = 0
    return restored(np.fft.irfft(bands, x.shape[1], axis=1), x)


def _shift(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del like
    length = x.shape[1]
    by = round(length * level(severity, 0.02, 0.05, 0.1, 0.15, 0.25)) * rng.choice([-1, 1], (len(x), 1))
    place = np.arange(length)[None] - by
    found = np.take_along_axis(x, np.clip(place, 0, length - 1), axis=1)
    found[(place < 0) | (place >= length)] = 0
    return found


CORRUPTIONS = (
    Corruption("noise", "white noise at 30 to 5 dB below the sound", _noise),
    Corruption("quiet", "quieter by 6 to 30 dB", _quiet),
    Corruption("clipping", "cut off at 70 to 10 % of its peak", _clip),
    Corruption("low-pass", "nothing above 70 to 15 % of the band", _low_pass),
    Corruption("time shift", "earlier or later by 2 to 25 % of its length", _shift),
)
