"""A linear classifier (scikit-learn's logistic regression) or regression (its ridge) beside the networks that teach.

On hashed n-grams of a few thousand texts nothing is much better (Joachims 1998; Wang and Manning 2012), and it is wrong
elsewhere than a network: together they are a better teacher than either.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

STRENGTHS = (1.0, 10.0, 100.0)
"""Inverse strengths of the penalty that are tried on hashed runs; those for rows, whose numbers are larger, follow."""
ROW_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
RIDGE = tuple(10.0**power for power in range(-2, 5))
"""Penalties of a regression."""
ABSENT = -30.0  # logit of a class that was not among the samples


class Linear(Struct, frozen=True, eq=False):
    """``weights`` (outputs, inputs) and ``bias`` (outputs,); ``strength``: what was chosen."""

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float

    @property
    def label(self) -> str:
        """For tables."""
        return f"linear-c{self.strength:g}"

    @property
    def macs(self) -> int:
        """Of an answer."""
        return int(self.weights.size)

    @property
    def bytes(self) -> int:
        """Of the weights in float32."""
        return 4 * int(self.weights.size + self.bias.size)

    def answers(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """(n, inputs) -> logits (n, outputs)."""
        return np.asarray(np.asarray(x, np.float32) @ self.weights.T + self.bias, np.float32)


def fit_linear(
    x: NDArray[Any],
    y: NDArray[Any],
    validation: tuple[NDArray[Any], NDArray[Any]],
    *,
    outputs: int,
    score: Callable[[NDArray[Any], NDArray[Any]], float],
    strengths: Sequence[float] = STRENGTHS,
) -> Linear | None:
    """The best of ``strengths`` on the ``validation`` split; ``None``: ``y`` (n,) has one class only."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    classes = np.unique(y)
    if len(classes) < 2:
        return None
    sparse, best, best_score = csr_matrix(np.asarray(x, np.float32)), None, -np.inf
    for strength in strengths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged after 200 rounds is good enough
            fitted = LogisticRegression(C=strength, max_iter=200).fit(sparse, y)
        weights = np.zeros((outputs, x.shape[1]), np.float32)
        bias = np.full(outputs, ABSENT, np.float32)
        if len(classes) == 2:
            weights[classes[1]], bias[classes[0]], bias[classes[1]] = fitted.coef_[0], 0.0, fitted.intercept_[0]
        else:
            weights[classes], bias[classes] = fitted.coef_, fitted.intercept_
        found = Linear(weights, bias, strength)
        reached = score(found.answers(validation[0]), validation[1])
        if reached > best_score:
            best, best_score = found, reached
    return best


def fit_ridge(x: NDArray[Any], y: NDArray[Any]) -> Linear:
    """A regression of ``y`` (n, outputs) on ``x`` (n, inputs), with the penalty of ``RIDGE`` that leaves the least
    error where each row is foretold by the others."""
    from sklearn.linear_model import RidgeCV

    found = RidgeCV(alphas=RIDGE).fit(np.asarray(x, np.float64), np.asarray(y, np.float64).reshape(len(y), -1))
    weights = np.atleast_2d(np.asarray(found.coef_, np.float32))
    bias = np.atleast_1d(np.asarray(found.intercept_, np.float32))
    return Linear(weights, bias, float(found.alpha_))
