"""From rows of numbers to bin codes, all columns at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.drift.bins import CATEGORY, VALUE, Floats
from shared.drift.profile import ReferenceProfile
from shared.errors import InputError

Codes = NDArray[np.uint8]
CHUNK = 2048
"""Rows encoded at a time: bounds the memory of the comparison with all edges."""


class Encoder:
    """Bins of rows for one profile.

    Codes are (b, T) uint8, tracks as in the profile's layout: the bin, or ``width`` (one past the last) where the
    value is missing.
    """

    def __init__(self, profile: ReferenceProfile) -> None:
        self.names = profile.names
        self.width = profile.layout.width
        self.tracks = len(profile.layout.names)
        self._values = np.array([k for k, kind in enumerate(profile.kinds) if kind == VALUE], dtype=np.intp)
        self._categories = [(k, c.edges) for k, c in enumerate(profile.columns) if c.kind == CATEGORY]
        most = max((len(profile.columns[k].edges) for k in self._values), default=0)
        self._edges = np.full((most, len(self._values), 1), np.nan)  # a comparison with NaN is never true
        self._tiebreaks = np.zeros((most, len(self._values), 1))
        for at, k in enumerate(self._values):
            column = profile.columns[k]
            self._edges[: len(column.edges), at, 0] = column.edges
            self._tiebreaks[: len(column.edges), at, 0] = column.tiebreaks

    def rows(self, X: ArrayLike) -> Floats:
        """``X`` as (b, F) float64.

        Raises:
            InputError: it is no table of numbers with one column a watched scalar.
        """
        try:
            rows = np.asarray(X, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"drift: rows must be numbers ({error})") from error
        if rows.ndim == 1 and (len(self.names) == 1 or rows.size == 0):
            rows = rows.reshape(-1, len(self.names))
        if rows.ndim != 2 or rows.shape[1] != len(self.names):
            raise InputError(f"drift: rows of shape {rows.shape}; the profile watches {len(self.names)} scalars a row")
        return rows

    def codes(self, rows: Floats, rng: np.random.Generator) -> Codes:
        """Codes (b, T) of ``rows`` (b, F). Uniform numbers for ties are drawn row by row, so that blocks of any size
        give the same codes."""
        if len(rows) > CHUNK:
            return np.concatenate([self.codes(rows[at : at + CHUNK], rng) for at in range(0, len(rows), CHUNK)])
        count, scalars = rows.shape
        codes = np.empty((count, self.tracks), dtype=np.uint8)
        absent = np.isnan(rows)
        if len(self._values):
            codes[:, self._values] = self._bins(np.ascontiguousarray(rows[:, self._values].T), rng).T
        for k, categories in self._categories:
            column = rows[:, k]
            at = np.searchsorted(categories, column)
            found = categories[np.minimum(at, len(categories) - 1)] == column
            codes[:, k] = np.where(found, at, len(categories))
        codes[:, :scalars][absent] = self.width
        codes[:, scalars:] = absent
        return codes

    def _bins(self, x: Floats, rng: np.random.Generator) -> Codes:
        """Bins (V, b) of values ``x`` (V, b): edges below, plus equal edges whose tie-break is below a uniform
        number."""
        below: Codes = np.add.reduce(x > self._edges, axis=0, dtype=np.uint8)
        equal = x == self._edges
        tied = np.nonzero(equal.any(axis=0).T)  # row by row: (sample, column)
        if len(tied[0]):
            u = rng.random(len(tied[0]))
            row, column = tied
            passed = equal[:, column, row] & (self._tiebreaks[:, column, 0] < u)
            below[column, row] += np.add.reduce(passed, axis=0, dtype=np.uint8)
        return below


def window_counts(codes: Codes, window: int, width: int) -> NDArray[np.int64]:
    """Counts (T, W, width) of ``codes`` (W * window, T) in windows of ``window`` rows."""
    windows, tracks = len(codes) // window, codes.shape[1]
    stride = width + 1
    base = np.arange(tracks) * (windows * stride)
    step = np.repeat(np.arange(windows) * stride, window)
    flat = np.bincount((codes + base + step[:, None]).ravel(), minlength=tracks * windows * stride)
    return flat.reshape(tracks, windows, stride)[:, :, :width]
