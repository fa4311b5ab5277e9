"""How often a model is right when it says that it is sure to a degree, learned from held-out answers.

The mean of the calibrated confidence of answers without labels estimates their accuracy: confidence-based performance
estimation (CBPE; NannyML's documentation, "Estimation of Performance of the Monitored Model"; Kivimäki et al. 2025,
"Confidence-based Estimators for Predictive Performance in Model Monitoring", JAIR 82, show that it is unbiased where
the confidence is calibrated). It holds as long as an answer of a given confidence is as often right as it was on
held-out data: when easy and hard inputs come in other shares (covariate shift), but not when the same inputs get
other labels (concept shift), and only roughly for inputs unlike any of the reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift.bins import Floats
from shared.errors import ProfileError

GROUP = 25
"""Answers of like confidence that a share is taken of, at least."""
MOST_GROUPS = 64


class Calibration(Struct, frozen=True, eq=False):
    """A map that never falls, linear between its knots: ``confidence`` (K,) ascending from 0 to 1, ``accuracy`` (K,)
    the share of right answers there."""

    confidence: Floats
    accuracy: Floats

    @classmethod
    def fit(cls, confidence: NDArray[Any], right: NDArray[np.bool_]) -> Calibration:
        """Learn from held-out answers: their ``confidence`` (n,) in 0 to 1, and whether each was ``right`` (n,).

        Groups of equally many answers, made to rise by pooling neighbours that fall (isotonic regression, Ayer et al.
        1955). Below the lowest and above the highest group the map goes on at the same distance from the diagonal.

        Raises:
            ProfileError: no answers, or other than numbers from 0 to 1.

        >>> calibration = Calibration.fit(np.linspace(0, 1, 1000), np.arange(1000) % 2 == 0)
        >>> calibration.estimate(np.array([0.1, 0.9])).round(2).tolist()
        [0.5, 0.5]
        """
        found = np.asarray(confidence, dtype=np.float64)
        truth = np.asarray(right, dtype=np.float64)
        if found.ndim != 1 or found.shape != truth.shape or not len(found):
            raise ProfileError(
                f"confidence of shape {found.shape} and truth of shape {truth.shape}; expected (n,) each"
            )
        if not ((found >= 0) & (found <= 1 + 1e-6)).all():
            raise ProfileError("confidence must be numbers from 0 to 1")
        order = np.argsort(found, kind="stable")
        groups = np.array_split(order, int(np.clip(len(found) // GROUP, 1, MOST_GROUPS)))
        middles, shares = [found[group].mean() for group in groups], [truth[group].mean() for group in groups]
        x, y = _rising(middles, shares, [len(group) for group in groups])
        x = np.minimum(x, 1.0)
        before, after = max(y[0] - x[0], 0.0), min(y[-1] + 1 - x[-1], 1.0)
        knots = np.concatenate(([0.0], x, [1.0])), np.concatenate(([before], y, [after]))
        return cls(*knots)

    def estimate(self, confidence: NDArray[Any]) -> Floats:
        """Probability (n,) that answers of ``confidence`` (n,) are right; NaN stays NaN."""
        return np.asarray(np.interp(confidence, self.confidence, self.accuracy), dtype=np.float64)

    def valid(self) -> bool:
        """Whether it could have come from ``fit``."""
        x, y = self.confidence, self.accuracy
        within = all(bool(((part >= 0) & (part <= 1)).all()) for part in (x, y))
        return len(x) == len(y) >= 2 and within and bool((np.diff(x) >= 0).all() and (np.diff(y) >= 0).all())


def _rising(x: list[float], y: list[float], weight: list[int]) -> tuple[Floats, Floats]:
    """Pool neighbours until ``y`` rises: weighted means of each pool."""
    pools: list[list[float]] = []  # x, y, weight, and the x of its first and last group
    for at, share, count in zip(x, y, weight, strict=True):
        pools.append([share, float(count), at, at])
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            second, first = pools.pop(), pools.pop()
            total = first[1] + second[1]
            pools.append([(first[0] * first[1] + second[0] * second[1]) / total, total, first[2], second[3]])
    knots = [(at, share) for share, _, low, high in pools for at in ((low,) if low == high else (low, high))]
    found = np.array(knots, dtype=np.float64)
    return found[:, 0], found[:, 1]
