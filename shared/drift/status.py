"""What a detector knows at a moment."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shared.drift.counts import WindowCounts
from shared.drift.effects import Effect, effects
from shared.drift.profile import ReferenceProfile

RATIO_MAX = 1e12
"""Evidence is reported up to here; what it is beyond 1 says nothing new."""


def ratio(log_ratio: float) -> float:
    """exp(``log_ratio``), at most ``RATIO_MAX``.

    >>> ratio(float("-inf")), ratio(1e6)
    (0.0, 1000000000000.0)
    """
    return min(math.exp(min(log_ratio, 100.0)), RATIO_MAX)


class DriftStatus:
    """What a detector knows.

    ``alarm``: latched. ``evidence``: U / A, 1.0 is the alarm. ``at``: samples seen when it rose. ``features``: tracks
    that carry most of the evidence, of the alarm once there is one. ``samples``: seen in all. ``effects``: scalar ->
    size of the change in the last 512 to 1024 samples, computed when first asked for. ``evidences``: what each track
    adds to ``evidence``.
    """

    def __init__(
        self,
        *,
        alarm: bool,
        evidence: float,
        at: int | None,
        features: tuple[str, ...],
        samples: int,
        profile: ReferenceProfile,
        recent: WindowCounts,
        contributions: NDArray[np.float64],
    ) -> None:
        self.alarm = alarm
        self.evidence = evidence
        self.at = at
        self.features = features
        self.samples = samples
        self._profile = profile
        self._recent = recent
        self._contributions = contributions

    @cached_property
    def effects(self) -> dict[str, Effect]:
        """Scalar -> effect."""
        return effects(self._profile, self._recent)

    @cached_property
    def evidences(self) -> dict[str, float]:
        """Track -> its part of the evidence."""
        return dict(zip(self._profile.layout.names, map(ratio, self._contributions.tolist()), strict=True))

    def __repr__(self) -> str:
        return f"DriftStatus(alarm={self.alarm}, evidence={self.evidence:.3g}, at={self.at}, features={self.features})"
