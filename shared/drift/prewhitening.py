"""From rows of values to residuals, and to the means of levels, for scalars with a memory.

Invariants:

1. How rows are cut into blocks changes nothing: what is remembered of a value is a multiple of 2^-20 standard
   deviations, so that sums are exact in any order.
2. A missing value has no residual; the model's forecast takes its place in the past of those that follow (the mean,
   where more than 64 are missing). The residual after a gap is made as small as those of known pasts are, and so are
   the first p of a stream, for which the best predictor from what there is is taken.
3. An infinity has an infinite residual and is remembered as the end of the reference's range, so that it spoils none
   of those that follow; finite values are remembered up to ten such ranges beyond it.
4. A mean is of L values that follow each other, missing ones left out; it is there when the last of them is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift.autoregression import LONGEST_GAP, Autoregression
from shared.drift.bins import Column, Floats
from shared.uniform import Uniform

GRID = float(1 << 20)
Z_LIMIT = 2047.0
"""What is remembered, in standard deviations, at most: multiples of 2^-20 of it are whole numbers of 32 bits."""
BEYOND = 10.0
NO_MEAN = 255
"""Code of a row in which no mean is finished."""


class Serial(Struct, frozen=True):
    """How one scalar is taken apart: ``model`` of z = (x - center) / scale; ``low`` .. ``high``: range of z in the
    reference; ``length``: values that a mean is of, 0 for none."""

    model: Autoregression
    center: float
    scale: float
    low: float
    high: float
    length: int

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which z is remembered."""
        beyond = BEYOND * (self.high - self.low)
        return max(self.low - beyond, -Z_LIMIT), min(self.high + beyond, Z_LIMIT)

    def remembered(self, x: Floats) -> Floats:
        """Z as it is remembered; NaN where ``x`` is."""
        z = (x - self.center) / self.scale
        z = np.where(np.isinf(z), np.clip(z, self.low, self.high), np.clip(z, *self.bounds))
        return to_grid(z)


class SerialState(Struct, frozen=True):
    """What a stream remembers: ``rows`` (at most the largest order); ``history`` (C, P) int32 multiples of the grid;
    ``gaps`` (C,) missing samples just now; ``filled`` (V,) values of each unfinished mean and ``sums`` (V,) int64
    multiples of the grid."""

    rows: int
    history: NDArray[np.int32]
    gaps: NDArray[np.int64]
    filled: NDArray[np.int64]
    sums: NDArray[np.int64]


def to_grid(z: Floats) -> Floats:
    """The nearest multiples of 2^-20."""
    return np.asarray(np.rint(z * GRID) / GRID)


class Prewhitener:
    """The pasts of one stream, of scalars ``serials`` (None: a scalar without a memory) with the bins ``levels`` of
    their means."""

    def __init__(self, serials: Sequence[Serial | None], levels: Sequence[Column | None], seed: int = 0) -> None:
        with_model = [(k, s) for k, s in enumerate(serials) if s is not None and s.model.order]
        with_model.sort(key=lambda pair: -pair[1].model.order)
        self._at = np.array([k for k, _ in with_model], dtype=np.intp)
        self._serials = [s for _, s in with_model]
        models = [s.model for s in self._serials]
        self._order = models[0].order if models else 0
        self._longer = [sum(m.order > lag for m in models) for lag in range(self._order)]
        numbers = [(s.center, s.scale, s.low, s.high, *s.bounds, s.model.intercept) for s in self._serials]
        self._center, self._scale, self._first_end, self._last_end, self._low, self._high, self._intercept = (
            np.array(numbers).reshape(-1, 7).T[..., None].copy()
        )
        self._phi = np.array([_padded(m.coefficients, self._order) for m in models]).reshape(len(models), self._order)
        self._backwards = self._phi[:, ::-1].copy()
        self._after_gaps = np.array([[*m.after_gaps(), 0.0] for m in models]).reshape(len(models), LONGEST_GAP + 2)
        self._begin(models)
        order_of = {k: c for c, (k, _) in enumerate(with_model)}
        found = {k: level for k, level in enumerate(levels) if level is not None}
        self._of = np.array([order_of[k] for k in found], dtype=np.intp)
        most = max((len(level.edges) for level in found.values()), default=0)
        self._edges, self._tiebreaks = np.full((2, len(found), most), np.nan)
        for v, level in enumerate(found.values()):
            self._edges[v, : len(level.edges)] = level.edges
            self._tiebreaks[v, : len(level.edges)] = level.tiebreaks
        self._length = np.array([self._serials[c].length for c in self._of], dtype=np.int64)
        self._rng = Uniform(seed)
        self.forget()

    def _begin(self, models: Sequence[Autoregression]) -> None:
        """Predictors of the first samples, (P, C, P), and what their errors are multiplied by, (P, C, 1)."""
        order = self._order
        self._mean = np.zeros((len(models), 1))
        self._first = np.repeat(self._phi[None], order, axis=0)
        self._first_scale = np.ones((order, len(models), 1))
        for c, model in enumerate(models):
            self._mean[c], tables, scales = model.starts()
            self._after_gaps[c, -1] = scales[0]
            for k in range(model.order):
                self._first[k, c] = _padded(tables[k], order)
                self._first_scale[k, c] = scales[k]

        self._start = to_grid(np.clip(self._mean, self._low, self._high))

    def forget(self) -> None:
        """Nothing remembered."""
        self._rows = 0
        self._history = np.repeat(self._start, self._order, axis=1)
        self._gaps = np.zeros(len(self._serials), dtype=np.int64)
        self._filled = np.zeros(len(self._of), dtype=np.int64)
        self._sums = np.zeros(len(self._of))

    @property
    def idle(self) -> bool:
        """Whether no scalar has a memory."""
        return not self._serials

    def advance(self, x: Floats) -> tuple[Floats, NDArray[np.uint8]]:
        """Take in ``x`` (F, b). Returns it with residuals in place of the values that have a model, and the bins
        (V, b) of the means that are finished, ``NO_MEAN`` in all other rows."""
        size = x.shape[1]
        if self.idle or not size:
            return x, np.full((len(self._of), size), NO_MEAN, dtype=np.uint8)
        with np.errstate(over="ignore"):
            off = x[self._at] - self._center
            z = off / self._scale
        infinite = np.isinf(z)
        if infinite.any():
            np.copyto(z, np.clip(z, self._first_end, self._last_end), where=infinite)
        np.clip(z, self._low, self._high, out=z)
        z *= GRID
        np.rint(z, out=z)
        z /= GRID
        known = np.concatenate((self._history, z), axis=1)
        absent = np.isnan(z)
        gappy = bool(absent.any())
        if gappy:
            self._bridge(known, absent)
        residuals = off
        residuals -= self._scale * self._forecasts(known, size)
        if self._rows < self._order:
            with np.errstate(over="ignore"):
                self._correct_first(residuals, x[self._at] - self._center, known)
        if gappy or self._gaps.any():
            self._shrink_after_gaps(residuals, absent)
        codes = self._means(known[self._of, self._order :], absent[self._of] if gappy else None)
        self._history = known[:, known.shape[1] - self._order :].copy()
        self._rows = min(self._rows + size, self._order)
        found = x.copy()
        found[self._at] = residuals
        return found, codes

    def _forecasts(self, known: Floats, size: int) -> Floats:
        found = np.repeat(self._intercept, size, axis=1)
        for lag, some in enumerate(self._longer):
            at = self._order - 1 - lag
            found[:some] += self._phi[:some, lag, None] * known[:some, at : at + size]
        return found

    def _bridge(self, known: Floats, absent: NDArray[np.bool_]) -> None:
        """Put forecasts where values are missing, in place; beyond ``LONGEST_GAP`` of them the mean.

        Missing values farther apart than the longest model reaches don't meet, and are forecast at once.
        """
        of, rows = np.nonzero(absent)
        follows = (np.diff(of, prepend=-1) == 0) & (np.diff(rows, prepend=0) == 1)
        first = np.flatnonzero(~follows)
        place = np.arange(len(of)) - np.repeat(first, np.diff(first, append=len(of)))
        place += np.repeat(np.where(rows[first] == 0, self._gaps[of[first]], 0), np.diff(first, append=len(of)))
        far = place >= LONGEST_GAP
        known[of[far], rows[far] + self._order] = self._start[of[far], 0]
        of, rows = of[~far], rows[~far]
        apart = (np.diff(of, prepend=-1) != 0) | (np.diff(rows, prepend=0) > self._order)
        start = np.flatnonzero(apart)
        size = np.diff(start, append=len(of))
        reach = np.arange(self._order)
        for step in range(size.max(initial=0)):
            some = start[size > step] + step
            c, row = of[some], rows[some]
            past = known[c[:, None], row[:, None] + reach]
            forecast = self._intercept[c, 0] + (self._backwards[c] * past).sum(1)
            known[c, row + self._order] = to_grid(np.clip(forecast, self._low[c, 0], self._high[c, 0]))

    def _correct_first(self, residuals: Floats, off: Floats, known: Floats) -> None:
        for row in range(min(self._order - self._rows, residuals.shape[1])):
            k = self._rows + row
            past = known[:, row : row + self._order][:, ::-1] - self._mean
            started = np.array([serial.model.order > k for serial in self._serials])
            forecast = self._mean[:, 0] + (self._first[k] * past).sum(1)
            error = (off[:, row] - self._scale[:, 0] * forecast) * self._first_scale[k, :, 0]
            residuals[started, row] = error[started]

    def _shrink_after_gaps(self, residuals: Floats, absent: NDArray[np.bool_]) -> None:
        size = absent.shape[1]
        for c in np.flatnonzero(absent.any(1) | (self._gaps > 0)):
            there = np.flatnonzero(~absent[c])
            if not len(there):
                self._gaps[c] += size
                continue
            gaps = np.diff(there, prepend=-1 - self._gaps[c]) - 1
            after = gaps > 0
            residuals[c, there[after]] *= self._after_gaps[c, np.minimum(gaps[after], LONGEST_GAP + 1)]
            self._gaps[c] = size - 1 - there[-1]

    def _means(self, z: Floats, absent: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
        levels, size = z.shape
        codes = np.full((levels, size), NO_MEAN, dtype=np.uint8)
        if not levels:
            return codes
        if absent is not None:
            z = np.where(absent, 0.0, z)
        count = self._filled + (size if absent is None else size - absent.sum(1))
        rows, of, means = [], [], []
        for v in np.flatnonzero(count >= self._length):
            length = int(self._length[v])
            if absent is None:
                ends = np.arange(length - self._filled[v] - 1, size, length)
            else:
                seen = self._filled[v] + np.cumsum(~absent[v])
                ends = np.searchsorted(seen, np.arange(length, count[v] + 1, length))
            totals = np.diff(self._sums[v] + np.cumsum(z[v])[ends], prepend=0.0)
            serial = self._serials[self._of[v]]
            rows.append(ends)
            of.append(np.full(len(ends), v))
            means.append(serial.center + serial.scale * (totals / length))
            self._sums[v] += z[v].sum() - totals.sum()
            count[v] %= length
        quiet = self._filled + (size if absent is None else size - absent.sum(1)) < self._length
        self._sums[quiet] += z[quiet].sum(1)
        self._filled = count
        if rows:
            self._place(codes, np.concatenate(rows), np.concatenate(of), np.concatenate(means))
        return codes

    def _place(self, codes: NDArray[np.uint8], rows: NDArray[np.intp], of: NDArray[np.intp], means: Floats) -> None:
        """Bins of means; tie-breaks are drawn in the order of rows, so that blocks of any size give the same."""
        u = np.empty(len(rows))
        u[np.lexsort((of, rows))] = self._rng.random(len(rows))
        edges, value = self._edges[of], means[:, None]
        codes[of, rows] = ((edges < value) | ((edges == value) & (self._tiebreaks[of] < u[:, None]))).sum(1)

    @property
    def ties(self) -> Uniform:
        """What breaks the ties of means."""
        return self._rng

    def state(self) -> SerialState:
        """What is remembered."""
        return SerialState(
            self._rows,
            np.rint(self._history * GRID).astype(np.int32),
            self._gaps.copy(),
            self._filled.copy(),
            np.rint(self._sums * GRID).astype(np.int64),
        )

    def load(self, state: SerialState, ties: Uniform) -> bool:
        """Go on from ``state`` and ``ties``; False, and nothing changed, if it can't be of these scalars."""
        shapes = (state.history.shape, len(state.gaps), len(state.filled), len(state.sums))
        if (
            shapes != (self._history.shape, len(self._gaps), len(self._filled), len(self._sums))
            or not 0 <= state.rows <= self._order
            or (state.gaps < 0).any()
            or (state.filled < 0).any()
            or (state.filled >= self._length).any()
        ):
            return False
        self._rows, self._rng = state.rows, ties
        self._history = state.history / GRID
        self._gaps, self._filled, self._sums = state.gaps.copy(), state.filled.copy(), state.sums / GRID
        return True


def _padded(coefficients: Floats, order: int) -> Floats:
    return np.asarray(np.pad(coefficients, (0, order - len(coefficients))))
