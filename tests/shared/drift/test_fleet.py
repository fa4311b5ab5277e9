"""The fleet's evidence: quiet when nothing changed, one sick device, a thin shift for all, baselines of their own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.drift import DriftDetector, FleetDetector, ReferenceProfile, WindowCounts
from shared.drift.encode import Encoder, window_counts
from shared.errors import ProfileError

F = 4


class Devices:
    """Counts of devices without running a detector on each."""

    def __init__(self, profile, rng):
        self.profile, self.encoder, self.rng = profile, Encoder(profile), rng

    def count(self, rows):
        codes = self.encoder.codes(self.encoder.rows(rows), self.rng)
        return WindowCounts(
            self.profile.layout, len(rows), window_counts(codes, codes.shape[1], self.encoder.width)[:, 0]
        )

    def round(self, shifts, n=50):
        return {name: self.count(self.rng.normal(shift, 1, (n, F))) for name, shift in shifts.items()}


def names(count):
    return [f"d{k:02d}" for k in range(count)]


def fitted(rng, n=1000, offset=0.0):
    return ReferenceProfile.fit(rng.normal(offset, 1, (n, F)))


def rounds_to_alarm(fleet, rounds):
    for number, counts in enumerate(rounds, 1):
        status = fleet.update(counts)
        if status.alarm:
            return number, status
    return math.inf, fleet.status


@pytest.mark.parametrize("tolerance", [0.0, 0.25])
def test_a_fleet_like_its_reference_is_as_quiet_as_promised(tolerance):
    alarms, rounds, runs = 0, 40, 20
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        profile = fitted(rng, 300)
        devices, fleet = Devices(profile, rng), FleetDetector(profile, rounds, tolerance=tolerance)
        for _ in range(rounds):
            if fleet.update(devices.round(dict.fromkeys(names(5), 0.0), 32)).alarm:
                alarms += 1
                fleet.acknowledge()
    assert alarms / runs <= 0.75  # the promise is 1


def test_one_sick_device_is_found_and_named():
    rng = np.random.default_rng(1)
    profile = fitted(rng)
    shifts = dict.fromkeys(names(40), 0.0) | {"d17": 1.0}
    devices, fleet = Devices(profile, rng), FleetDetector(profile)
    number, status = rounds_to_alarm(fleet, (devices.round(shifts) for _ in range(10)))
    assert number <= 2
    assert status.devices == ("d17",)
    assert max(status.by_device, key=status.by_device.__getitem__) == "d17"


def test_a_shift_too_thin_for_any_one_device_is_found_by_the_pool():
    rng = np.random.default_rng(2)
    profile = fitted(rng, 4000)
    devices, fleet = Devices(profile, rng), FleetDetector(profile)
    quiet = dict.fromkeys(names(60), 0.0)
    for _ in range(3):
        assert not fleet.update(devices.round(quiet)).alarm
    number, status = rounds_to_alarm(fleet, (devices.round(dict.fromkeys(quiet, 0.15)) for _ in range(10)))
    assert number <= 4
    assert status.pool > 1
    assert max(status.by_device.values()) < 1
    assert status.devices == ()


def test_ten_sick_devices_are_named_and_hardly_any_other():
    sick = set(names(10))
    wrong = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        profile = fitted(rng)
        devices, fleet = Devices(profile, rng), FleetDetector(profile)
        shifts = {name: 0.7 if name in sick else 0.0 for name in names(30)}
        for _ in range(6):
            status = fleet.update(devices.round(shifts))
        assert status.alarm
        assert set(status.devices) >= sick
        wrong.append(len(set(status.devices) - sick))
    assert sum(wrong) <= 1


def test_within_the_tolerance_a_fleet_may_differ_from_its_reference_and_from_each_other():
    rng = np.random.default_rng(3)
    profile = fitted(rng)
    devices = Devices(profile, rng)
    offsets = dict(zip(names(20), rng.uniform(-0.2, 0.2, 20), strict=True))
    tolerant, strict = FleetDetector(profile, tolerance=0.25), FleetDetector(profile)
    rounds = [devices.round(offsets) for _ in range(40)]
    assert rounds_to_alarm(tolerant, rounds)[0] == math.inf
    assert rounds_to_alarm(strict, rounds)[0] < 40
    sick = offsets | {"d03": 1.2}
    number, status = rounds_to_alarm(tolerant, (devices.round(sick) for _ in range(10)))
    assert number <= 6
    assert status.devices == ("d03",)


def test_a_device_with_a_normal_of_its_own_needs_a_baseline_of_its_own():
    rng = np.random.default_rng(4)
    profile, own = fitted(rng), fitted(rng, offset=2.0)
    common, other = Devices(profile, rng), Devices(own, rng)

    def rounds(shift):
        for _ in range(30):
            yield common.round(dict.fromkeys(names(5), 0.0)) | other.round({"odd": 2.0 + shift})

    fleet = FleetDetector(profile, profiles={"odd": own})
    assert rounds_to_alarm(fleet, rounds(0.0))[0] == math.inf
    number, status = rounds_to_alarm(fleet, rounds(1.0))
    assert number <= 3
    assert status.devices == ("odd",)
    without = FleetDetector(profile)
    assert rounds_to_alarm(without, ({"odd": common.count(rng.normal(2, 1, (50, F)))} for _ in range(3)))[0] == 1


def test_baselines_may_know_other_categories():
    rng = np.random.default_rng(4)
    profile = ReferenceProfile.fit(rng.integers(0, 4, 500).astype(float), names=["class"], kinds=["category"])
    own = ReferenceProfile.fit(rng.integers(2, 9, 500).astype(float), names=["class"], kinds=["category"])
    fleet = FleetDetector(profile, profiles={"odd": own})
    common, other = Devices(profile, rng), Devices(own, rng)
    for _ in range(30):
        status = fleet.update(
            {
                "plain": common.count(rng.integers(0, 4, (50, 1)).astype(float)),
                "odd": other.count(rng.integers(2, 9, (50, 1)).astype(float)),
            }
        )
    assert not status.alarm
    for _ in range(10):
        status = fleet.update({"odd": other.count(np.full((50, 1), 3.0))})
    assert status.alarm
    assert status.devices == ("odd",)


def test_silence_is_owed():
    rng = np.random.default_rng(5)
    profile = fitted(rng)
    devices = Devices(profile, rng)
    window = devices.count(rng.normal(size=(50, F)))
    at_once, later = FleetDetector(profile), FleetDetector(profile)
    at_once.update({"a": window})
    status = at_once.update({"a": window})
    later.update({"a": window})
    for _ in range(99):
        later.update({})
    late = later.update({"a": window})
    # R <- (R + 100) e against (R + 1) e, with the same urn and the same window
    assert 10 < late.by_device["a"] / status.by_device["a"] < 100
    later.update({"b": WindowCounts.zero(profile)})
    assert later.status.by_device["b"] == 0


def test_who_joins_starts_at_nothing_and_who_left_still_counts():
    rng = np.random.default_rng(6)
    profile = fitted(rng)
    devices, fleet = Devices(profile, rng), FleetDetector(profile)
    fleet.update(devices.round({"a": 0.0}))
    alone = fleet.update(devices.round({"a": 0.0})).by_device["a"]
    status = fleet.update(devices.round({"b": 0.0}))
    assert status.by_device["a"] == alone
    assert set(status.by_device) == {"a", "b"}


def test_an_alarm_latches_until_it_is_acknowledged():
    rng = np.random.default_rng(7)
    profile = fitted(rng)
    devices, fleet = Devices(profile, rng), FleetDetector(profile)
    assert rounds_to_alarm(fleet, [devices.round({"a": 1.0, "b": 0.0})] * 5)[0] <= 5
    for _ in range(10):
        status = fleet.update(devices.round({"a": -0.2, "b": 0.0}))
    assert status.alarm
    assert status.devices == ("a",)
    fleet.acknowledge()
    status = fleet.status
    assert not status.alarm
    assert status.evidence == status.pool == 0
    assert status.devices == ()
    assert set(status.by_device) == {"a", "b"}


@pytest.mark.parametrize("tolerance", [0.0, 0.3])
def test_a_restored_fleet_goes_on_exactly_as_the_first_would_have(tolerance):
    rng = np.random.default_rng(8)
    profile, own = fitted(rng), fitted(rng, offset=1.0)
    common, other = Devices(profile, rng), Devices(own, rng)
    rounds = [common.round(dict.fromkeys(names(4), 0.05)) | other.round({"odd": 1.5}) for _ in range(6)]
    first = FleetDetector(profile, 5000, tolerance=tolerance, profiles={"odd": own})
    for counts in rounds[:3]:
        first.update(counts)
    second = FleetDetector.from_bytes(profile, first.to_bytes(), {"odd": own})
    for fleet in (first, second):
        for counts in rounds[3:]:
            fleet.update(counts)
    assert first.status == second.status
    assert first.to_bytes() == second.to_bytes()
    with pytest.raises(ProfileError, match="references of their own"):
        FleetDetector.from_bytes(profile, first.to_bytes())
    with pytest.raises(ProfileError, match="not to"):
        FleetDetector.from_bytes(own, first.to_bytes(), {"odd": own})
    with pytest.raises(ProfileError, match="truncated"):
        FleetDetector.from_bytes(profile, first.to_bytes()[:-1], {"odd": own})
    with pytest.raises(ProfileError, match="not a state of this detector"):
        FleetDetector.from_bytes(profile, DriftDetector(profile).to_bytes())


def test_the_order_in_which_devices_are_named_changes_nothing():
    rng = np.random.default_rng(9)
    profile = fitted(rng)
    counts = Devices(profile, rng).round(dict.fromkeys(names(6), 0.1))
    one, other = FleetDetector(profile), FleetDetector(profile)
    assert one.update(counts) == other.update(dict(reversed(counts.items())))


def test_counts_of_another_profile_are_refused_and_nothing_is_taken_in():
    rng = np.random.default_rng(10)
    profile, strange = fitted(rng), fitted(rng)
    fleet = FleetDetector(profile)
    before = fleet.to_bytes()
    good = Devices(profile, rng).round({"a": 0.0})
    with pytest.raises(ProfileError, match="device 'b' belong to profile"):
        fleet.update(good | Devices(strange, rng).round({"b": 0.0}))
    with pytest.raises(ProfileError, match="time must be"):
        fleet.update(good, time=0)
    assert fleet.to_bytes() == before
    with pytest.raises(ProfileError, match="differ from the fleet's"):
        FleetDetector(profile, profiles={"a": ReferenceProfile.fit(rng.normal(size=(100, 2)))})
    with pytest.raises(ProfileError, match="false_alarm_every"):
        FleetDetector(profile, 1)
