"""The fleet of the drift benchmark: 100 devices, 50 samples of one scalar a report, A = 10,000 reports."""

from __future__ import annotations

import math

import drift_streams as streams
import numpy as np

from shared.drift import FleetDetector, ReferenceProfile, WindowCounts
from shared.drift.encode import Encoder, window_counts

DEVICES, SAMPLES, EVERY = 100, 50, 10_000
NAMES = tuple(f"device{k:03d}" for k in range(DEVICES))
LIMIT = 100
"""Reports after which a run counts as one without alarm."""


class Shared:
    """All devices compare with one reference of ``n`` samples."""

    def __init__(self, rng: np.random.Generator, n: int) -> None:
        self.rng = rng
        self.profile = ReferenceProfile.fit(rng.normal(size=n))
        self.encoder = Encoder(self.profile)
        self.fleet = FleetDetector(self.profile, EVERY)

    def report(self, shift: np.ndarray) -> dict[str, WindowCounts]:
        """One report of each device; ``shift`` (devices,) in sigma."""
        x = self.rng.normal(size=(DEVICES, SAMPLES)) + shift[:, None]
        tables = window_counts(self.encoder.codes(x.reshape(-1, 1), self.rng), SAMPLES, self.encoder.width)
        layout = self.profile.layout
        return {name: WindowCounts(layout, SAMPLES, tables[:, k]) for k, name in enumerate(NAMES)}


class Own:
    """Each device compares with ``n`` samples of its own."""

    def __init__(self, rng: np.random.Generator, n: int) -> None:
        self.rng = rng
        self.profiles = {name: ReferenceProfile.fit(rng.normal(size=n)) for name in NAMES}
        self.encoders = [Encoder(profile) for profile in self.profiles.values()]
        self.fleet = FleetDetector(self.profiles[NAMES[0]], EVERY, profiles=self.profiles)

    def report(self, shift: np.ndarray) -> dict[str, WindowCounts]:
        """As that of :class:`Shared`."""
        found = {}
        for name, encoder, moved in zip(NAMES, self.encoders, shift.tolist(), strict=True):
            rows = self.rng.normal(moved, 1, (SAMPLES, 1))
            table = window_counts(encoder.codes(rows, self.rng), SAMPLES, encoder.width)[:, 0]
            found[name] = WindowCounts(self.profiles[name].layout, SAMPLES, table)
        return found


def reports_to_alarm(seed: int, *, cell: str, own: bool, n: int, moved: int, shift: float) -> float:
    """Reports until the alarm when the first ``moved`` devices are ``shift`` sigma off."""
    side = (Own if own else Shared)(streams.generator(cell, seed), n)
    shifts = np.where(np.arange(DEVICES) < moved, shift, 0.0)
    for k in range(1, LIMIT + 1):
        if side.fleet.update(side.report(shifts)).alarm:
            return k
    return math.inf


def quiet_alarms(seed: int, *, cell: str, n: int, rounds: int = 1000) -> float:
    """False alarms in ``rounds`` reports of a fleet on one reference, in which nothing happens."""
    side, count = Shared(streams.generator(cell, seed), n), 0
    for _ in range(rounds):
        if side.fleet.update(side.report(np.zeros(DEVICES))).alarm:
            count += 1
            side.fleet.acknowledge()
    return count
