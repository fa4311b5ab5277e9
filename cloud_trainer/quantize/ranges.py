"""How much of what a tensor held its 256 steps should cover.

Four ways, each a candidate: ``min-max`` covers everything; ``percentile`` leaves out one value in 10,000 on each side;
``mse`` takes the clipping that loses least in squares; ``entropy`` the one that changes the distribution least
(Kullback-Leibler; Migacz 2017, "8-bit inference with TensorRT"). None is best for every network, so
:mod:`cloud_trainer.quantize.repair` measures them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Method = Literal["min-max", "percentile", "mse", "entropy"]
METHODS: tuple[Method, ...] = ("min-max", "percentile", "mse", "entropy")
Ranges = dict[str, tuple[float, float]]
"""Tensor -> the lowest and the highest real value that its steps cover."""

OUTSIDE = 1e-4
KEPT = 1 << 16
"""Values of a tensor that are kept to look at: enough for one in 10,000, and small."""
STEPS = 255
SHRINKS = np.linspace(1.0, 0.3, 29)
BINS = 2048


class Observed(Struct, frozen=True, eq=False):
    """What a tensor held: exact extremes, and ``values`` (k,), an even sample of everything."""

    low: float
    high: float
    values: NDArray[np.float32]


def merge(old: Observed | None, tensor: NDArray[Any], share: int) -> Observed:
    """``old`` and a further ``tensor``, of which at most ``share`` values are kept, evenly spaced."""
    flat = np.asarray(tensor, np.float32).ravel()
    kept = flat[spread(flat.size, share)]
    low, high = float(flat.min()), float(flat.max())
    if old is None:
        return Observed(low, high, kept)
    return Observed(min(old.low, low), max(old.high, high), np.concatenate([old.values, kept]))


def spread(size: int, share: int) -> NDArray[np.int64]:
    """``share`` places of ``size``, evenly spread but in no step with channels or rows (golden ratio)."""
    if size <= share:
        return np.arange(size)
    places: NDArray[np.int64] = (np.arange(share) * 0.6180339887498949 % 1 * size).astype(np.int64)
    return places


def ranges(observed: Mapping[str, Observed], method: str) -> Ranges:
    """The range of every tensor by ``method``."""
    return {name: range_of(one, method) for name, one in observed.items()}


def range_of(observed: Observed, method: str) -> tuple[float, float]:
    """Lowest and highest value covered; zero is inside always, for it must be exact (padding, ReLU).

    >>> held = Observed(-1.0, 100.0, np.r_[np.linspace(-1, 1, 9_999), 100.0].astype(np.float32))
    >>> range_of(held, "min-max")
    (-1.0, 100.0)
    >>> low, high = range_of(held, "mse")
    >>> low, high < 100.0
    (-1.0, True)
    """
    low, high = min(observed.low, 0.0), max(observed.high, 0.0)
    values = observed.values
    if method == "min-max" or values.size < 2 or low == high:
        return low, high
    if method == "percentile":
        inner = np.quantile(values, (OUTSIDE, 1 - OUTSIDE))
        return max(low, min(float(inner[0]), 0.0)), min(high, max(float(inner[1]), 0.0))
    candidates = [(low * a, high * b) for a, b in _shrinks(low, high)]
    costs = _squares(values, candidates) if method == "mse" else _divergences(values, candidates)
    return candidates[int(np.argmin(costs))]


def _shrinks(low: float, high: float) -> list[tuple[float, float]]:
    """Shares of both sides; a side that is nothing, or little, is left as it is."""
    if -low < 0.1 * high:
        return [(1.0, float(s)) for s in SHRINKS]
    if high < -0.1 * low:
        return [(float(s), 1.0) for s in SHRINKS]
    return [(float(s), float(s)) for s in SHRINKS] + [(1.0, float(s)) for s in SHRINKS[1:]]


def _squares(values: NDArray[np.float32], candidates: list[tuple[float, float]]) -> list[float]:
    costs = []
    for low, high in candidates:
        scale = (high - low) / STEPS
        found = np.clip(np.round((values - low) / scale), 0, STEPS) * scale + low
        costs.append(float(np.square(values - found).mean()))
    return costs


def _divergences(values: NDArray[np.float32], candidates: list[tuple[float, float]]) -> list[float]:
    """Kullback-Leibler divergence of the clipped histogram from its 256-step version, as TensorRT does it. Exact zeros,
    which ReLU makes and every range represents, are left out."""
    values = values[values != 0]
    costs = []
    for low, high in candidates:
        counts, _ = np.histogram(np.clip(values, low, high), BINS, (low, high))
        inside, _ = np.histogram(values[(values >= low) & (values <= high)], BINS, (low, high))
        blocks = inside.reshape(256, -1)
        full = blocks > 0
        mean = blocks.sum(1) / np.maximum(full.sum(1), 1)
        coarse = np.where(full, mean[:, None], 0).ravel()
        p = counts / max(1, counts.sum())
        q = np.maximum(coarse / max(1.0, coarse.sum()), 1e-9)
        costs.append(float(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0]))))
    return costs
