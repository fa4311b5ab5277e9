"""Which samples the ranges of activations are found with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 64


def calibration_samples(x: NDArray[Any], count: int, seed: int) -> NDArray[Any]:
    """At most ``count`` rows of ``x`` (n, ...), in order: one of each of ``count`` equal stretches, chosen by ``seed``.
    What lies together in ``x``, old samples and new ones, is in them in proportion."""
    if len(x) <= count:
        return x
    edges = np.arange(count + 1) * len(x) // count
    chosen = np.random.default_rng([seed, 3]).integers(edges[:-1], edges[1:])
    rows: NDArray[Any] = x[chosen]
    return rows


def batches(samples: dict[str, NDArray[Any]], size: int = BATCH) -> Iterator[dict[str, NDArray[Any]]]:
    """``samples`` (name -> (n, ...)) as feeds of at most ``size`` rows."""
    for start in range(0, len(next(iter(samples.values()))), size):
        yield {name: values[start : start + size] for name, values in samples.items()}
