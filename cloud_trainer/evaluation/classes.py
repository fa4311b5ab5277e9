"""Figures of classifiers, from scores (n, classes) and truth (n,). Pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.gates import LEVEL, binomial_tail
from cloud_trainer.metrics import auc

Floats = NDArray[np.floating[Any]]
Truth = NDArray[np.int64]
Z95 = 1.959964


class ClassRow(Struct, frozen=True):
    """One class of a table. Shares are 0 to 1; NaN where they are not defined (nothing answered so, none there).
    ``low`` and ``high``: the 95 % interval of the recall (Wilson 1927)."""

    label: str
    support: int
    precision: float
    recall: float
    f1: float
    low: float
    high: float


def confusion(predicted: NDArray[Any], y: Truth, classes: int) -> NDArray[np.int64]:
    """(classes, classes): rows are the truth, columns the answers."""
    return np.bincount(y * classes + predicted, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def per_class(matrix: NDArray[np.int64], labels: tuple[str, ...]) -> tuple[ClassRow, ...]:
    """Precision, recall and F1 of each class of a confusion matrix, in the order of ``labels``."""
    right, said, there = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    low, high = wilson(right, there)
    return tuple(
        ClassRow(
            label=label,
            support=int(there[i]),
            precision=_share(right[i], said[i]),
            recall=_share(right[i], there[i]),
            f1=_share(2 * right[i], said[i] + there[i]),
            low=float(low[i]),
            high=float(high[i]),
        )
        for i, label in enumerate(labels)
    )


def _share(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else float("nan")


def balanced_accuracy(matrix: NDArray[np.int64]) -> float:
    """Mean recall of the classes that there are samples of.

    >>> balanced_accuracy(np.array([[8, 2], [0, 1]]))
    0.9
    """
    there = matrix.sum(axis=1)
    return float((np.diag(matrix)[there > 0] / there[there > 0]).mean())


def macro_f1(matrix: NDArray[np.int64]) -> float:
    """Mean F1 of the classes that are there or were answered.

    >>> macro_f1(np.array([[1, 0], [0, 1]]))
    1.0
    """
    both = matrix.sum(axis=0) + matrix.sum(axis=1)
    return float((2 * np.diag(matrix)[both > 0] / both[both > 0]).mean())


def auc_of_classes(scores: Floats, y: Truth) -> float:
    """Area under the ROC: of the second class where there are two, else the mean of one against the rest over the
    classes that there are samples of (Hand and Till 2001 discuss it). NaN where the truth is of one class only."""
    present = np.unique(y)
    if len(present) < 2:
        return float("nan")
    if scores.shape[1] == 2:
        return auc(scores[:, 1], y == 1)
    return float(np.mean([auc(scores[:, k], y == k) for k in present]))


def log_loss(scores: Floats, y: Truth) -> float:
    """Mean of ``-log(score of the right class)``, in nats; a score of 0 counts as the smallest float32."""
    return float(log_losses(scores, y).mean())


def log_losses(scores: Floats, y: Truth) -> NDArray[np.float64]:
    """:func:`log_loss` of each sample, (n,)."""
    chosen = scores[np.arange(len(y)), y].astype(np.float64)
    return np.asarray(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)), np.float64)


def wilson(right: NDArray[Any], n: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high ends of the 95 % score interval (Wilson 1927) of shares ``right / n``; 0 to 1 where ``n`` is 0."""
    count = np.maximum(np.asarray(n, np.float64), 1e-12)
    share = np.asarray(right, np.float64) / count
    middle = (share + Z95**2 / (2 * count)) / (1 + Z95**2 / count)
    half = Z95 * np.sqrt(share * (1 - share) / count + (Z95 / (2 * count)) ** 2) / (1 + Z95**2 / count)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def chance_warning(predicted: NDArray[Any], y: Truth, labels: tuple[str, ...], level: float = LEVEL) -> str | None:
    """What is wrong with answers ``predicted`` (n,) that are not significantly more often right than the most frequent
    class of ``y`` would be if it were always the answer; ``None`` for others."""
    counts = np.bincount(y, minlength=len(labels))
    right, most = int((predicted == y).sum()), int(counts.argmax())
    share = float(counts[most] / len(y))
    if binomial_tail(right, len(y), share) < level:
        return None
    return (
        f"no better than chance: right on {right / len(y):.1%} of {len(y):,} test samples, and always saying "
        f"{labels[most]!r} would be right on {share:.1%}"
    )
