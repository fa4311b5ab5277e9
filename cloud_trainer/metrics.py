"""The four core scores, in numpy: each at most 1, higher is better. Pure functions.

They are the one scale of a task: early stopping, the search, the gates and the manifest use the same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError

Numbers = NDArray[Any]


def accuracy(answer: Numbers, y: Numbers) -> float:
    """Share of rows of ``answer`` (n, classes) whose largest value is at the class ``y`` (n,) int.

    >>> accuracy(np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0, 0]))
    0.5
    """
    _same_length(answer, y)
    return float((answer.argmax(axis=1) == y).mean())


def r2(answer: Numbers, y: Numbers) -> float:
    """Share of the variance of ``y`` (n,) or (n, k) that ``answer`` of the same size explains, all columns together.

    ``1 - sum (y - answer)^2 / sum (y - mean y)^2`` with a mean for each column: columns of more variance weigh more
    (scikit-learn calls it ``variance_weighted``). Where ``y`` does not vary: 1 for the right answers, else 0.

    >>> r2(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])), r2(np.array([2.0, 2.0, 2.0]), np.array([1.0, 2, 3]))
    (1.0, 0.0)
    """
    _same_length(answer, y)
    truth = np.asarray(y, np.float64).reshape(len(y), -1)
    found = np.asarray(answer, np.float64).reshape(len(y), -1)
    if truth.shape != found.shape:
        raise DataError(f"r2: answers have {found.shape[1]} numbers a row, the truth has {truth.shape[1]}")
    left = float(((truth - found) ** 2).sum())
    total = float(((truth - truth.mean(axis=0)) ** 2).sum())
    if total == 0:
        return 1.0 if left == 0 else 0.0
    return 1.0 - left / total


def auc(scores: Numbers, y: Numbers) -> float:
    """The probability that a positive sample's score is above a negative's, ties counted half: area under the ROC.

    ``scores`` (n,), ``y`` (n,) bool or 0 and 1. By the rank sum (Mann and Whitney 1947; Hanley and McNeil 1982).

    Raises:
        DataError: there are samples of one kind only.

    >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1]))
    0.875
    """
    _same_length(scores, y)
    positive = np.asarray(y).astype(bool)
    many, few = int(positive.sum()), int((~positive).sum())
    if not many or not few:
        raise DataError("auc: needs positive and negative samples; there is one kind only")
    _, where, counts = np.unique(np.asarray(scores, np.float64), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where]  # of equal scores: the mean of their ranks, from 1
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * few))


def ndcg(scores: Numbers, y: Numbers, k: int = 10) -> float:
    """Normalised discounted cumulative gain of the first ``k`` (Järvelin and Kekäläinen 2002), the mean over rows.

    ``scores`` (n, items). ``y`` (n,) int: the one relevant item of each row; or (n, items): how relevant each is, 0 not
    at all, where rows without anything relevant are left out. Gain is the relevance itself, discount
    ``1 / log2(rank + 1)``. Items of equal score share the discounts of their ranks (McSherry and Najork 2008): a model
    that tells nothing apart gets what chance gets.

    Raises:
        DataError: the shapes don't fit, or nothing is relevant anywhere.

    >>> round(ndcg(np.array([[0.1, 0.7, 0.2]]), np.array([2])), 3)  # second: 1 / log2(3)
    0.631
    """
    return float(ndcgs(scores, y, k).mean())


def ndcgs(scores: Numbers, y: Numbers, k: int = 10) -> NDArray[np.float64]:
    """:func:`ndcg` of each row, (n,); without the rows that have nothing relevant."""
    _same_length(scores, y)
    scores, y = np.asarray(scores), np.asarray(y)
    if y.ndim == 1:
        return _ndcg_of_one(scores, y, k)
    if y.shape != scores.shape:
        raise DataError(f"ndcg: scores are {scores.shape}, relevances {y.shape}")
    some = (y > 0).any(axis=1)
    if not some.any():
        raise DataError("ndcg: nothing is relevant in any row")
    scores, gains = scores[some], y[some].astype(np.float64)
    discounts = _discounts(scores.shape[1], k)
    best = (-np.sort(-gains, axis=1) * discounts).sum(axis=1)
    return np.asarray((gains * _shared_discounts(scores, discounts)).sum(axis=1) / best, np.float64)


def ndcg_of_groups(scores: Numbers, relevance: Numbers, groups: Numbers, k: int = 10) -> float:
    """:func:`ndcg` of candidates in long form: ``scores`` and ``relevance`` (n,), and ``groups`` (n,) that says which
    query or user each belongs to. The mean over groups; those without anything relevant are left out.

    Raises:
        DataError: the lengths differ, or nothing is relevant anywhere.

    >>> ndcg_of_groups(np.array([3.0, 1.0, 0.5, 2.0]), np.array([1, 0, 0, 1]), np.array(["a", "a", "b", "b"]))
    1.0
    """
    _same_length(scores, relevance)
    _same_length(groups, relevance)
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(np.asarray(groups)[order], return_index=True)
    found = [
        ndcg(scores[rows][None], relevance[rows][None].astype(np.float64), k)
        for rows in np.split(order, starts[1:])
        if (relevance[rows] > 0).any()
    ]
    if not found:
        raise DataError("ndcg: nothing is relevant in any group")
    return float(np.mean(found))


def _ndcg_of_one(scores: Numbers, y: Numbers, k: int) -> NDArray[np.float64]:
    own = scores[np.arange(len(y)), y][:, None]
    above = (scores > own).sum(axis=1)
    equal = (scores == own).sum(axis=1)
    sums = np.concatenate([[0.0], np.cumsum(_discounts(scores.shape[1], k))])
    return np.asarray((sums[above + equal] - sums[above]) / np.maximum(equal, 1), np.float64)  # a NaN equals nothing: 0


def _discounts(items: int, k: int) -> NDArray[np.float64]:
    ranks = np.arange(1, items + 1)
    return np.where(ranks <= k, 1 / np.log2(ranks + 1.0), 0.0)


def _shared_discounts(scores: Numbers, discounts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, items): what an item's gain is multiplied by, where it stands and whom it shares its place with."""
    rows, items = scores.shape
    order = np.argsort(-scores, axis=1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=1)
    new = np.ones((rows, items), bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    block = np.cumsum(new.ravel()) - 1
    means = np.bincount(block, np.tile(discounts, rows)) / np.bincount(block)
    shared = np.empty((rows, items))
    np.put_along_axis(shared, order, means[block].reshape(rows, items), axis=1)
    return shared


def _same_length(a: Numbers, b: Numbers) -> None:
    if len(a) != len(b):
        raise DataError(f"{len(a)} answers, but the truth of {len(b)} samples")
    if not len(b):
        raise DataError("no samples to score")
