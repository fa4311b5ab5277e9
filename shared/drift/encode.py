"""From rows of numbers to bin codes, all columns at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.drift.arrays import numbers
from shared.drift.bins import CATEGORY, VALUE, Floats
from shared.drift.prewhitening import NO_MEAN
from shared.drift.profile import ReferenceProfile
from shared.errors import InputError
from shared.uniform import Uniform

Codes = NDArray[np.uint8]
CHUNK = 2048
"""Rows encoded at a time: bounds the memory of the comparison with all edges."""


class Encoder:
    """Bins of rows for one profile.

    Codes are (F, b) uint8: the bin of each value, or ``width`` (one past the last) where it is missing. Scalars with a
    memory are encoded by their residuals, which :class:`~shared.drift.prewhitening.Prewhitener` makes.
    """

    def __init__(self, profile: ReferenceProfile) -> None:
        self.names = profile.names
        self.width = profile.layout.width
        self.tracks = len(profile.layout.names)
        self._values = np.array([k for k, kind in enumerate(profile.kinds) if kind == VALUE], dtype=np.intp)
        self._categories = [(k, c.edges) for k, c in enumerate(profile.columns) if c.kind == CATEGORY]
        most = max((len(profile.columns[k].edges) for k in self._values), default=0)
        self._edges = np.full((most + 1, len(self._values), 1), np.nan)  # a comparison with NaN is never true
        self._tiebreaks = np.zeros((most + 1, len(self._values), 1))
        for at, k in enumerate(self._values):
            column = profile.columns[k]
            self._edges[: len(column.edges), at, 0] = column.edges
            self._tiebreaks[: len(column.edges), at, 0] = column.tiebreaks
        self._next_edge = np.ascontiguousarray(self._edges[..., 0].T).ravel()
        self._row = np.arange(len(self._values))[:, None] * (most + 1)

    def rows(self, X: ArrayLike) -> Floats:
        """``X`` as (b, F) float64.

        Raises:
            InputError: it is no table of numbers with one column a watched scalar.
        """
        try:
            rows = numbers(X)
        except ValueError as error:
            raise InputError(f"drift: rows must be numbers ({error})") from error
        if rows.ndim == 1 and (len(self.names) == 1 or rows.size == 0):
            rows = rows.reshape(-1, len(self.names))
        if rows.ndim != 2 or rows.shape[1] != len(self.names):
            raise InputError(f"drift: rows of shape {rows.shape}; the profile watches {len(self.names)} scalars a row")
        return rows

    def codes(self, rows: Floats, rng: Uniform) -> Codes:
        """Codes (F, b) of ``rows`` (b, F). Uniform numbers for ties are drawn row by row, so that blocks of any size
        give the same codes."""
        if len(rows) > CHUNK:
            parts = [self.codes(rows[at : at + CHUNK], rng) for at in range(0, len(rows), CHUNK)]
            return np.concatenate(parts, axis=1)
        x = np.ascontiguousarray(rows.T)
        codes = np.empty(x.shape, dtype=np.uint8)
        if len(self._values):
            codes[self._values] = self._bins(x[self._values], rng)
        for k, categories in self._categories:
            at = np.searchsorted(categories, x[k])
            found = categories[np.minimum(at, len(categories) - 1)] == x[k]
            codes[k] = np.where(found, at, len(categories))
        absent = np.isnan(x)
        if absent.any():
            codes[absent] = self.width
        return codes

    def _bins(self, x: Floats, rng: Uniform) -> Codes:
        """Bins (V, b) of values ``x`` (V, b): edges below, plus equal edges whose tie-break is below a uniform
        number."""
        below: Codes = np.add.reduce((x > self._edges).view(np.uint8), axis=0, dtype=np.uint8)
        equal = self._next_edge.take(self._row + below) == x
        if equal.any():
            row, column = np.nonzero(equal.T)  # row by row: (sample, column)
            u = rng.random(len(row))
            edges, tiebreaks = self._edges[:, column, 0], self._tiebreaks[:, column, 0]
            passed = (edges == x[column, row]) & (tiebreaks < u)
            below[column, row] += np.add.reduce(passed, axis=0, dtype=np.uint8)
        return below


def window_counts(codes: Codes, window: int, width: int) -> NDArray[np.int64]:
    """Counts (2F, W, width) of ``codes`` (F, W * window) in windows of ``window`` rows: of each scalar's bins, then of
    each missing flag's (present, missing)."""
    scalars, windows = len(codes), codes.shape[1] // window
    stride = width + 1
    base = np.arange(0, scalars * windows * stride, stride).reshape(scalars, windows, 1)
    cells = codes.reshape(scalars, windows, window) + base
    flat = np.bincount(cells.ravel(), minlength=base.size * stride).reshape(scalars, windows, stride)
    counts = np.zeros((2 * scalars, windows, width), dtype=np.int64)
    counts[:scalars] = flat[:, :, :width]
    counts[scalars:, :, 1] = missing = flat[:, :, width]
    np.subtract(window, missing, out=counts[scalars:, :, 0])
    return counts


def level_counts(codes: Codes, window: int, width: int) -> NDArray[np.int64]:
    """Counts (V, W, width) of the means that are finished in windows of ``window`` rows; ``codes`` (V, W * window)."""
    levels, windows = len(codes), codes.shape[1] // window
    of, rows = np.nonzero(codes != NO_MEAN)
    cells = (of * windows + rows // window) * width + codes[of, rows]
    return np.bincount(cells, minlength=levels * windows * width).reshape(levels, windows, width)
