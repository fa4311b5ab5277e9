"""How much of a window was missing or beyond everything the reference had, from counts alone."""

from __future__ import annotations

import numpy as np

from shared.drift.bins import VALUE
from shared.drift.counts import WindowCounts
from shared.drift.profile import MISSING_SUFFIX, ReferenceProfile


class Quality:
    """Made once for a profile.

    >>> profile = ReferenceProfile.fit(np.arange(100.0))
    >>> from shared.drift.detector import DriftDetector
    >>> detector = DriftDetector(profile)
    >>> _ = detector.update([[50.0], [np.nan], [200.0], [60.0]])
    >>> Quality(profile).of(detector.counts)
    (0.25, 0.3333333333333333)
    """

    def __init__(self, profile: ReferenceProfile) -> None:
        tracks = {name: t for t, name in enumerate(profile.layout.names)}
        values = [name for name, kind in zip(profile.names, profile.kinds, strict=True) if kind == VALUE]
        self._flags = [tracks[name + MISSING_SUFFIX] for name in profile.names]
        self._values = [tracks[name] for name in values]
        self._last = [profile.layout.sizes[t] - 1 for t in self._values]

    def of(self, counts: WindowCounts) -> tuple[float, float]:
        """Share of all watched numbers that were missing, and share of the values there that lay below the smallest or
        above the largest of the reference: of a stream like the n reference rows 2 / (n + 1) do."""
        table = counts.table
        flags = table[self._flags]
        values = table[self._values]
        outside = values[:, 0].sum() + values[np.arange(len(values)), self._last].sum()
        return _share(flags[:, 1].sum(), flags.sum()), _share(outside, values.sum())


def _share(part: np.int64, whole: np.int64) -> float:
    return float(part) / float(whole) if whole else 0.0
