"""How sure a figure is: percentile bootstrap intervals (Efron and Tibshirani 1993), single and paired.

A statistic takes *weights* (b, n), how often each sample is in each of b resamples, and gives (b,) values. So all
resamples are a few matrix products, and everything that is compared sees the same resamples. With groups, whole groups
are drawn (cluster bootstrap, Field and Welsh 2007): samples of one speaker or machine are not independent, and
intervals that take them so are too narrow.

Known weakness: of fewer than some ten groups or thirty samples any bootstrap interval is too narrow. A share that is 0
or 1 has no spread at all: :func:`share_interval` then gives Wilson's, of as many samples as there are units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.evaluation.classes import wilson

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Weights (b, n) -> values (b,); NaN where a resample has no value."""

RESAMPLES, LEVEL = 1000, 0.95
CHUNK = 1 << 21
"""Weights held at once: 16 MiB."""


class Interval(Struct, frozen=True):
    """A figure and where it may lie: ``low`` to ``high`` at ``level``. ``units``: what was drawn, samples or groups."""

    value: float
    low: float
    high: float
    units: int
    level: float = LEVEL

    @property
    def excludes_zero(self) -> bool:
        """Of a difference: is it surely one?"""
        return self.low > 0 or self.high < 0


def mean_of(values: NDArray[Any]) -> Statistic:
    """The mean of ``values`` (n,)."""
    numbers = np.asarray(values, np.float64)
    return lambda weights: np.asarray(weights @ numbers / weights.sum(axis=1), np.float64)


def root_mean_of(values: NDArray[Any]) -> Statistic:
    """The root of the mean of ``values`` (n,)."""
    mean = mean_of(values)
    return lambda weights: np.sqrt(mean(weights))


def r2_of(answer: NDArray[Any], truth: NDArray[Any]) -> Statistic:
    """As :func:`cloud_trainer.metrics.r2`: (n,) or (n, k), all columns together."""
    found = np.asarray(answer, np.float64).reshape(len(truth), -1)
    wanted = np.asarray(truth, np.float64).reshape(len(truth), -1)
    wanted_mean = wanted.mean(axis=0)  # around it, so that squares of large numbers don't cancel
    centred = wanted - wanted_mean
    gaps, squares = ((found - wanted) ** 2).sum(axis=1), (centred**2).sum(axis=1)

    def statistic(weights: Floats) -> Floats:
        total = weights.sum(axis=1)
        spread = weights @ squares - ((weights @ centred) ** 2).sum(axis=1) / total
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(spread > 1e-12 * np.abs(squares).sum(), 1 - weights @ gaps / spread, np.nan)

    return statistic


def balanced_accuracy_of(predicted: NDArray[Any], y: NDArray[Any], classes: int) -> Statistic:
    """Mean recall of the classes in the resample."""
    there = np.eye(classes)[y]
    right = there * (predicted == y)[:, None]

    def statistic(weights: Floats) -> Floats:
        counts, hits = weights @ there, weights @ right
        share = np.divide(hits, counts, out=np.zeros(hits.shape), where=counts > 0)
        return np.asarray(share.sum(axis=1) / (counts > 0).sum(axis=1), np.float64)

    return statistic


def macro_f1_of(predicted: NDArray[Any], y: NDArray[Any], classes: int) -> Statistic:
    """Mean F1 of the classes that are in the resample or were answered there."""
    there, said = np.eye(classes)[y], np.eye(classes)[predicted]
    both, right = there + said, there * said

    def statistic(weights: Floats) -> Floats:
        counts, hits = weights @ both, weights @ right
        share = np.divide(2 * hits, counts, out=np.zeros(hits.shape), where=counts > 0)
        return np.asarray(share.sum(axis=1) / (counts > 0).sum(axis=1), np.float64)

    return statistic


def auc_of(scores: NDArray[Any], positive: NDArray[Any]) -> Statistic:
    """Area under the ROC of ``scores`` (n,) for ``positive`` (n,) bool, ties counted half; NaN where one kind is
    missing."""
    order = np.argsort(scores, kind="stable")
    ranked, right = np.asarray(scores, np.float64)[order], np.asarray(positive, bool)[order]
    starts = np.flatnonzero(np.append([True], ranked[1:] != ranked[:-1]))

    def statistic(weights: Floats) -> Floats:
        sorted_weights = weights[:, order]
        negatives = np.add.reduceat(np.where(right, 0.0, sorted_weights), starts, axis=1)
        positives = np.add.reduceat(np.where(right, sorted_weights, 0.0), starts, axis=1)
        below = np.cumsum(negatives, axis=1) - negatives / 2
        pairs = negatives.sum(axis=1) * positives.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(pairs > 0, (positives * below).sum(axis=1) / pairs, np.nan)

    return statistic


def difference(first: Statistic, second: Statistic) -> Statistic:
    """``first - second`` on the same resamples: a paired interval."""
    return lambda weights: first(weights) - second(weights)


def intervals(
    statistics: Mapping[str, Statistic],
    n: int,
    *,
    groups: NDArray[Any] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """The value of each statistic on all ``n`` samples, and its interval. ``groups`` (n,): whole groups are drawn.
    The same seed, the same intervals. Statistics without a value are left out.

    >>> found = intervals({"accuracy": mean_of(np.arange(100) < 90)}, 100)["accuracy"]
    >>> found.value, 0.8 < found.low < 0.87 < 0.93 < found.high < 0.97
    (0.9, True)
    """
    group_of = None if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    if group_of is not None and group_of.max() == 0:
        group_of = None
    units = n if group_of is None else int(group_of.max()) + 1
    every = np.ones((1, n))
    drawn: dict[str, list[Floats]] = {name: [] for name in statistics}
    for weights in _weights(units, group_of, resamples, n, seed):
        for name, statistic in statistics.items():
            drawn[name].append(statistic(weights))
    found = {}
    for name, statistic in statistics.items():
        value = float(statistic(every)[0])
        values = np.concatenate(drawn[name])
        values = values[np.isfinite(values)]
        if not np.isfinite(value) or len(values) < resamples / 2:
            continue
        low, high = np.quantile(values, ((1 - level) / 2, (1 + level) / 2))
        found[name] = Interval(value, float(low), float(high), units, level)
    return found


def share_interval(found: Interval) -> Interval:
    """``found`` of a share of right answers; Wilson's interval where it is 0 or 1, and a bootstrap sees no spread."""
    if found.low < found.high:
        return found
    low, high = wilson(np.asarray(found.value * found.units), np.asarray(found.units))
    return Interval(found.value, float(low), float(high), found.units, found.level)


def _weights(units: int, group_of: NDArray[Any] | None, resamples: int, n: int, seed: int) -> Iterator[Floats]:
    rng = np.random.default_rng(seed)
    chunk = max(1, min(resamples, CHUNK // max(n, 1)))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        places = rng.integers(0, units, (rows, units)) + units * np.arange(rows)[:, None]
        counts = np.bincount(places.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)
        yield counts if group_of is None else counts[:, group_of]
