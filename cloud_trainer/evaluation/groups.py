"""How good the answers are in each group: speakers, machines, patients. Pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.evaluation.classes import wilson
from cloud_trainer.evaluation.figures import Judge, point
from cloud_trainer.evaluation.ranks import rank_of_one

Z95 = 1.959964


class GroupRow(Struct, frozen=True):
    """One group: its samples, its figure, and the figure's 95 % interval, which is wide where samples are few; NaN
    where one sample tells nothing."""

    group: str
    samples: int
    value: float
    low: float
    high: float


class GroupTable(Struct, frozen=True):
    """Groups, the worst first. ``measure``: what the figure is; ``higher``: is more of it better?"""

    measure: str
    higher: bool
    rows: tuple[GroupRow, ...]


def per_group(judge: Judge, answer: NDArray[Any], truth: NDArray[Any], groups: NDArray[Any]) -> GroupTable | None:
    """Accuracy of classes, mean absolute error of numbers, hit rate of a ranking's items, and the share of an anomaly
    detector's right calls at its threshold. ``None`` for a ranking in long form, whose groups are its queries, and for
    anomalies without a threshold.

    The worst first: by the end of the interval that is on the good side, so that a group of two samples does not stand
    above one that is surely bad.
    """
    if judge.family == "numbers":
        middle = point(judge, answer, truth)
        return _table("mean absolute error", False, np.abs(middle - truth).reshape(len(truth), -1).mean(axis=1), groups)
    if judge.family == "classes":
        return _table("accuracy", True, answer.argmax(axis=1) == truth, groups)
    if judge.family == "ranking" and answer.ndim == 2:
        return _table(f"hit rate of the first {judge.k}", True, rank_of_one(answer, truth) <= judge.k, groups)
    if judge.family == "anomaly" and judge.threshold is not None:
        return _table("right at the threshold", True, (answer >= judge.threshold) == (truth > 0), groups)
    return None


def student_t(degrees: NDArray[np.int64]) -> NDArray[np.float64]:
    """The 97.5 % quantile of Student's t of ``degrees`` (n,) of freedom, at least 1; from 5 on by its expansion in
    1 / degrees (Abramowitz and Stegun 26.7.5).

    >>> student_t(np.array([1, 10])).round(2).tolist()
    [12.71, 2.23]
    """
    d, z = degrees.astype(np.float64), Z95
    expanded = z + (z**3 + z) / (4 * d) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * d**2)
    expanded += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * d**3)
    return np.where(degrees <= len(_FEW), np.take(_FEW, np.minimum(degrees, len(_FEW)) - 1), expanded)


_FEW = np.asarray([12.7062, 4.3027, 3.1824, 2.7764])


def _table(measure: str, higher: bool, values: NDArray[Any], groups: NDArray[Any]) -> GroupTable:
    names, group_of, counts = np.unique(np.asarray(groups).astype(str), return_inverse=True, return_counts=True)
    sums = np.bincount(group_of.ravel(), np.asarray(values, np.float64))
    mean = sums / counts
    if higher:
        low, high = wilson(sums, counts)
    else:
        squares = np.bincount(group_of.ravel(), np.asarray(values, np.float64) ** 2)
        variance = np.maximum(squares / counts - mean**2, 0) * counts / np.maximum(counts - 1, 1)
        half = np.where(counts > 1, student_t(np.maximum(counts - 1, 1)) * np.sqrt(variance / counts), np.nan)
        low, high = np.maximum(mean - half, 0.0), mean + half
    key = high if higher else -np.where(np.isnan(low), 0.0, low)
    order = np.lexsort((-counts, mean if higher else -mean, key))
    rows = tuple(GroupRow(str(names[i]), int(counts[i]), float(mean[i]), float(low[i]), float(high[i])) for i in order)
    return GroupTable(measure, higher, rows)
