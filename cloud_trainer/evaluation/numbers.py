"""Figures of numbers: regression and forecasts. ``answer`` and ``truth`` are (n,) or (n, k). Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]


def mae(answer: Numbers, truth: Numbers) -> float:
    """Mean absolute error.

    >>> mae(np.array([1.0, 3.0]), np.array([1.0, 2.0]))
    0.5
    """
    return float(np.abs(_gap(answer, truth)).mean())


def rmse(answer: Numbers, truth: Numbers) -> float:
    """Root of the mean squared error.

    >>> rmse(np.array([1.0, 3.0]), np.array([1.0, 1.0])) == 2**0.5
    True
    """
    return float(np.sqrt((_gap(answer, truth) ** 2).mean()))


def mape(answer: Numbers, truth: Numbers) -> float:
    """Mean absolute error as a share of the truth, 0.1 for 10 %; where the truth is 0 it is not defined, and these are
    left out. NaN where all are.

    >>> mape(np.array([1.1, 5.0]), np.array([1.0, 0.0])).__round__(6)
    0.1
    """
    there = np.asarray(truth) != 0
    if not there.any():
        return float("nan")
    return float(np.abs(_gap(answer, truth)[there] / np.asarray(truth, np.float64)[there]).mean())


def smape(answer: Numbers, truth: Numbers) -> float:
    """Symmetric mean absolute percentage error, 0 to 2: ``|a - t| / ((|a| + |t|) / 2)``; 0 where both are 0.

    >>> smape(np.array([0.0, 1.0]), np.array([0.0, 3.0]))
    0.5
    """
    size = (np.abs(np.asarray(answer, np.float64)) + np.abs(np.asarray(truth, np.float64))) / 2
    return float(np.divide(np.abs(_gap(answer, truth)), size, out=np.zeros(size.shape), where=size > 0).mean())


def pinball(answer: Numbers, truth: Numbers, quantiles: Sequence[float]) -> float:
    """Mean pinball loss (Koenker and Bassett 1978) of ``answer`` (n, quantiles, k) against ``truth`` (n, k).

    >>> pinball(np.array([[[1.0], [3.0]]]), np.array([[2.0]]), (0.1, 0.9)).__round__(6)
    0.1
    """
    q = np.asarray(quantiles, np.float64)[None, :, None]
    error = np.asarray(truth, np.float64)[:, None, :] - np.asarray(answer, np.float64)
    return float(np.maximum(q * error, (q - 1) * error).mean())


def coverage(answer: Numbers, truth: Numbers) -> float:
    """Share of ``truth`` (n, k) that lies between the first and the last quantile of ``answer`` (n, quantiles, k)."""
    return float(((truth >= answer[:, 0]) & (truth <= answer[:, -1])).mean())


def coverages(answer: Numbers, truth: Numbers) -> NDArray[np.float64]:
    """(quantiles,): the share of ``truth`` (n, k) at or below each quantile of ``answer`` (n, quantiles, k)."""
    return np.asarray((np.asarray(truth)[:, None, :] <= answer).mean(axis=(0, 2)), np.float64)


def by_quantile(answer: Numbers, quantiles: int) -> Numbers:
    """(n, quantiles * k) as the network gives it, all numbers of the first quantile first -> (n, quantiles, k)."""
    return np.asarray(answer).reshape(len(answer), quantiles, -1)


def median_of(answer: Numbers, quantiles: Sequence[float]) -> Numbers:
    """The quantile closest to one half of ``answer`` (n, quantiles * k): (n, k).

    >>> median_of(np.arange(6.0)[None], (0.1, 0.5, 0.9))
    array([[2., 3.]])
    """
    middle = min(range(len(quantiles)), key=lambda i: abs(quantiles[i] - 0.5))
    return by_quantile(answer, len(quantiles))[:, middle]


def naive_scale(history: Numbers, season: int = 1) -> float:
    """How far a naive forecast is off on the train split: mean absolute difference of values ``season`` steps apart in
    ``history`` (n, time), for :func:`mase`."""
    past = np.asarray(history, np.float64)
    return float(np.nanmean(np.abs(past[:, season:] - past[:, :-season])))


def mase(answer: Numbers, truth: Numbers, scale: float) -> float:
    """Mean absolute scaled error (Hyndman and Koehler 2006): below 1 is better than the naive forecast whose error is
    ``scale`` (:func:`naive_scale`). NaN where the series never changes.

    >>> mase(np.array([1.0, 3.0]), np.array([1.0, 2.0]), 1.0)
    0.5
    """
    return mae(answer, truth) / scale if scale > 0 else float("nan")


def _gap(answer: Numbers, truth: Numbers) -> NDArray[np.float64]:
    return np.asarray(answer, np.float64) - np.asarray(truth, np.float64)


def mean_warning(quality: Mapping[str, float], samples: int) -> str | None:
    """What is wrong with answers whose R² is not above 0; ``None`` for others.

    >>> mean_warning({"r2": -0.0127}, 80)
    'no better than chance: R² is -0.013 on 80 test samples, and always answering with their mean would have 0'
    """
    score = quality.get("r2", 1.0)
    if score > 0:
        return None
    return (
        f"no better than chance: R² is {score:.3f} on {samples:,} test samples, and always answering with their mean "
        "would have 0"
    )
