"""What the evidence bets on: for each kind of track a table of log-bets over its bins, and a prior over them.

A bet h multiplies the capital by h(bin) / E[h] for each sample. Shifts are exp(±λz) of the bin's normal score z, changes of
spread exp(γ(z² - 1)/2), novelty e³ on the two bins outside everything the reference had; categories and flags bet
on one bin's share. Constants are from measurements of detection delay (median over shifts of 0.25 to 1 sigma).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHIFTS = (0.25, 0.5, 1.0)
SLOW_SHIFTS = (0.05, 0.1, *SHIFTS)
"""With small steps for slow or thin shifts: for what has a fixed normaliser or a whole fleet's counts."""
SPREADS = (0.35, -0.5)
NOVELTY = 3.0
NOVELTY_WEIGHT = 0.05
SCORE_LIMIT = 2.25
SHARES = (0.25, 0.5, 1.0)
FLAG_BETS = (0.5, 1.0, 2.0, 3.0, -0.5, -1.0)


def value_bets(scores: Floats, shifts: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Log-bets (M, K) and prior weights (M,) of a value track with normal ``scores`` (K,)."""
    z = np.clip(scores, -SCORE_LIMIT, SCORE_LIMIT)
    bets = [sign * shift * z for shift in shifts for sign in (1, -1)]
    bets += [spread * (z * z - 1) / 2 for spread in SPREADS]
    novelty = np.zeros_like(z)
    novelty[[0, -1]] = NOVELTY
    weights = np.full(len(bets), (1 - NOVELTY_WEIGHT) / len(bets))
    return np.array([*bets, novelty]), np.append(weights, NOVELTY_WEIGHT)


def category_bets(own: int, limit: int) -> tuple[Floats, Floats]:
    """Log-bets (M, limit + 1) and weights (M,) of a category track with ``own`` categories of their own bin.

    M depends on ``limit`` only, so that tracks of different references have the same bets; those on categories that a
    track lacks get no weight. Bins: the categories, then the one for all others.
    """
    steps = [sign * share for share in SHARES for sign in (1, -1)]
    bets = np.zeros((limit * len(steps) + 1, own + 1))
    weights = np.zeros(len(bets))
    for k in range(own):
        rows = slice(k * len(steps), (k + 1) * len(steps))
        bets[rows, k] = steps
        weights[rows] = (1 - NOVELTY_WEIGHT) / (own * len(steps))
    bets[-1, -1] = NOVELTY
    weights[-1] = NOVELTY_WEIGHT
    return bets, weights


def flag_bets() -> tuple[Floats, Floats]:
    """Log-bets (M, 2) and weights (M,) of a missing flag: bins present, missing."""
    bets = np.zeros((len(FLAG_BETS), 2))
    bets[:, 1] = FLAG_BETS
    return bets, np.full(len(bets), 1 / len(bets))
