"""Drift: what a stream is compared with, counts that add, and evidence with a promise about false alarms.

>>> import numpy as np
>>> from shared.drift import DriftDetector, ReferenceProfile
>>> rng = np.random.default_rng(0)
>>> profile = ReferenceProfile.fit(rng.normal(size=(500, 3)))
>>> detector = DriftDetector(profile, false_alarm_every=100_000)
>>> detector.update(rng.normal(size=(1000, 3))).alarm
False
"""

from shared.drift.counts import WindowCounts
from shared.drift.detector import DriftDetector
from shared.drift.effects import Effect, effects
from shared.drift.fleet import FleetDetector, FleetStatus
from shared.drift.performance import HeldOut
from shared.drift.profile import FAMILIES, ReferenceProfile
from shared.drift.profile_set import ProfileSet
from shared.drift.status import DriftStatus
from shared.drift.watch import WatchSpec

__all__ = [
    "FAMILIES",
    "DriftDetector",
    "DriftStatus",
    "Effect",
    "FleetDetector",
    "FleetStatus",
    "HeldOut",
    "ProfileSet",
    "ReferenceProfile",
    "WatchSpec",
    "WindowCounts",
    "effects",
]
