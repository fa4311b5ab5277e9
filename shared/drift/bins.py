"""Bins of one watched scalar, learned from reference values.

Invariants:

1. A *value* column has rank-gap bins: the edges are reference values at fixed ranks (rank 1, ``bins - 1`` that lie
   closer towards both ends, rank n), so under exchangeability the bin counts of a stream follow a
   Dirichlet-multinomial law whose weights are the rank gaps, whatever the distribution is.
2. Ties are ordered by (value, u) with u uniform, drawn for reference and stream alike; that keeps 1 true for atoms and
   constants. Infinities are ordinary extremes.
3. A *category* column has a bin for each category seen (the most frequent ``bins``) and a last one for all others.
   The last bin's weight is what fell into it, plus one, plus the number of categories seen once: the estimate of Good
   and Turing of the share of the unseen. This is not exact as 1 is; measured, it alarms less often than promised.
4. NaN is no value. It is counted in a *flag* track beside the column: present, missing.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.errors import ProfileError
from shared.quantiles import quantiles
from shared.uniform import Uniform

Floats = NDArray[np.float64]

VALUE, CATEGORY = "value", "category"
SKETCH_MAX = 4096
"""Reference quantiles kept per value column, for tolerance bands."""
STRETCH = 1.5
"""Inner edges lie at the shares Φ(1.5 Φ⁻¹(k / bins)): evenly spaced shares keep 80 % of what a normal variable's values
tell of its variance, these 94 %, and 98 to 99 % instead of 95 to 98 of what they tell of its mean."""
LEAST_VALUES = 10
_NORMAL = NormalDist()


class Column(Struct, frozen=True):
    """The reference of one scalar; K bins.

    ``edges`` (K - 1,) ascending bin edges of a value column, or the categories that have a bin of their own;
    ``tiebreaks`` (K - 1,) the u of each edge (empty for categories); ``gaps`` (K,) weights, whole numbers >= 1;
    ``scores`` (K,) normal scores; ``centers`` (K,) mean reference value of each bin; ``sketch`` ascending reference
    values or quantiles; ``unit`` robust sigma (0 for a constant); ``present`` and ``missing`` count reference values.
    """

    kind: str
    edges: Floats
    tiebreaks: Floats
    gaps: Floats
    scores: Floats
    centers: Floats
    sketch: Floats
    unit: float
    present: int
    missing: int


def same_column(one: Column, other: Column) -> bool:
    """Whether both are the same reference."""
    counts = (one.kind, one.present, one.missing) == (other.kind, other.present, other.missing)
    parts = ((one.edges, other.edges), (one.tiebreaks, other.tiebreaks), (one.gaps, other.gaps))
    return counts and all(np.array_equal(a, b) for a, b in parts)


def robust_sigma(values: Floats) -> float:
    """min(sd, IQR / 1.349) of the finite values; sd where the quartiles coincide; 0 for a constant.

    >>> robust_sigma(np.array([1.0, 1.0, 1.0]))
    0.0
    """
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.min() == finite.max():  # np.std of equal values is not always 0
        return 0.0
    deviation = float(np.std(finite))
    low, high = quantiles(finite, (0.25, 0.75))
    quartiles = (high - low) / 1.349
    return min(quartiles, deviation) if quartiles > 0 else deviation


@lru_cache(maxsize=8)
def _normal_scores(n: int) -> Floats:
    """Normal scores of the half ranks k / 2n, k = 0..2n (the ends, never used, are 0)."""
    return np.array([0.0, *(_NORMAL.inv_cdf(k / (2 * n)) for k in range(1, 2 * n)), 0.0])


def _mean_by_bin(values: Floats, bin_of: NDArray[np.int64], bins: int) -> Floats:
    """Mean of ``values`` in each bin, NaN in bins without one."""
    count = np.bincount(bin_of, minlength=bins)
    total = np.bincount(bin_of, weights=values, minlength=bins)
    means: Floats = np.divide(total, count, out=np.full(bins, np.nan), where=count > 0)
    return means


def _centers(values: Floats, bin_of: NDArray[np.int64], bins: int, unit: float) -> Floats:
    """Where each bin lies, for effect sizes. Bins without a finite reference value lie where their neighbour does; a
    constant's outer bins lie one unit off, so that its effect is the share of values that left it."""
    if unit == 0:
        constant = np.zeros(bins)
        constant[0], constant[-1] = -1.0, 1.0
        return constant
    finite = np.isfinite(values)
    centers = _mean_by_bin(values[finite], bin_of[finite], bins)
    index = np.arange(bins)
    known = ~np.isnan(centers)
    return np.interp(index, index[known], centers[known])


@lru_cache(maxsize=8)
def _inner_shares(bins: int) -> Floats:
    """Reference shares below each of the ``bins - 1`` inner edges."""
    return np.array([_NORMAL.cdf(STRETCH * _NORMAL.inv_cdf(k / bins)) for k in range(1, bins)])


def fit_value(values: Floats, missing: int, bins: int, rng: Uniform, name: str) -> Column:
    """Rank-gap bins of ``values`` (n,), which hold no NaN.

    Raises:
        ProfileError: fewer than ten values.
    """
    n = len(values)
    if n < LEAST_VALUES:
        raise ProfileError(
            f"column {name!r}: {n} values that are not missing; a reference needs at least {LEAST_VALUES}"
        )
    tiebreaks = rng.random(n)
    order = np.lexsort((tiebreaks, values))
    values, tiebreaks = values[order], tiebreaks[order]
    inner = np.round(_inner_shares(bins) * (n + 1))
    ranks = np.clip(np.concatenate(([1.0], inner, [float(n)])), 1, n).astype(np.int64)
    ranks = ranks[np.concatenate(([True], ranks[1:] != ranks[:-1]))]  # they are in order; np.unique loads numpy.ma
    gaps = np.diff(np.concatenate(([0], ranks, [n + 1]))).astype(np.float64)
    bin_of = np.searchsorted(ranks, np.arange(1, n + 1), "left")
    half_ranks = np.searchsorted(values, values, "left") + np.searchsorted(values, values, "right")
    scores = np.nan_to_num(_mean_by_bin(_normal_scores(n)[half_ranks], bin_of, len(gaps)))
    outside = _NORMAL.inv_cdf(1 - 0.5 / (n + 1))
    scores[0], scores[-1] = -outside, outside
    unit = robust_sigma(values)
    return Column(
        kind=VALUE,
        edges=values[ranks - 1],
        tiebreaks=tiebreaks[ranks - 1],
        gaps=gaps,
        scores=scores,
        centers=_centers(values, bin_of, len(gaps), unit),
        sketch=values if n <= SKETCH_MAX else values[((np.arange(SKETCH_MAX) + 0.5) * n / SKETCH_MAX).astype(np.int64)],
        unit=unit,
        present=n,
        missing=missing,
    )


def fit_category(values: Floats, missing: int, bins: int, name: str) -> Column:
    """One bin for each of the ``bins`` most frequent of ``values`` (n,), and one for all others.

    Raises:
        ProfileError: fewer than ten values.
    """
    n = len(values)
    if n < LEAST_VALUES:
        raise ProfileError(
            f"column {name!r}: {n} values that are not missing; a reference needs at least {LEAST_VALUES}"
        )
    seen, count = np.unique(values, return_counts=True)
    own = np.sort(np.argsort(-count, kind="stable")[:bins])
    others = n - count[own].sum()
    gaps = np.append(count[own], others + 1 + np.count_nonzero(count == 1)).astype(np.float64)
    return Column(
        kind=CATEGORY,
        edges=seen[own],
        tiebreaks=np.zeros(0),
        gaps=gaps,
        scores=np.zeros(len(gaps)),
        centers=np.zeros(len(gaps)),
        sketch=np.zeros(0),
        unit=0.0,
        present=n,
        missing=missing,
    )
