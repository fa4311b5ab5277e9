"""Columns that give the target away: what was written down after the truth was known. Pure.

A column of numbers is suspected if its correlation with the target, linear or by ranks, is above 0.999, or if cuts of
it tell the classes apart without a mistake; a column of words if each of its words goes with one class only (or one
number), although words repeat. Two columns whose sum or difference is the target are named together.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.config import TaskConfig
from cloud_trainer.data.dataset import Dataset, Splits
from cloud_trainer.data.findings import Finding

CORRELATION = 0.999
ROWS = 50_000
"""More rows than this tell nothing more."""
PAIRS = 40
"""Columns up to which pairs are looked at."""


def about_target(task: TaskConfig, splits: Splits, every: Dataset) -> list[Finding]:
    """Findings about every column of the train part that gives the target away."""
    del every
    data = splits.train
    if len(data) > ROWS:
        data = data.take(np.linspace(0, len(data) - 1, ROWS).astype(np.intp))
    findings = []
    target = task.data.target or "the target"
    numbers: dict[str, NDArray[np.float64]] = {}
    for i, name in enumerate(data.columns):
        if name == task.data.time:
            continue
        values = as_numbers(data.x[:, i])
        if values is None:
            why = words_tell(data.x[:, i], data.y)
        else:
            numbers[name] = values
            why = classes_apart(values, data.y) if data.labels else follows(values, data.y)
        if why:
            text = (
                f"column {name!r} gives the target {target!r} away ({why}); is it known beforehand? Else data.ignore it"
            )
            findings.append(Finding("target leakage", "error", text, name))
    known = {finding.where for finding in findings}
    if not data.labels and data.y.ndim == 1:
        rest = {name: values for name, values in numbers.items() if name not in known}
        if len(rest) <= PAIRS:
            for one, sign, other in sums(rest, data.y.astype(np.float64)):
                text = f"columns {one!r} and {other!r} give the target {target!r} away (it is {one} {sign} {other})"
                findings.append(Finding("target leakage", "error", text, one))
    return findings


def as_numbers(column: NDArray[Any]) -> NDArray[np.float64] | None:
    """A column as numbers (n,) with NaN where they are missing, ``None`` if it is words."""
    if column.dtype != object:
        return column.astype(np.float64)
    try:
        return np.array([float(cell) if cell else np.nan for cell in column.tolist()])
    except ValueError:
        return None


def follows(values: NDArray[np.float64], y: NDArray[Any]) -> str:
    """How numbers (n,) follow a target of numbers (n,), "" if they do not.

    >>> y = np.arange(50.0)
    >>> follows(y**3, y), follows(y % 7, y)
    ('correlation of ranks 1.0000', '')
    """
    there = ~np.isnan(values)
    if y.ndim != 1 or there.sum() < 20:
        return ""
    a, b = values[there], y[there].astype(np.float64)
    linear = abs(_correlation(a, b))
    if linear > CORRELATION:
        return f"correlation {linear:.4f}"
    ranks = abs(_correlation(_ranks(a), _ranks(b)))
    return f"correlation of ranks {ranks:.4f}" if ranks > CORRELATION else ""


def classes_apart(values: NDArray[np.float64], y: NDArray[np.int64]) -> str:
    """How numbers (n,) tell classes (n,) apart: every class in one interval of its own; "" if they do not.

    >>> classes_apart(np.array([1.0, 2, 8, 9] * 10), np.array([0, 0, 1, 1] * 10))
    'its value tells the class without a mistake'
    """
    missing = np.isnan(values)
    if missing.any():
        states = np.unique(np.stack([missing, y], axis=1), axis=0)
        if not missing.all() and len(states) == len(np.unique(y)) == 2:
            return "it is missing for one class only, and always"
        return ""
    if len(values) < 20:
        return ""
    order = np.lexsort((y, values))
    sorted_y, sorted_v = y[order], values[order]
    changes = np.flatnonzero(np.diff(sorted_y))
    classes = len(np.unique(y))
    apart = len(changes) == classes - 1 and (sorted_v[changes] < sorted_v[changes + 1]).all()
    return "its value tells the class without a mistake" if apart and classes > 1 else ""


def words_tell(column: NDArray[Any], y: NDArray[Any]) -> str:
    """Whether each word goes with one value of the target only, although words repeat; "" if not.

    >>> words_tell(np.array(["paid", "open"] * 20, object), np.array([1, 0] * 20))
    'each of its words goes with one class'
    """
    if y.ndim != 1:
        return ""
    words, code = np.unique(column.astype(np.str_), return_inverse=True)
    _, truth = np.unique(y, return_inverse=True)
    if len(words) < 2 or len(words) > len(column) / 4 or truth.max() < 1:
        return ""
    pairs = np.unique(np.stack([code.reshape(-1), truth.reshape(-1)], axis=1), axis=0)
    return "each of its words goes with one class" if len(pairs) == len(words) else ""


def sums(columns: dict[str, NDArray[np.float64]], y: NDArray[np.float64]) -> list[tuple[str, str, str]]:
    """Pairs of columns whose sum or difference is ``y`` (n,): (one, "+" or "-", other)."""
    head = slice(0, 200)
    found = []
    for (one, a), (other, b) in combinations(columns.items(), 2):
        for sign, left, right in (
            ("+", (one, a), (other, b)),
            ("-", (one, a), (other, b)),
            ("-", (other, b), (one, a)),
        ):
            step = 1.0 if sign == "+" else -1.0
            if _same(left[1][head] + step * right[1][head], y[head]) and _same(left[1] + step * right[1], y):
                found.append((left[0], sign, right[0]))
    return found


def _same(made: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    scale = float(np.abs(y).max(initial=0.0))
    return bool(np.ptp(y) > 0 and (np.abs(made - y) <= 1e-6 * scale).all())


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks; of equal values the middle one."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[inverse.reshape(-1)]
