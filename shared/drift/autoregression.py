"""An autoregressive model of one scalar: fit by least squares, and what its first samples and its gaps need.

z_t = c + φ_1 z_{t-1} + ... + φ_p z_{t-p} + e_t. While the stream is as it was, its residuals e depend on each other
hardly at all, whatever the values do.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift.bins import Floats

MOST_ORDER = 20
VALUES_EACH = 50
"""Reference values for each coefficient, at least."""
SLICE = 16_384
"""Rows of lags in memory at a time."""
LEVERAGE_ROWS = 16_384
"""Beyond so many rows what a row pulls the fit towards itself is not worth computing."""
LONGEST_GAP = 64
LEAST_GAIN = 1e-3
TINY = 1e-9


class Autoregression(Struct, frozen=True):
    """``intercept`` c and ``coefficients`` φ (p,), nearest first."""

    intercept: float
    coefficients: Floats

    @property
    def order(self) -> int:
        """P."""
        return len(self.coefficients)

    @property
    def gain(self) -> float:
        """|1 - Σφ|: by how much a residual moves when the level moves slowly by 1; not below 0.001.

        >>> round(Autoregression(0.0, np.array([0.9])).gain, 3)
        0.1
        """
        return max(abs(1.0 - float(self.coefficients.sum())), LEAST_GAIN)

    def starts(self) -> tuple[float, Floats, Floats]:
        """What the first p samples of a stream need, of which less than p others are known before.

        Returns:
            The mean of z; (p, p) coefficients of the best predictor from k earlier values, k = 0..p-1; and (p,) by
            what its errors have to be multiplied to be as large as residuals are. Durbin's and Levinson's recursion,
            downwards. Of a model that is not stationary the errors are made nothing of.
        """
        order = self.order
        mean = 0.0
        tables, scales = np.zeros((order, order)), np.full(order, TINY)
        a, scale = self.coefficients, 1.0
        for k in range(order, 0, -1):
            partial = a[k - 1]
            if abs(partial) >= 1:
                return 0.0, np.zeros((order, order)), np.full(order, TINY)
            rest = 1 - partial * partial
            a = (a[: k - 1] + partial * a[: k - 1][::-1]) / rest
            scale *= np.sqrt(rest)
            tables[k - 1, : k - 1], scales[k - 1] = a, max(scale, TINY)
        pull = 1.0 - float(self.coefficients.sum())
        if order and abs(pull) < TINY:  # a staircase, such as a date: rounding alone made it look stationary
            return 0.0, np.zeros((order, order)), np.full(order, TINY)
        if order:
            mean = self.intercept / pull
        return mean, tables, scales

    def after_gaps(self) -> Floats:
        """(LONGEST_GAP + 1,) by what the residual after h missing samples, which were forecast, has to be multiplied
        to be as large as others: 1 / sqrt(ψ_0² + ... + ψ_h²)."""
        psi = np.zeros(LONGEST_GAP + 1)
        psi[0] = 1.0
        for h in range(1, len(psi)):
            near = psi[max(0, h - self.order) : h][::-1]
            psi[h] = np.clip(self.coefficients[: len(near)] @ near, -1e6, 1e6)
        return np.asarray(1 / np.sqrt(np.cumsum(psi * psi)))


def fit_autoregression(z: Floats) -> tuple[Autoregression, Floats]:
    """The model of ``z`` (n,), NaN where missing; its order by Schwarz's criterion (BIC), at most min(20, n / 50).

    Only rows with all their lags enter; where gaps leave too few, the order is bounded lower. Returns the model and
    (n,) factors that make each residual the error of a model that had not seen it (1 / (1 - leverage), Allen's PRESS):
    those of the stream are of that kind.

    >>> rng = np.random.default_rng(0)
    >>> z = np.zeros(3000)
    >>> for t in range(1, 3000): z[t] = 0.8 * z[t - 1] + rng.normal()
    >>> model, _ = fit_autoregression(z)
    >>> model.order, bool(abs(model.coefficients[0] - 0.8) < 0.05)
    (1, True)
    """
    n = len(z)
    none = Autoregression(0.0, np.zeros(0)), np.ones(n)
    most = min(MOST_ORDER, n // VALUES_EACH)
    while most and _complete(z, most).sum() < VALUES_EACH * most:
        most -= 1
    if not most:
        return none
    r, rows = _triangle(z, most)
    squares = r[1:, -1] ** 2
    left = np.cumsum(squares[::-1])[::-1]  # residual sum of squares of orders 0..most
    if left[0] <= 0:
        return none
    orders = np.arange(most + 1)
    criterion = rows * np.log(np.maximum(left, TINY * left[0]) / rows) + orders * np.log(rows)
    order = int(np.argmin(criterion))
    if not order:
        return none
    r, rows = _triangle(z, order)
    inside = r[: order + 1, : order + 1]
    if np.abs(np.diag(inside)).min() <= TINY * np.abs(np.diag(inside)).max():
        return none
    found = np.asarray(np.linalg.solve(inside, r[: order + 1, -1]), dtype=np.float64)
    factors = np.ones(n)
    if rows <= LEVERAGE_ROWS:
        whole = _complete(z, order)
        lags = _lags(z, order)[whole][:, :-1]
        leverage = ((lags @ np.linalg.inv(inside)) ** 2).sum(1)
        factors[order:][whole] = 1 / np.maximum(1 - leverage, 0.5)
    return Autoregression(float(found[0]), found[1:]), np.asarray(factors, dtype=np.float64)


def _complete(z: Floats, order: int) -> NDArray[np.bool_]:
    """(n - order,) whether a value and its ``order`` predecessors are all there."""
    absent = np.concatenate(([0], np.cumsum(np.isnan(z))))
    return np.asarray(absent[order + 1 :] == absent[: len(z) - order])


def _lags(z: Floats, order: int) -> Floats:
    """Rows (n - order, order + 2): 1, the predecessors, nearest first, and the value."""
    windows = np.lib.stride_tricks.sliding_window_view(z, order + 1)
    return np.column_stack((np.ones(len(windows)), windows[:, -2::-1], windows[:, -1]))


def _triangle(z: Floats, order: int) -> tuple[Floats, int]:
    """R of the QR decomposition of all complete rows of lags, slice by slice, and how many those are."""
    r: Floats = np.zeros((0, order + 2))
    rows = 0
    for at in range(0, len(z) - order, SLICE):
        part = z[at : at + SLICE + order]
        lags = _lags(part, order)[_complete(part, order)]
        rows += len(lags)
        r = np.asarray(np.linalg.qr(np.concatenate((r, lags)), mode="r"))
    return r, rows
