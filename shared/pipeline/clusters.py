"""Few rows that stand for many: what anomaly scores compare with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_ROWS, ROUNDS = 20_000, 100


def some(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most 20,000 of the rows, drawn by a fixed seed: more of them move no centre."""
    if len(x) <= MOST_ROWS:
        return x
    return x[np.sort(np.random.default_rng(0).choice(len(x), MOST_ROWS, replace=False))]


def k_means(x: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Rows (n, d) -> each one's group (n,), numbered from 0 without a gap; at most ``count`` groups, none empty.

    Lloyd's iteration (1982) from the seeding of Arthur and Vassilvitskii (2007), with a fixed seed.

    >>> k_means(np.array([[0.0], [0.1], [5.0], [5.1]]), 2).tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    True
    """
    centres = x[_seeds(x, count)]
    group = _nearest_of(x, centres)
    for _ in range(ROUNDS):
        centres = np.stack([x[group == one].mean(axis=0) for one in np.unique(group)])
        before, group = group, _nearest_of(x, centres)
        if np.array_equal(before, group):
            break
    return np.unique(group, return_inverse=True)[1].astype(np.intp).reshape(-1)


def _seeds(x: NDArray[np.float64], count: int) -> list[int]:
    rng = np.random.default_rng(0)
    chosen = [int(rng.integers(len(x)))]
    nearest = np.square(x - x[chosen[0]]).sum(axis=1)
    while len(chosen) < count and nearest.max() > 0:
        chosen.append(int(rng.choice(len(x), p=nearest / nearest.sum())))
        nearest = np.minimum(nearest, np.square(x - x[chosen[-1]]).sum(axis=1))
    return chosen


def _nearest_of(x: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.intp]:
    found: NDArray[np.intp] = (np.square(centres).sum(axis=1) - 2 * (x @ centres.T)).argmin(axis=1)
    return found


def spread(x: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Indices of at most ``count`` rows that cover all: the one nearest to the mean, then always the one furthest from
    those chosen (greedy k-centre, Gonzalez 1985)."""
    chosen = [int(np.square(x - x.mean(axis=0)).sum(axis=1).argmin())]
    nearest = np.square(x - x[chosen[0]]).sum(axis=1)
    while len(chosen) < count and nearest.max() > 0:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.square(x - x[chosen[-1]]).sum(axis=1))
    return np.array(chosen, np.intp)
