"""What the evidence bets on: for each kind of track a table of log-bets over its bins, and a prior over them.

A bet h multiplies the capital by h(bin) / E[h] for each sample. Shifts are exp(±λz) of the bin's normal score z,
changes of spread exp(γ(z² - 1)/2), changes of shape that keep both exp(κ H(z)) with the fourth Hermite polynomial
H = (z⁴ - 6z² + 3)/√24, novelty e³ on the two bins outside everything the reference had; categories and flags bet on one
bin's share. Constants are from measurements of detection delay (`scripts/bench/drift`). A bet's
weight costs log(1/weight) of evidence, which is many samples of a small shift and few of a large one, so that small
shifts weigh more.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHIFTS = (0.25, 0.5, 1.0)
SLOW_SHIFTS = (0.05, 0.1, *SHIFTS)
"""With small steps for slow or thin shifts: for what has a fixed normaliser or a whole fleet's counts."""
LEVEL_SHIFTS = (0.5, 1.0, 2.0)
"""Shifts of a level, in standard deviations of its scalar, that the bets on its residuals are made for."""
SHIFT_WEIGHTS = (1.0, 1.5, 2.0, 1.5, 0.6)
"""Of the slow shifts; those of the others are the last three."""
SPREADS = (0.35, -0.5)
SPREAD_WEIGHTS = (1.5, 0.5)
SHAPES = (0.3, -0.3)
"""Heavier tails, and lighter ones or two humps: neither is a shift nor a change of spread."""
SHAPE_LIMIT = 3.0
SHAPE_WEIGHT = 0.025
NOVELTY = 3.0
NOVELTY_WEIGHT = 0.05
SCORE_LIMIT = 3.0
SHARES = (0.25, 0.5, 1.0)
FLAG_BETS = ((0.5, 0.2), (1.0, 0.25), (2.0, 0.25), (3.0, 0.2), (-0.5, 0.05), (-1.0, 0.05))


def value_bets(scores: Floats, shifts: tuple[float, ...], shapes: tuple[float, ...] = SHAPES) -> tuple[Floats, Floats]:
    """Log-bets (M, K) and prior weights (M,) of a value track with normal ``scores`` (K,)."""
    z = np.clip(scores, -SCORE_LIMIT, SCORE_LIMIT)
    bets = [sign * shift * z for shift in shifts for sign in (1, -1)]
    bets += [spread * (z * z - 1) / 2 for spread in SPREADS]
    hermite = np.clip((z**4 - 6 * z * z + 3) / math.sqrt(24), -SHAPE_LIMIT, SHAPE_LIMIT)
    bets += [shape * hermite for shape in shapes]
    novelty = np.zeros_like(z)
    novelty[[0, -1]] = NOVELTY
    weights = np.array([*np.repeat(SHIFT_WEIGHTS[-len(shifts) :], 2), *SPREAD_WEIGHTS])
    weights *= (1 - NOVELTY_WEIGHT - SHAPE_WEIGHT * len(shapes)) / weights.sum()
    return np.array([*bets, novelty]), np.array([*weights, *[SHAPE_WEIGHT] * len(shapes), NOVELTY_WEIGHT])


def residual_shifts(tau: float) -> tuple[float, ...]:
    """Steps for residuals of a scalar of memory ``tau``: when its level moves by σ_x, they move by σ_e / sqrt(τ).

    >>> residual_shifts(4.0)
    (0.25, 0.5, 1.0)
    """
    return tuple(min(shift / math.sqrt(max(tau, 1.0)), SHIFTS[-1]) for shift in LEVEL_SHIFTS)


def category_bets(own: int) -> list[tuple[int, float, float]]:
    """(bin, log-bet, weight) of a category track with ``own`` categories of their own bin and a last one for all
    others."""
    steps = [sign * share for share in SHARES for sign in (1, -1)]
    weight = (1 - NOVELTY_WEIGHT) / (own * len(steps))
    return [*((k, step, weight) for k in range(own) for step in steps), (own, NOVELTY, NOVELTY_WEIGHT)]


def flag_bets() -> list[tuple[int, float, float]]:
    """(bin, log-bet, weight) of a missing flag, whose bins are present and missing."""
    return [(1, step, weight) for step, weight in FLAG_BETS]
