"""Drift detection, re-exported (see :mod:`shared.drift`)."""

from shared.drift import (
    FAMILIES,
    DriftDetector,
    DriftStatus,
    Effect,
    FleetDetector,
    FleetStatus,
    ProfileSet,
    ReferenceProfile,
    WatchSpec,
    WindowCounts,
    effects,
)

__all__ = [
    "FAMILIES",
    "DriftDetector",
    "DriftStatus",
    "Effect",
    "FleetDetector",
    "FleetStatus",
    "ProfileSet",
    "ReferenceProfile",
    "WatchSpec",
    "WindowCounts",
    "effects",
]
