"""Series with a memory, for tests."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

BURN = 500


def series(rng, n, coefficients, columns=1):
    """(n, columns) of an autoregressive process with standard normal innovations, stationary from the start."""
    p = len(coefficients)
    x = np.zeros((n + BURN, columns))
    e = rng.normal(size=x.shape)
    backwards = np.array(coefficients)[::-1]
    for t in range(p, len(x)):
        x[t] = backwards @ x[t - p : t] + e[t]
    return x[BURN:]


def deviation(coefficients):
    """Standard deviation of :func:`series`."""
    return _deviation(tuple(coefficients))


@lru_cache
def _deviation(coefficients):
    psi = np.zeros(1000)
    psi[0] = 1
    for t in range(1, len(psi)):
        near = psi[max(0, t - len(coefficients)) : t][::-1]
        psi[t] = np.array(coefficients)[: len(near)] @ near
    return float(np.sqrt((psi**2).sum()))
