"""Drift detection, re-exported (see :mod:`shared.drift`)."""

from shared.drift import (
    FAMILIES,
    DriftDetector,
    DriftStatus,
    Effect,
    FleetDetector,
    FleetStatus,
    HeldOut,
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
    "HeldOut",
    "ProfileSet",
    "ReferenceProfile",
    "WatchSpec",
    "WindowCounts",
    "effects",
]
