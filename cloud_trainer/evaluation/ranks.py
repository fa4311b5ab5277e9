"""Figures of rankings and anomaly scores. Pure functions.

A ranking is told by gains in the order in which the items were ranked: ``gains`` (n, k), 0 for what nobody wanted.
Items of equal score stand in the order of their worst luck, the unwanted first: a model that tells nothing apart
gets no credit for the order of the items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]
Floats = NDArray[np.float64]


def rank_of_one(scores: Numbers, y: Numbers) -> NDArray[np.int64]:
    """(n,): the rank, from 1, of the one right item ``y`` (n,) among ``scores`` (n, items); last among equals."""
    own = scores[np.arange(len(y)), y][:, None]
    return np.asarray((scores >= own).sum(axis=1), np.int64)


def ordered_gains(scores: Numbers, relevance: Numbers) -> Floats:
    """(n, items): ``relevance`` (n, items) in the order of ``scores``, best first, the least relevant first among
    equals."""
    order = np.lexsort((relevance, -np.asarray(scores, np.float64)), axis=1)
    return np.asarray(np.take_along_axis(np.asarray(relevance, np.float64), order, axis=1))


def hit_rates(gains: Floats, k: int) -> Floats:
    """(n,): 1 where something relevant is among the first ``k``."""
    return np.asarray((gains[:, :k] > 0).any(axis=1), np.float64)


def reciprocal_ranks(gains: Floats) -> Floats:
    """(n,): 1 / rank of the first that is relevant, 0 where nothing is (Voorhees 1999).

    >>> reciprocal_ranks(np.array([[0.0, 1.0, 0.0]]))
    array([0.5])
    """
    found = (gains > 0).any(axis=1)
    return np.asarray(np.where(found, 1.0 / (1 + (gains > 0).argmax(axis=1)), 0.0), np.float64)


def average_precisions(gains: Floats) -> Floats:
    """(n,): mean precision at the ranks of the relevant items; 0 where there are none."""
    relevant = gains > 0
    precision = np.cumsum(relevant, axis=1) / np.arange(1, gains.shape[1] + 1)
    return np.asarray((precision * relevant).sum(axis=1) / np.maximum(relevant.sum(axis=1), 1), np.float64)


def average_precision(scores: Numbers, positive: Numbers) -> float:
    """Area under the precision-recall curve, as a sum over thresholds (scikit-learn's definition): ``scores`` (n,),
    ``positive`` (n,) bool. NaN without positives.

    >>> average_precision(np.array([0.9, 0.8, 0.1]), np.array([True, False, True])).__round__(4)
    0.8333
    """
    _, true, false = _at_thresholds(scores, positive)
    if not true[-1]:
        return float("nan")
    recall = np.diff(true / true[-1], prepend=0.0)
    return float((recall * true / (true + false)).sum())


def roc(scores: Numbers, positive: Numbers) -> tuple[Floats, Floats]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1)."""
    _, true, false = _at_thresholds(scores, positive)
    return (
        np.concatenate([[0.0], false / max(false[-1], 1)]),
        np.concatenate([[0.0], true / max(true[-1], 1)]),
    )


def _at_thresholds(scores: Numbers, positive: Numbers) -> tuple[Floats, Floats, Floats]:
    """Thresholds, falling, and how many positives and negatives are at or above each."""
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ranked, right = np.asarray(scores, np.float64)[order], np.asarray(positive, bool)[order]
    last = np.append(ranked[1:] != ranked[:-1], [True])
    return ranked[last], np.cumsum(right)[last].astype(np.float64), np.cumsum(~right)[last].astype(np.float64)


def at_threshold(scores: Numbers, positive: Numbers, threshold: float) -> dict[str, float]:
    """``precision``, ``recall``, ``f1`` and ``false_alarms`` (the share of negatives that are called positive) where
    scores of ``threshold`` or more are called positive; 0 where a share is not defined."""
    called, positive = np.asarray(scores) >= threshold, np.asarray(positive, bool)
    right = float((called & positive).sum())
    return {
        "f1": 2 * right / max(float(called.sum() + positive.sum()), 1.0),
        "precision": right / max(float(called.sum()), 1.0),
        "recall": right / max(float(positive.sum()), 1.0),
        "false_alarms": float((called & ~positive).sum()) / max(float((~positive).sum()), 1.0),
    }
