"""Windows of sensors and histories of series, (n, time, channels); the unit is each channel's standard deviation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.corruptions.base import Corruption, Samples, level, restored


def _spread(like: Samples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(channels,) mean and standard deviation."""
    values = like.astype(np.float64).reshape(-1, like.shape[-1])
    return np.nanmean(values, axis=0), np.nanstd(values, axis=0)


def _noise(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    noise = rng.normal(0, level(severity, 0.05, 0.1, 0.2, 0.35, 0.5), x.shape)
    return restored(x + noise * _spread(like)[1], x)


def _drift(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    end = level(severity, 0.25, 0.5, 1.0, 1.5, 2.0) * rng.choice([-1.0, 1.0], (len(x), 1, x.shape[2]))
    return restored(x + np.linspace(0, 1, x.shape[1])[None, :, None] * end * _spread(like)[1], x)


def _gap(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del like
    time = x.shape[1]
    length = max(1, round(time * level(severity, 0.05, 0.1, 0.2, 0.3, 0.45)))
    start = rng.integers(1, max(2, time - length + 1), (len(x), 1))
    place = np.arange(time)[None]
    held = np.where((place >= start) & (place < start + length), start - 1, place)
    return np.take_along_axis(x, held[..., None], axis=1)


def _scale(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    mean = _spread(like)[0]
    size = level(severity, 0.05, 0.1, 0.2, 0.35, 0.5)
    factor = 1 + size * rng.choice([-1.0, 1.0], (len(x), 1, x.shape[2]))
    return restored(mean + (x - mean) * factor, x)


def _clip(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del rng
    mean, deviation = _spread(like)
    reach: Any = level(severity, 2.5, 2.0, 1.5, 1.0, 0.7) * deviation
    return restored(np.clip(x.astype(np.float64), mean - reach, mean + reach), x)


CORRUPTIONS = (
    Corruption("noise", "Gaussian noise of 0.05 to 0.5 standard deviations", _noise),
    Corruption("drift", "each channel wanders by 0.25 to 2 standard deviations", _drift),
    Corruption("gap", "5 to 45 % of the time the last value is repeated", _gap),
    Corruption("axis scale", "each channel 5 to 50 % too large or too small", _scale),
    Corruption("clipping", "cut off at 2.5 to 0.7 standard deviations", _clip),
)
