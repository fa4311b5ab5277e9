"""A fleet whose devices count for themselves, on numbers with ties: what breaks ties must not be the same for all."""

import numpy as np
import pytest

from shared.drift import DriftDetector, FleetDetector, ReferenceProfile
from shared.errors import ProfileError

FRESH_TIES = True


def draw(rng, n):
    """A constant, two flags and whole numbers."""
    return np.column_stack((np.full(n, 3.0), rng.random((n, 2)) < (0.5, 0.05), rng.poisson(3, n)))


def test_devices_of_numbers_with_ties_raise_no_alarm_together():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        profile = ReferenceProfile.fit(draw(rng, 2000))
        fleet = FleetDetector(profile, false_alarm_every=1_000_000)  # 1 in 3,000 by chance
        devices = {f"d{k}": DriftDetector(profile) for k in range(20)}
        for _ in range(100):  # with the same ties everywhere every run alarms
            for detector in devices.values():
                detector.update(draw(rng, 50))
            assert not fleet.update({name: detector.take_counts() for name, detector in devices.items()}).alarm


def test_detectors_draw_different_numbers_unless_told_to():
    profile = ReferenceProfile.fit(np.full(100, 3.0))
    found = []
    for seed in (None, None, 5, 5):
        detector = DriftDetector(profile, seed=seed)
        detector.update(np.full(500, 3.0))
        found.append(detector.counts)
    assert found[0] != found[1]
    assert found[2] == found[3]


def test_counts_that_nobody_could_have_counted_are_refused_and_change_nothing():
    rng = np.random.default_rng(0)
    profile = ReferenceProfile.fit(rng.normal(size=500))
    detector = DriftDetector(profile)
    detector.update(rng.normal(size=500))
    good = detector.counts
    fleet = FleetDetector(profile)
    for wrong in (type(good)(good.layout, 500, -good.table), type(good)(good.layout, 500, good.table * 3), None, b"x"):
        with pytest.raises(ProfileError, match="counts"):
            fleet.update({"a": good, "b": wrong})
    assert fleet.status.by_device == {}
    assert not fleet.update({"a": good}).alarm
