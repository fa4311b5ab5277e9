"""JointScore: several scores of strangeness as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.pipeline.base import Array, FieldOperation, Fields, short, singles

LEAST, LOWEST = 1e-6, -3.0
"""Scores below count as this much where nothing else is said, and standardized ones as that much: how *un*strange a
sample is by one score shall not outweigh what another one says."""
LEAST_SPREAD = 0.01
"""Less would be rounding errors: a change by one in a hundred is one spread at least."""


class JointScore(FieldOperation, frozen=True, tag="joint_score"):
    """How far a sample's scores ``sources``, each (n,) and not negative, lie above usual: the mean over them of
    (ln s - usual) / spread, each at least -3. About 0 for good data, and 3 where each score is as seldom as three
    standard deviations. Scores below ``least`` (none: 1e-6) are noise, and count as that.

    A sum of standardised logarithms needs no score to be of another's size, and all of them may speak: Fisher (1925)
    adds the logarithms of p-values for the same reason.
    """

    sources: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)]
    usual: tuple[float, ...]
    spreads: tuple[Annotated[float, Meta(gt=0)], ...]
    target: str = "score"
    least: tuple[Annotated[float, Meta(gt=0)], ...] = ()

    def __post_init__(self) -> None:
        if not len(self.sources) == len(self.usual) == len(self.spreads) == len(self._least):
            raise ValueError(
                f"joint_score: {len(self.sources)} sources, {len(self.usual)} usual values, {len(self.spreads)} "
                f"spreads, {len(self.least)} least values; each source needs one"
            )

    @property
    def _least(self) -> tuple[float, ...]:
        return self.least or (LEAST,) * len(self.sources)

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n,) float64."""
        total: NDArray[np.float64] | float = 0.0
        for name, usual, spread, least in zip(self.sources, self.usual, self.spreads, self._least, strict=True):
            total = total + np.maximum((_log(singles(self, fields, name), least) - usual) / spread, LOWEST)
        return {self.target: np.asarray(total / len(self.sources)) + 0.0}  # no -0

    @classmethod
    def fit(cls, scores: Mapping[str, Array], target: str = "score", least: Mapping[str, float] | None = None) -> Self:
        """Learn from good data's scores, each (n,): ``usual`` is the median of the logarithms, ``spreads`` the root
        mean square of how far those above it lie from it, at least 0.01. Scores that are ``least`` or less, such as
        those of samples which repeat others, are left out where there are others.

        Raises:
            ValueError: no scores, or some that are negative or no numbers.

        >>> JointScore.fit({"a": np.exp([-9.0, 1.0, 1.0, 1.5])}).spreads[0] < 0.5
        True
        """
        if not scores or any(not np.size(values) for values in scores.values()):
            raise ValueError("joint_score: no scores to learn from; at least one sample is needed")
        floors = {name: max((least or {}).get(name, LEAST), LEAST) for name in scores}
        found = [_usual(np.asarray(values, np.float64), floors[name]) for name, values in scores.items()]
        usual, spreads = np.array(found).T
        lowest = short(np.array(list(floors.values()))) if least else ()
        return cls(tuple(scores), short(usual), short(spreads), target, lowest)


def _usual(scores: NDArray[np.float64], least: float) -> tuple[float, float]:
    if not np.isfinite(scores).all() or (scores < 0).any():
        raise ValueError("joint_score: scores to learn from must be finite, and 0 or more")
    others = scores > least
    logs = _log(scores[others] if others.any() else scores, least)
    median = float(np.median(logs))
    above = logs[logs >= median] - median
    return median, max(float(np.sqrt(np.square(above).mean())), LEAST_SPREAD)


def _log(scores: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.log(np.maximum(scores, least))
    return found
