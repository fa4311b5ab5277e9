"""E-values of count vectors, and how they add up over time.

- *Urn*: the bets against the exact law of the counts under exchangeability, a Pólya urn that starts with the
  reference's rank gaps and takes in what it has seen. Nothing is estimated, so any size of reference will do.
- *Plug-in*: the bets against an upper confidence bound of their mean under the reference. It doesn't learn the
  stream, so it sees slow drift, and it can have a tolerance; its promise fails with the probability η of that bound.
- *Shiryaev-Roberts*: R <- (R + π) e, with π the time or samples of the window. E[R at T] <= T while nothing has
  changed, so P(R >= A within T) <= T / A, and the mean time to a false alarm is at least A. Kept in logs.

Shapes: T tracks, W windows, K bins, M bets. Tracks with fewer bins are padded: padded bins have urn weight 1, count 0
and are masked out of every sum.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from shared.drift.bins import Column, Floats

URN_WEIGHT = 15 / 16
CONFIDENCE = 0.05
CONFIDENCE_SMALL = 0.025
"""η for references of fewer than ``SMALL`` values, where the normal approximation is coarser."""
SMALL = 200
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
_LOG_GAMMA = np.concatenate(([0.0, 0.0], np.cumsum(np.log(np.arange(1.0, 1023.0)))))
"""log Γ(k) for k = 0..1023 (the first is never used)."""
FEW = 32
_TRIANGLE = np.tri(FEW)
_NORMAL = NormalDist()


def log_gamma(x: Floats, log_x: Floats | None = None) -> Floats:
    """Log Γ(x) of whole numbers x >= 1: a table, and beyond it Stirling's series (error below 1e-11). ``log_x``: their
    logarithms, where they are known.

    >>> round(float(np.exp(log_gamma(np.array([6.0]))[0])), 6)
    120.0
    """
    small: Floats = _LOG_GAMMA.take(x.astype(np.intp), mode="clip")
    if x.max(initial=0) < len(_LOG_GAMMA):
        return small
    found = x - 0.5
    found *= np.log(x) if log_x is None else log_x
    found -= x
    found += _HALF_LOG_TAU
    found += (1 / 12) / x
    np.copyto(found, small, where=x < len(_LOG_GAMMA))
    return found


class UrnLaw(NamedTuple):
    """What an urn says of windows that follow each other: ``before`` (T, W, K) what each finds, ``after`` (T, K) what
    the last leaves, ``size`` (T, W) counts of each, ``base`` (T, W) the part of log e that all bets share."""

    before: Floats
    after: Floats
    size: Floats
    base: Floats


def urn_law(urn: Floats, total: Floats, counts: Floats) -> UrnLaw:
    """The law of ``counts`` (T, W, K) for an ``urn`` (T, K) with sums ``total`` (T,), padding left out of these."""
    bins = counts.shape[2]
    steps = np.empty((*counts.shape[:2], bins + 1))  # the last is the sum
    steps[..., :bins] = counts
    size = np.sum(counts, axis=2, out=steps[..., bins])
    met = running(np.concatenate((urn, total[:, None]), axis=1), steps)
    log_met = np.log(met)
    lengths = log_gamma(met, log_met)
    grown = lengths[:, 1:] - lengths[:, :-1]
    share = counts * log_met[:, :-1, :bins]
    share -= grown[..., :bins]
    return UrnLaw(met[:, :-1, :bins], met[:, -1, :bins], size, share.sum(-1) + grown[..., bins])


def urn_log_e(bets: Floats, exp_bets: Floats, urn: Floats, total: Floats, counts: Floats) -> Floats:
    """Log e (T, W, M) of windows that follow each other, each against the urn as it finds it.

    Args:
        bets: (T, M, K) log-bets.
        exp_bets: (T, M, K) their exponentials, 0 in padded bins.
        urn: (T, K) weights before the first window, 1 in padded bins.
        total: (T,) sums of ``urn`` without padding.
        counts: (T, W, K) of each window.
    """
    law = urn_law(urn, total, counts)
    tilted = np.log(law.before @ exp_bets.transpose(0, 2, 1))
    found: Floats = counts @ bets.transpose(0, 2, 1) - law.size[..., None] * tilted + law.base[..., None]
    return found


def urn_log_e_each(bets: Floats, exp_bets: Floats, urn: Floats, total: Floats, counts: Floats) -> Floats:
    """As :func:`urn_log_e` for windows that are all drawn from the urn as it is, like those of many devices at once."""
    bins = counts.shape[2]
    size = counts.sum(-1)
    start = np.concatenate((urn, total[:, None]), axis=1)[:, None]
    grown = log_gamma(start + np.concatenate((counts, size[..., None]), axis=2)) - log_gamma(start)
    base = (counts * np.log(urn)[:, None] - grown[..., :bins]).sum(-1) + grown[..., bins]
    tilted = np.log(urn[:, None] @ exp_bets.transpose(0, 2, 1))
    found: Floats = counts @ bets.transpose(0, 2, 1) - size[..., None] * tilted + base[..., None]
    return found


def running(start: Floats, steps: Floats) -> Floats:
    """``start`` (T, ...) and what it becomes after each of ``steps`` (T, W, ...): (T, W + 1, ...)."""
    found = np.empty((len(steps), steps.shape[1] + 1, *steps.shape[2:]))
    found[:, 0] = start
    if steps.shape[1] == 1:
        np.add(found[:, :1], steps, out=found[:, 1:])
    elif steps.shape[1] <= FEW:  # whole numbers: the order of a sum changes nothing, and a product costs a third
        found[:, 1:] = (_TRIANGLE[: steps.shape[1], : steps.shape[1]] @ steps.reshape(*steps.shape[:2], -1)).reshape(
            steps.shape
        )
        found[:, 1:] += start[:, None]
    else:
        found[:, 1:] = steps
        np.cumsum(found, axis=1, out=found)
    return found


def accumulate(log_r: Floats, log_e: Floats, log_time: float) -> Floats:
    """Log R (T, W, M) after each window, from ``log_r`` (T, M) before and ``log_e`` (T, W, M).

    Closed form of R_w = (R_{w-1} + π) e_w: with S the running sum of log e, R_w = exp(S_w) (R_0 + π Σ_{s<=w}
    exp(-S_{s-1})).
    """
    if log_e.shape[1] == 1:
        return np.asarray(np.logaddexp(log_r, log_time)[:, None, :] + log_e)
    sums = np.cumsum(log_e, axis=1)
    started = np.empty_like(sums)
    started[:, 0] = np.logaddexp(log_r, log_time)
    started[:, 1:] = log_time - sums[:, :-1]
    found: Floats = sums + np.logaddexp.accumulate(started, axis=1)
    return found


def log_sum(x: Floats, axis: int | tuple[int, ...]) -> Floats:
    """Log Σ exp(x) over ``axis``; -inf where all are -inf."""
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        found: Floats = np.log(np.exp(x - top).sum(axis=axis)) + top.squeeze(axis)
    return found


def value_normaliser(column: Column, bets: Floats, delta: float, risk: float) -> Floats:
    """Log Z (M,): upper confidence bound, missed with probability ``risk`` in all, of the mean of each bet under
    every law that moves reference values by at most ``delta``: Z = m + Φ⁻¹(1 - risk/M) s / √(n + 1)."""
    h = np.exp(bets)
    if delta > 0:
        bins = h.shape[1]
        best = np.empty((bins, bins, len(h)))
        for first in range(bins):
            best[first, first:] = np.maximum.accumulate(h.T[first:], axis=0)
        low = np.searchsorted(column.edges, column.sketch - delta, "left")
        high = np.searchsorted(column.edges, column.sketch + delta, "right")
        reached = best[low, high]
        mean, deviation = reached.mean(0), reached.std(0)
    else:
        share = column.gaps / column.gaps.sum()
        mean = h @ share
        deviation = np.sqrt(np.maximum((h * h) @ share - mean * mean, 0))
    bound: Floats = np.log(mean + _NORMAL.inv_cdf(1 - risk / len(h)) * deviation / math.sqrt(column.present + 1))
    return bound


def share_normaliser(share: float, n: float, bet: float, replaced: float, risk: float) -> float:
    """Log Z of a log-bet on one bin: E[h] = 1 + (e^bet - 1) p, p at the end of its Chernoff interval (missed with
    probability ``risk``, for any sample size), plus ``replaced`` (max h - min h)."""
    gain = math.expm1(bet)
    return math.log1p(gain * share_bound(share, n, risk, upper=gain > 0) + replaced * abs(gain))


def share_bound(share: float, n: float, risk: float, *, upper: bool) -> float:
    """End of the Chernoff interval of a share seen in ``n`` trials: KL(share, p) = log(1/risk) / n.

    >>> round(share_bound(0.1, 500, 1e-4, upper=True), 3)
    0.167
    """
    limit = -math.log(risk) / n
    inside, outside = share, 1.0 if upper else 0.0
    for _ in range(50):
        middle = (inside + outside) / 2
        if _divergence(share, middle) < limit:
            inside = middle
        else:
            outside = middle
    return outside


def _divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of two coins."""
    if q <= 0 or q >= 1:
        return math.inf if p != q else 0.0
    return (p * math.log(p / q) if p > 0 else 0.0) + ((1 - p) * math.log((1 - p) / (1 - q)) if p < 1 else 0.0)


def risk_of(present: int, tracks: int) -> float:
    """The share of η that one of ``tracks`` tracks may spend on its confidence bound."""
    return (CONFIDENCE_SMALL if present < SMALL else CONFIDENCE) / tracks
