"""What a time-ordered reference knows of one scalar beside its bins: how long it remembers, and what follows.

Values that depend on those before are worth fewer than their number. So a scalar with a memory has two tracks, both
of rank-gap bins: residuals of an autoregressive model, which depend on each other hardly at all, and means of L
values, which say where the level is and are far enough from each other. A level is promised only from 20 such means
on. Where even so the reference, in fifths, alarms against itself, it has shown movement that no model of it covers: a
band is assumed then, and nothing is promised.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from shared.drift.autoregression import Autoregression, fit_autoregression
from shared.drift.bets import SLOW_SHIFTS, value_bets
from shared.drift.bins import CATEGORY, LEAST_VALUES, Column, Floats, fit_category, fit_value, robust_sigma
from shared.drift.evidence import accumulate, log_sum, value_normaliser
from shared.drift.prewhitening import Z_LIMIT, Prewhitener, Serial
from shared.errors import ProfileError
from shared.uniform import Uniform

LEAST_MEANS = 20
FEW_MEMORIES = 70
"""Below so many memories seen, the model itself is too uncertain: residuals then wander with the values."""
SLACK_MEMORIES = 10.0
SHORTEST = 8
MEANS_EACH_BIN = 5
FEWEST_BINS = 4
MEMORIES = 5
"""A mean is of so many memories τ."""
FOLDS = 5
SELF_ALARM = 100
"""The self-test alarms at R = 100 n: one of a hundred references that wander in no way fails it by chance."""
SELF_RISK = 0.01
BLOCKS = 10
BAND = 1.5
WIDER = 4
"""The band is doubled so often, at most, until the self-test is silent."""
LAGS = 10
BURSTS = 35.0
"""Box and Pierce's statistic of 10 lags beyond which residuals come in bursts: 1 in 8,000 does by chance."""
REPEATS = 3.0
"""Standard errors beyond which neighbours that are alike are no chance."""


class Memory(Struct, frozen=True):
    """``serial``: the model, its units and the length of means (0: none). ``unit``: robust sigma of the scalar.
    ``tau``: memory, in samples. ``seen``: values it was learned from. ``level``: bins of the means, if a level is
    promised. ``band``: robust sigmas by which the reference itself moves (0: in no way that was found). ``settled``:
    with that band it doesn't alarm against itself. ``slack``: how far residuals may move, in the scalar's unit, because
    the model is uncertain. ``bursts``: their size depends on the past.
    """

    serial: Serial
    unit: float
    tau: float
    seen: int
    level: Column | None
    band: float
    settled: bool
    slack: float = 0.0
    bursts: bool = False

    def text(self, kind: str) -> str:
        """What can be promised, for people."""
        tau = f"{self.tau:.3g}"
        if kind == CATEGORY:
            return f"not promised: answers follow each other, memory {tau}, {self.seen} seen"
        if not self.settled:
            return f"not promised: the reference moves beyond every band, memory {tau}, {self.seen} seen"
        parts = []
        if self.bursts:
            parts.append("not promised: large changes follow each other, memory " + tau)
        if self.band:
            parts.append(f"not promised: the reference moves, a band of {self.band:.2g} robust sigmas is assumed")
        if self.level is None and self.serial.model.order:
            parts.append(f"level not promised: memory {tau}, {self.seen} seen")
        elif self.level is not None:
            parts.append(f"{'level' if parts else 'promised, level'} on means of {self.serial.length}")
        return "; ".join(parts)


def fit_memory(values: Floats, kind: str, bins: int, rng: Uniform, name: str) -> tuple[Column, Memory | None]:
    """Bins of what is watched of ``values`` (n,) in time order, NaN where missing: of residuals where there is a
    memory, otherwise of the values.

    Raises:
        ProfileError: fewer than ten values.
    """
    there = values[~np.isnan(values)]
    missing = len(values) - len(there)
    if kind == CATEGORY:
        column = fit_category(there, missing, bins, name)
        tau = _repeats(there)
        return column, None if tau is None else _without_model(tau, len(there))
    finite = there[np.isfinite(there)]
    unit = robust_sigma(there)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = float(np.std(finite)) if len(finite) else 0.0
    if unit == 0 or len(finite) < LEAST_VALUES or not 0 < spread < math.inf:
        return fit_value(there, missing, bins, rng, name), None
    serial, factors = _model(values, finite)
    if serial.model.order:
        residuals = residuals_of(serial, values) * factors
        kept = residuals[serial.model.order :]
        watched = kept[~np.isnan(kept)]
        if len(watched) < LEAST_VALUES:
            raise ProfileError(
                f"column {name!r}: {len(watched)} values that are not missing; "
                f"a reference needs at least {LEAST_VALUES}"
            )
        column = fit_value(watched, len(kept) - len(watched), bins, rng, name)
    else:
        watched, column = there, fit_value(there, missing, bins, rng, name)
    tau, length = _length(serial.model, watched, finite)
    level, means = None, np.zeros(0)
    if serial.model.order and len(there) // length >= LEAST_MEANS:
        count = len(there) // length
        serial = Serial(serial.model, serial.center, serial.scale, serial.low, serial.high, length)
        z = serial.remembered(there)[: count * length]
        means = serial.center + serial.scale * z.reshape(count, length).mean(1)
        level = fit_value(means, 0, max(FEWEST_BINS, min(bins, count // MEANS_EACH_BIN)), rng, name)
    band, settled = _band(watched, means, finite, unit, serial.model.gain, bins, name)
    bursts = _bursts(column, watched)
    if not serial.model.order and not band and not bursts:
        return column, None
    slack = _slack(serial.model.order, watched, len(there), tau)
    return column, Memory(serial, unit, tau, len(there), level, band, settled, slack, bursts)


def residuals_of(serial: Serial, values: Floats) -> Floats:
    """(n,) as a stream of these values would have them."""
    rows, _ = Prewhitener([serial], [None]).advance(values[None])
    return np.asarray(rows[0])


def _model(values: Floats, finite: Floats) -> tuple[Serial, Floats]:
    center, scale = float(np.mean(finite)), float(np.std(finite))
    low, high = (float(end - center) / scale for end in (finite.min(), finite.max()))
    z = np.where(np.isinf(values), np.nan, (values - center) / scale)
    model, factors = fit_autoregression(z)
    return Serial(model, center, scale, max(low, -Z_LIMIT), min(high, Z_LIMIT), 0), factors


def _length(model: Autoregression, residuals: Floats, finite: Floats) -> tuple[float, int]:
    """Memory τ = σ_e² / ((1 - Σφ)² σ_x²), by which the variance of a mean exceeds that of independent values; and
    how many values a mean is of."""
    noise = residuals[np.isfinite(residuals)]
    tau = float(np.var(noise) / (model.gain**2 * np.var(finite))) if len(noise) else math.inf
    return tau, max(SHORTEST, math.ceil(min(MEMORIES * tau, 1e12)))


def _bursts(column: Column, residuals: Floats) -> bool:
    """Whether large residuals follow each other more than by chance: n times the sum of the squared autocorrelations
    of squared normal scores (McLeod and Li 1983; Box and Pierce 1970)."""
    squares = column.scores[assign(column, residuals, Uniform(0))] ** 2
    squares -= squares.mean()
    power = float(squares @ squares)
    if power <= 0 or len(squares) <= 2 * LAGS:
        return False
    correlations = np.array([squares[lag:] @ squares[:-lag] for lag in range(1, LAGS + 1)]) / power
    return bool(len(squares) * (correlations**2).sum() > BURSTS)


def _slack(order: int, residuals: Floats, seen: int, tau: float) -> float:
    """σ_e sqrt(p / n), which is the standard deviation of (φ - φ̂) z, which moves as slowly as z does: times 2 where
    fewer than 5 memories were seen, and ever less of it up to 70."""
    memories = seen / max(tau, 1.0)
    if memories >= FEW_MEMORIES or not order:
        return 0.0
    return min(2.0, SLACK_MEMORIES / memories) * robust_sigma(residuals) * math.sqrt(order / seen)


def _band(
    watched: Floats, means: Floats, finite: Floats, unit: float, gain: float, bins: int, name: str
) -> tuple[float, bool]:
    """The automatic band, in robust sigmas, and whether the reference is silent with it: a starting value."""

    def silent(delta: float) -> bool:
        return _silent(watched, delta * gain, bins, name) and (
            not len(means) or _silent(means, delta, max(FEWEST_BINS, min(bins, len(means) // MEANS_EACH_BIN)), name)
        )

    if silent(0.0):
        return 0.0, True
    middles = [float(np.mean(part)) for part in np.array_split(finite, BLOCKS) if len(part)]
    delta = BAND * (max(middles) - min(middles))
    for _ in range(WIDER):
        if silent(delta):
            return delta / unit, True
        delta *= 2
    return delta / unit, False


def _silent(values: Floats, delta: float, bins: int, name: str) -> bool:
    """Whether no fifth of ``values``, in time order, alarms against the rest."""
    parts = np.array_split(values, FOLDS)
    for k, part in enumerate(parts):
        rest = np.concatenate(parts[:k] + parts[k + 1 :])
        if len(rest) < LEAST_VALUES:
            continue
        column = fit_value(rest, 0, bins, Uniform(k), name)
        bets, weights = value_bets(column.scores, SLOW_SHIFTS)
        log_e = bets - value_normaliser(column, bets, delta, SELF_RISK)[:, None]
        codes = assign(column, part, Uniform(FOLDS + k))
        log_r = accumulate(np.full((1, len(bets)), -np.inf), log_e[:, codes].T[None], 0.0)[0]
        if log_sum(log_r + np.log(weights), axis=1).max() >= math.log(SELF_ALARM * len(values)):
            return False
    return True


def assign(column: Column, values: Floats, rng: Uniform) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """(n,) bins of ``values``, which hold no NaN."""
    low, high = np.searchsorted(column.edges, values, "left"), np.searchsorted(column.edges, values, "right")
    u = rng.random(len(values))
    for i in np.flatnonzero(low < high):
        low[i] += np.count_nonzero(column.tiebreaks[low[i] : high[i]] < u[i])
    return low


def _repeats(values: Floats) -> float | None:
    """Memory of categories that follow each other: (1 + κ) / (1 - κ), κ the agreement of neighbours beyond chance;
    None if it is no more than chance."""
    n = len(values)
    _, codes, count = np.unique(values, return_inverse=True, return_counts=True)
    chance = float(((count / n) ** 2).sum())
    if chance >= 1:
        return None
    agreement = float(np.mean(codes[1:] == codes[:-1]))
    if agreement - chance <= REPEATS * math.sqrt(chance * (1 - chance) / (n - 1)):
        return None
    kappa = (agreement - chance) / (1 - chance)
    return (1 + kappa) / max(1 - kappa, 1e-6)


def _without_model(tau: float, seen: int) -> Memory:
    return Memory(Serial(Autoregression(0.0, np.zeros(0)), 0.0, 1.0, -1.0, 1.0, 0), 0.0, tau, seen, None, 0.0, True)
