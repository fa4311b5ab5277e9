"""Estimates of the drift benchmark with 95 % intervals."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95


class Estimate(NamedTuple):
    """A figure, the ends of its interval, what it was made of (n runs), and what a reader has to know."""

    value: float
    low: float
    high: float
    runs: int
    note: str = ""


def rate(counts: list[float]) -> Estimate:
    """Mean count of a run. The wider of the exact Poisson interval and a bootstrap over runs, which share nothing:
    alarms of one run share their reference."""
    total, runs = sum(counts), len(counts)
    tail = (1 - LEVEL) / 2
    low = stats.chi2.ppf(tail, 2 * total) / 2 / runs if total else 0.0
    high = stats.chi2.ppf(1 - tail, 2 * total + 2) / 2 / runs
    resampled = np.random.default_rng(0).choice(counts, (2000, runs)).mean(1)
    edges = np.quantile(resampled, (tail, 1 - tail))
    return Estimate(total / runs, min(low, float(edges[0])), max(high, float(edges[1])), runs)


def share(hits: list[float]) -> Estimate:
    """Share of runs; Wilson's interval."""
    n, k = len(hits), int(sum(hits))
    found = stats.binomtest(k, n).proportion_ci(LEVEL, method="wilson")
    return Estimate(k / n, float(found.low), float(found.high), n, f"{k} of {n}")


def median(values: list[float]) -> Estimate:
    """Median, with the interval between order statistics that any distribution allows. A run that ended without an
    alarm counts as infinity, which a median bears up to half of the runs."""
    ordered, n = sorted(values), len(values)
    rank = int(stats.binom.ppf((1 - LEVEL) / 2, n, 0.5))
    censored = sum(math.isinf(value) for value in values)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    low, high = ordered[max(rank - 1, 0)], ordered[min(n - rank, n - 1)]
    return Estimate(middle, low, high, n, f"{censored} of {n} without alarm" if censored else "")


def rounds(values: list[float]) -> Estimate:
    """Median of rounds, least and largest."""
    return Estimate(float(np.median(values)), min(values), max(values), len(values))
