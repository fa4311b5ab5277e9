"""Features for the scikit-learn baselines of ``scripts/bench/trainer``: numpy only, nothing of the trainer's own."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def window_statistics(x: Array) -> Array:
    """Windows (n, time, channels) -> (n, features): moments, quantiles, changes, spectral bands, correlations."""
    x = x.astype(np.float64)
    magnitude = np.sqrt(((x - x.mean(axis=1, keepdims=True)) ** 2).sum(axis=2, keepdims=True))
    full = np.concatenate([x, magnitude], axis=2)
    step = np.diff(full, axis=1)
    centred = full - full.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(centred * np.hanning(full.shape[1])[None, :, None], axis=1)) ** 2
    edges = np.unique(np.rint(np.geomspace(1, power.shape[1], 9)).astype(int))
    bands = [np.log1p(power[:, a:b].sum(axis=1)) for a, b in pairwise(edges)]
    third = full.shape[1] // 3
    features = [
        full.mean(axis=1), full.std(axis=1), full.min(axis=1), full.max(axis=1),
        *np.quantile(full, [0.1, 0.25, 0.5, 0.75, 0.9], axis=1),
        np.abs(step).mean(axis=1), step.std(axis=1), (np.diff(np.sign(centred), axis=1) != 0).mean(axis=1),
        full[:, -third:].mean(axis=1) - full[:, :third].mean(axis=1), *bands,
    ]  # fmt: skip
    deviation = centred.std(axis=1) + 1e-9
    pairs = [
        (centred[:, :, a] * centred[:, :, b]).mean(axis=1) / (deviation[:, a] * deviation[:, b])
        for a in range(x.shape[2])
        for b in range(a)
    ]
    return np.concatenate([*features, *(pair[:, None] for pair in pairs)], axis=1).astype(np.float32)


def log_mel(x: Array, rate: float, bands: int = 32) -> Array:
    """Sounds (n, samples) int16 -> (n, frames, bands) log energies of 32 ms every 16 ms."""
    size, hop = int(0.032 * rate), int(0.016 * rate)
    count = 1 + (x.shape[1] - size) // hop
    index = np.arange(size)[None, :] + hop * np.arange(count)[:, None]
    top = 2595 * np.log10(1 + rate / 2 / 700)
    centres = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    frequency = np.fft.rfftfreq(size, 1 / rate)
    rising = (frequency[None] - centres[:-2, None]) / (centres[1:-1] - centres[:-2])[:, None]
    falling = (centres[2:, None] - frequency[None]) / (centres[2:] - centres[1:-1])[:, None]
    weights = np.maximum(0, np.minimum(rising, falling))
    frames = [
        np.log(np.abs(np.fft.rfft(sound[index] / 32768 * np.hanning(size), axis=1)) ** 2 @ weights.T + 1e-6)
        for sound in x
    ]
    return np.stack(frames).astype(np.float32)


def most_seen(frames: Array) -> Array:
    """(n, frames, bands) -> (n, features): what a sound holds, wherever in the second it begins."""
    loud = frames.sum(axis=2)
    order = np.argsort(loud, axis=1)[:, ::-1]
    top = np.take_along_axis(frames, np.sort(order[:, : frames.shape[1] // 2], axis=1)[:, :, None], axis=1)
    half = top.shape[1] // 2
    parts = [top[:, :half].mean(axis=1), top[:, half:].mean(axis=1), top.std(axis=1)]
    parts += [frames.mean(axis=1), frames.max(axis=1), frames.min(axis=1), np.diff(frames, axis=1).std(axis=1)]
    return np.concatenate(parts, axis=1)


def lags(x: Array, steps: int, period: int = 24) -> tuple[Array, Array]:
    """Histories (n, history, c), the last channel seconds -> features a history (n, f), and a step (n x steps, g).

    All lags of the target, the last of the other channels, means of days, calendar of each foretold step.
    """
    past, others, seconds = x[:, :, 0], x[:, -1, 1:-1], x[:, -1, -1]
    hour = seconds[:, None] + 3600 * np.arange(1, steps + 1)
    angle = 2 * np.pi * (hour / 86_400)
    weekday = ((hour // 86_400 + 3) % 7).astype(int)  # 1 January 1970 was a Thursday; 0 is Monday
    level = np.stack([past[:, -period:].mean(axis=1), past.mean(axis=1), past[:, -period:].std(axis=1)], axis=1)
    first = np.eye(7)[weekday[:, 0]]
    clock = np.stack([np.sin(angle[:, 0]), np.cos(angle[:, 0])], axis=1)
    hourly = np.eye(24)[((hour[:, 0] // 3600) % 24).astype(int)]
    flat = np.concatenate([past, others, level, first, clock, hourly], axis=1)
    n = len(x)
    ahead = np.arange(steps)
    columns = [
        np.broadcast_to(ahead, (n, steps)), (hour // 3600) % 24, weekday, weekday >= 5,
        past[:, ahead % period - period], past[:, ahead % period - 2 * period],
        np.roll(past, 1, axis=1)[:, ahead % period - period],
    ]  # fmt: skip
    repeated = np.repeat(np.concatenate([past[:, -6:], others, level], axis=1), steps, axis=0)
    tall = np.concatenate([np.stack([np.asarray(c, float).ravel() for c in columns], axis=1), repeated], axis=1)
    return flat.astype(np.float32), tall.astype(np.float32)
