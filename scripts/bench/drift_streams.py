"""The streams of the drift benchmark: each draws ``rows`` (n, F) that follow each other, the reference first."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Rows = NDArray[np.float64]
MIXED_KINDS = ("value",) * 7 + ("category",)


def generator(cell: str, seed: int) -> np.random.Generator:
    """The random numbers of one run of one cell, the same in every process."""
    return np.random.default_rng([zlib.crc32(cell.encode()), seed])


def normal(rng: np.random.Generator, n: int, features: int = 1) -> Rows:
    """Independent standard normal columns."""
    return rng.normal(size=(n, features))


def correlated(rng: np.random.Generator, n: int, features: int = 16, rho: float = 0.9) -> Rows:
    """Standard normal columns of which any two have correlation ``rho``."""
    return np.sqrt(rho) * rng.normal(size=(n, 1)) + np.sqrt(1 - rho) * rng.normal(size=(n, features))


def functions(rng: np.random.Generator, n: int) -> Rows:
    """Sixteen functions of one normal variable."""
    x = rng.normal(size=n)
    found = [x, -x, x**2, x**3, np.abs(x), np.exp(x), np.sin(3 * x), np.cos(x), np.tanh(x), np.maximum(x, 0)]
    found += [np.arctan(5 * x), x - x**2, np.exp(-(x**2)), np.sqrt(np.abs(x)), np.sin(x) + x, x * np.abs(x)]
    return np.stack(found, axis=1)


def bernoulli(rng: np.random.Generator, n: int) -> Rows:
    """Coins that show 1 in a half, a tenth and a hundredth of all samples."""
    return (rng.random((n, 3)) < (0.5, 0.1, 0.01)).astype(np.float64)


def poisson(rng: np.random.Generator, n: int) -> Rows:
    """Counts with means 0.5, 3 and 20."""
    return rng.poisson((0.5, 3.0, 20.0), (n, 3)).astype(np.float64)


def rounded(rng: np.random.Generator, n: int) -> Rows:
    """Normal values rounded to 1, 0.5 and 0.1 sigma."""
    steps = np.array([1.0, 0.5, 0.1])
    return np.round(rng.normal(size=(n, 3)) / steps) * steps


def mixed(rng: np.random.Generator, n: int) -> Rows:
    """Normal, rounded, Cauchy, constant, coin, count, heavy-tailed, category; 5 % missing, 1 % infinite."""
    x = rng.normal(size=(n, 8))
    x[:, 1] = np.round(x[:, 1])
    x[:, 2] = rng.standard_cauchy(n)
    x[:, 3] = 1
    x[:, 4] = rng.integers(0, 2, n)
    x[:, 5] = rng.poisson(1, n)
    x[:, 6] = rng.standard_t(2, n)
    x[rng.random(n) < 0.01, 6] = np.inf
    x[rng.random(n) < 0.01, 6] = -np.inf
    x[:, 7] = np.minimum(rng.zipf(1.8, n), 10**6)
    x[rng.random((n, 8)) < 0.05] = np.nan
    return x


def autoregressive(rng: np.random.Generator, n: int, phi: tuple[float, ...]) -> Rows:
    """One stationary AR(p) column of standard deviation 1."""
    settled = 2000
    x = lfilter([1.0], [1.0, *(-f for f in phi)], rng.normal(size=n + settled))[settled:]
    return (x / deviation(phi))[:, None]


def deviation(phi: tuple[float, ...]) -> float:
    """Standard deviation of an AR(p) process with innovations of 1."""
    response = lfilter([1.0], [1.0, *(-f for f in phi)], np.concatenate(([1.0], np.zeros(20_000))))
    return float(np.sqrt((response**2).sum()))


def sine(rng: np.random.Generator, n: int, amplitude: float, period: int = 5000) -> Rows:
    """A level that swings by ±``amplitude``, from a random phase."""
    level = amplitude * np.sin(2 * np.pi * (np.arange(n) / period + rng.random()))
    return (level + rng.normal(size=n))[:, None]


def walk(rng: np.random.Generator, n: int, amplitude: float) -> Rows:
    """A level that walks at random, thrown back at ±``amplitude``; it crosses its range in some 1,600 samples."""
    steps = np.cumsum(rng.normal(0, amplitude / 20, n)) + rng.uniform(-amplitude, amplitude)
    folded = np.abs((steps + amplitude) % (4 * amplitude) - 2 * amplitude) - amplitude
    return (folded + rng.normal(size=n))[:, None]
