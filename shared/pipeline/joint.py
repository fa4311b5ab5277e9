"""JointScore: several scores of strangeness as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.pipeline.base import Array, FieldOperation, Fields, short, singles

LEAST = 1e-12
"""Scores below count as this much."""


class JointScore(FieldOperation, frozen=True, tag="joint_score"):
    """How far a sample's scores ``sources``, each (n,), lie above usual: the mean over them of (ln s - mean) / spread,
    which is about 0 for good data, and 3 where each score is as seldom as three standard deviations.

    A sum of standardised logarithms needs no score to be of another's size, and all of them may speak: Fisher (1925)
    adds the logarithms of p-values for the same reason.
    """

    sources: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)]
    means: tuple[float, ...]
    spreads: tuple[Annotated[float, Meta(gt=0)], ...]
    target: str = "score"

    def __post_init__(self) -> None:
        if not len(self.sources) == len(self.means) == len(self.spreads):
            raise ValueError(
                f"joint_score: {len(self.sources)} sources, {len(self.means)} means and {len(self.spreads)} spreads; "
                "each source needs one of both"
            )

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n,) float64."""
        total: NDArray[np.float64] | float = 0.0
        for name, mean, spread in zip(self.sources, self.means, self.spreads, strict=True):
            total = total + (_log(singles(self, fields, name)) - mean) / spread
        return {self.target: np.asarray(total / len(self.sources))}

    @classmethod
    def fit(cls, scores: Mapping[str, Array], target: str = "score") -> Self:
        """Learn from good data's scores, each (n,).

        A standard deviation of exactly 0 becomes a spread of 1; one that is rounding errors alone stays as it is, and
        makes scores that mean nothing.

        Raises:
            ValueError: no scores.
        """
        if not scores or any(not np.size(values) for values in scores.values()):
            raise ValueError("joint_score: no scores to learn from; at least one sample is needed")
        logs = [_log(np.asarray(values, np.float64)) for values in scores.values()]
        spreads = [float(values.std()) or 1.0 for values in logs]
        return cls(tuple(scores), short(np.array([v.mean() for v in logs])), short(np.array(spreads)), target)


def _log(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.log(np.maximum(scores, LEAST))
    return found
