"""Streams with a memory: the promise, measured; delays, tolerance, effects, counts, states, fleets."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.drift import DriftDetector, FleetDetector, ReferenceProfile, WindowCounts, effects
from shared.drift.bins import VALUE
from shared.drift.detector_state import MAGIC, _State1
from shared.drift.state import pack_array, seal
from shared.drift.tracks import Tolerance, build_groups
from shared.errors import ProfileError
from shared.uniform import Uniform
from tests.shared.drift.series import deviation, series
from tests.shared.drift.test_detector import alarms, delay

KINDS = ([0.3], [0.6], [0.9], [0.97], [1.2, -0.4], [0.5, 0.3])


def fitted(x, **arguments):
    return ReferenceProfile.fit(x, time_ordered=True, **arguments)


@pytest.fixture(scope="module")
def mixed():
    """A profile with all sorts of columns, and a stream of it that changes at the end."""
    rng = np.random.default_rng(20)

    def rows(n):
        x = np.column_stack((series(rng, n, [0.7], 2), series(rng, n, [1.2, -0.4]), rng.normal(size=(n, 2))))
        x[:, 1] = np.round(x[:, 1])
        x[:, 4] = np.round(x[:, 4] * 2)
        x[rng.random(x.shape) < 0.03] = np.nan
        x[rng.random(n) < 0.01, 0] = np.inf
        return x

    profile = fitted(rows(1500), kinds=["value"] * 4 + ["category"])
    assert len(profile.levels) == 3
    return profile, np.concatenate((rows(700), rows(300) + 1))


@pytest.mark.parametrize("coefficients", KINDS)
def test_streams_like_their_reference_raise_at_most_the_promised_alarms(coefficients):
    total, runs = 0, 12
    streams = series(np.random.default_rng(1), 12_000, coefficients, runs).T
    for seed, x in enumerate(streams):
        detector = DriftDetector(fitted(x[:2000], seed=seed), 10_000, seed=seed)
        total += alarms(detector, x[2000:, None])
    assert total / runs <= 0.75  # the promise is 1; the measured rates are 0.02 to 0.4, standard error 0.05


def test_a_reference_of_few_memories_watches_its_residuals_within_what_it_knows():
    total, runs = 0, 12
    profile = None
    for seed, x in enumerate(series(np.random.default_rng(1), 10_500, [0.97], runs).T):
        profile = fitted(x[:500], seed=seed)
        total += alarms(DriftDetector(profile, 10_000, seed=seed), x[500:, None])
    assert profile.memories[0].slack > 0
    assert total / runs <= 0.75  # without the slack 1.8


def test_without_time_order_the_same_streams_break_the_promise():
    total = 0
    for seed, x in enumerate(series(np.random.default_rng(1), 12_000, [0.9], 5).T):
        total += alarms(DriftDetector(ReferenceProfile.fit(x[:2000], seed=seed)), x[2000:, None])
    assert total / 5 > 5


@pytest.mark.parametrize(("coefficients", "promised"), [([0.3], 64), ([1.2, -0.4], 128), ([0.9], 250)])
def test_a_level_that_moves_is_found_within_the_measured_delay(coefficients, promised):
    found = []
    for seed, x in enumerate(series(np.random.default_rng(2), 5000, coefficients, 20).T):
        detector = DriftDetector(fitted(x[:2000], seed=seed))
        detector.update(x[2000:3008, None])
        found.append(delay(detector, x[3008:, None] + deviation(coefficients)) - 1008)
    assert np.median(found) <= promised * 1.3 + 32


@pytest.mark.parametrize("coefficients", [[0.6], [0.9], [1.2, -0.4]])
def test_effects_say_by_how_many_sigmas_the_level_moved(coefficients):
    shifts, divergences = [], []
    sigma = deviation(coefficients)
    for seed, x in enumerate(series(np.random.default_rng(3), 12_000, coefficients, 6).T):
        profile = fitted(x[:6000], names=["a"], seed=seed)
        detector = DriftDetector(profile, 1e9)
        detector.update(x[6000:, None] - 0.5 * sigma)
        found = effects(profile, detector.counts)
        assert set(found) == {"a", "a.level"}
        assert found["a"].w1 == pytest.approx(abs(found["a"].mean_shift), abs=0.1)
        assert found["a.level"].psi > found["a"].psi
        shifts.append(found["a"].mean_shift)
        divergences.append(found["a"].psi)
    assert np.mean(shifts) == pytest.approx(-0.5, abs=0.12)
    # of residuals, which move by (1 - Σφ) σ_x
    assert np.mean(divergences) == pytest.approx((0.5 * (1 - sum(coefficients)) * sigma) ** 2, rel=0.5, abs=0.01)


def test_without_a_level_the_effect_follows_from_residuals():
    x = series(np.random.default_rng(4), 9000, [0.9])[:, 0]
    profile = fitted(x[:1000], names=["a"])
    assert not profile.levels
    detector = DriftDetector(profile, 1e9)
    detector.update(x[1000:, None] + deviation([0.9]))
    found = effects(profile, detector.counts)
    assert set(found) == {"a"}
    assert found["a"].mean_shift == pytest.approx(1, abs=0.5)  # the reference knows its own level to 0.14 sigma
    assert found["a"].w1 == found["a"].mean_shift


@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_movement_within_the_tolerance_is_silent_and_without_it_is_not(delta):
    early = 0
    for seed, x in enumerate(series(np.random.default_rng(5), 22_000, [0.6], 5).T):
        wander = 0.25 * deviation([0.6]) * np.sin(np.arange(20_000) / 400)
        detector = DriftDetector(fitted(x[:2000], seed=seed), 200_000, tolerance=delta)
        early += detector.update((x[2000:] + wander)[:, None]).alarm
    assert early == (0 if delta else 5)


def test_a_tolerance_reaches_residuals_by_what_a_level_moves_them():
    x = series(np.random.default_rng(6), 2000, [1.2, -0.4])
    profile = fitted(x)
    memory = profile.memories[0]
    gain = memory.serial.model.gain
    assert gain == pytest.approx(0.2, abs=0.03)
    assert profile.reach(0, 0.5) == pytest.approx(0.5 * memory.unit * gain)
    assert profile.reach(2, 0.5) == pytest.approx(0.5 * memory.unit)
    # by simulation: the level moves slowly by 0.5 sigmas, what the model leaves of it is that
    moved = series(np.random.default_rng(7), 40_000, [1.2, -0.4])[:, 0] + 0.5 * memory.unit
    phi = memory.serial.model.coefficients
    still = moved - 0.5 * memory.unit
    residual = [y[2:] - phi[0] * y[1:-1] - phi[1] * y[:-2] for y in (moved, still)] if len(phi) == 2 else None
    assert residual is not None
    assert (residual[0] - residual[1]).mean() == pytest.approx(profile.reach(0, 0.5), rel=1e-9)


def test_a_band_of_the_reference_mutes_the_urn_of_that_scalar_alone():
    rng = np.random.default_rng(8)
    x = np.column_stack((rng.normal(size=2000) + np.repeat([0.0, 0.5], [1600, 400]), rng.normal(size=2000)))
    profile = fitted(x)
    assert (profile.banded(0), profile.banded(1)) == (True, False)
    values = next(g for g in build_groups(profile, Tolerance()) if g.kind == VALUE)
    weights = np.exp(values.detector_weights())
    urn_bets = values.urn_weights.shape[1]
    assert weights[0, :urn_bets].sum() == 0
    assert weights[1, :urn_bets].sum() > 0
    np.testing.assert_allclose(weights.sum(1), profile.weights[:2])
    detector = DriftDetector(profile, 1_000_000)
    assert not detector.update(np.column_stack((rng.normal(0.5, 1, 20_000), rng.normal(size=20_000)))).alarm
    status = detector.update(np.column_stack((rng.normal(2, 1, 320), rng.normal(size=320))))
    assert status.features[0] == "x0"


def test_an_outage_is_an_alarm_of_missing_values_and_of_nothing_else():
    for seed, x in enumerate(series(np.random.default_rng(9), 5000, [0.9], 5).T):
        now = x[2000:, None].copy()
        for at in range(100, 3000, 300):
            now[at : at + 30] = np.nan
        detector = DriftDetector(fitted(x[:2000], names=["a"], seed=seed))
        assert delay(detector, now) < 400
        assert detector.status.features == ("a.missing",)
        assert detector.status.evidences["a"] < 0.1
        assert detector.status.evidences.get("a.level", 0) < 0.1


def same(one, other):
    assert one.to_bytes() == other.to_bytes()


@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(0, 1000), max_size=12), window=st.sampled_from([1, 7, 32]))
def test_how_a_stream_is_cut_into_blocks_changes_nothing(mixed, cuts, window):
    profile, rows = mixed
    whole, cut = DriftDetector(profile, 5000, window), DriftDetector(profile, 5000, window)
    whole.update(rows)
    for block in np.split(rows, sorted(cuts)):
        cut.update(block)
    assert whole.counts == cut.counts
    assert whole.status.at == cut.status.at
    assert whole.status.evidence == pytest.approx(cut.status.evidence, rel=1e-9)


@pytest.mark.parametrize("tolerance", [0.0, 0.3])
def test_a_restored_detector_goes_on_exactly_as_the_first_would_have(mixed, tolerance):
    profile, rows = mixed
    first = DriftDetector(profile, 5000, 32, tolerance, replaced=0.02, seed=9)
    first.update(rows[:333])
    second = DriftDetector.from_bytes(profile, first.to_bytes())
    same(first, second)
    for detector in (first, second):
        detector.take_counts()
        detector.update(rows[333:])
    assert first.status.alarm
    same(first, second)
    assert second.status.effects == first.status.effects


def test_saving_moves_evidence_down_and_by_less_than_a_millionth(mixed):
    profile, rows = mixed
    saved, other = DriftDetector(profile, 5000), DriftDetector(profile, 5000)
    for block in np.split(rows[:600], 6):
        saved.update(block)
        saved.to_bytes()
        other.update(block)
    for (one, _), (another, _) in zip(saved._evidence.state(), other._evidence.state(), strict=True):
        there = np.isfinite(another)
        assert (one <= another).all()
        np.testing.assert_allclose(one[there], another[there], rtol=1e-5, atol=1e-5)


def test_a_state_of_format_1_is_still_read():
    rng = np.random.default_rng(10)
    x = np.column_stack((rng.normal(size=(400, 2)), rng.integers(0, 5, 400)))
    x[rng.random(x.shape) < 0.05] = np.nan
    profile = ReferenceProfile.fit(x, kinds=["value", "value", "category"])
    first = DriftDetector(profile, 5000)
    first.update(rng.permutation(x)[:333])
    first.to_bytes()
    groups = first._evidence.state()
    codes = np.concatenate((first._buffer, first._buffer == first._encoder.width)).T
    old = _State1(
        *(5000.0, 32, 0.0, 0.0, 333, None, (), (b"", b"", 0, 0)),
        buffer=pack_array(codes),
        log_evidence=first._log_evidence,
        taken=first.counts.to_bytes(),
        recent=(first._recent[0].to_bytes(), first._recent[1].to_bytes()),
        log_r=tuple(pack_array(log_r) for log_r, _ in groups),
        urns=tuple(pack_array(urn) for _, urn in groups),
    )
    second = DriftDetector.from_bytes(profile, seal(MAGIC, profile.digest, old))
    first._rng = Uniform(1)  # the numbers that broke ties then were numpy's; it begins with the first of its own
    for detector in (first, second):
        detector.update(x[:100])
    same(first, second)
    # a profile with a memory has never had such a state
    serial = fitted(series(rng, 2000, [0.6]))
    with pytest.raises(ProfileError, match="version 1, but"):
        DriftDetector.from_bytes(serial, seal(MAGIC, serial.digest, old))


def test_states_that_cannot_be_are_refused(mixed, monkeypatch):
    profile, rows = mixed
    detector = DriftDetector(profile)
    detector.update(rows[:50])
    data = detector.to_bytes()
    for end in (0, 3, 10, len(data) // 2, len(data) - 1):
        with pytest.raises(ProfileError):
            DriftDetector.from_bytes(profile, data[:end])
    with pytest.raises(ProfileError, match="version 3"):
        DriftDetector.from_bytes(profile, data[:4] + b"\x03" + data[5:])
    bomb = seal(MAGIC, profile.digest, msgspec.defstruct("Big", ["x"])(b"\0" * 2_000_000), version=2)
    monkeypatch.setattr("shared.drift.state.MAX_BYTES", 1_000_000)
    with pytest.raises(ProfileError, match="unpacked"):
        DriftDetector.from_bytes(profile, bomb)


def test_acknowledging_a_changed_world_forgets_its_past():
    x = series(np.random.default_rng(11), 3000, [0.9])
    detector = DriftDetector(fitted(x[:2000]))
    detector.update(x[2000:])
    detector.acknowledge(keep=False)
    fresh = DriftDetector(detector.profile)
    np.testing.assert_array_equal(detector._past.state().history, fresh._past.state().history)
    assert detector._seen.samples == 0


def test_sixteen_scalars_fit_on_the_wire_and_into_the_state():
    rng = np.random.default_rng(12)
    x = np.concatenate([series(rng, 3000, c, 4) for c in ([0.3], [0.6], [1.2, -0.4], [0.5, 0.3])], axis=1)
    serial, plain = DriftDetector(fitted(x[:2000])), DriftDetector(ReferenceProfile.fit(rng.normal(size=(2000, 16))))
    serial.update(x[2000:])
    plain.update(rng.normal(size=(1000, 16)))
    assert len(serial.profile.levels) >= 12
    assert len(serial.counts.to_bytes()) <= 800
    assert len(serial.to_bytes()) <= 8192
    assert len(plain.counts.to_bytes()) <= 400
    assert len(plain.to_bytes()) <= 4096


def test_counts_of_levels_are_of_finished_means_and_round_trips_lose_nothing(mixed):
    profile, rows = mixed
    detector, parts = DriftDetector(profile), []
    for block in np.split(rows, [10, 333, 640]):
        detector.update(block)
        parts.append(detector.take_counts())
    total = sum(parts[1:], parts[0])
    scalars, table = len(profile.columns), total.table
    for track, k in enumerate(profile.levels, 2 * scalars):
        assert table[track].sum() == table[k].sum() // profile.memories[k].serial.length
    for counts in (*parts, total):
        assert WindowCounts.from_bytes(profile, counts.to_bytes()) == counts
        assert WindowCounts.from_mapping(profile, counts.to_mapping(), counts.samples) == counts
    data = total.to_bytes()
    assert data[0] == 2
    for end in range(0, len(data), 7):
        with pytest.raises(ProfileError):
            WindowCounts.from_bytes(profile, data[:end])
    with pytest.raises(ProfileError, match="another layout"):
        WindowCounts.from_bytes(profile, data + b"\0")
    with pytest.raises(ProfileError, match="version 2"):
        WindowCounts.from_bytes(profile, b"\1" + data[1:])
    mapping = total.to_mapping()
    mapping["x0.level"][0] += 10_000
    with pytest.raises(ProfileError, match=r"'x0.level' are of \d+ means"):
        WindowCounts.from_mapping(profile, mapping, total.samples)


def devices(rng, profile, shifts, n):
    """Name -> a detector that sees ``n`` new samples of its own each time, moved by that many sigmas."""
    parts = np.split(series(rng, n * 40, [0.6], 2 * len(shifts)), len(shifts), axis=1)
    streams = {name: iter(np.split(part, 40)) for name, part in zip(shifts, parts, strict=True)}
    detectors = {name: DriftDetector(profile, 1e9) for name in shifts}

    def round_():
        for name, detector in detectors.items():
            detector.feed(next(streams[name]) + shifts[name] * deviation([0.6]))
        return {name: detector.take_counts() for name, detector in detectors.items()}

    return round_


def test_a_fleet_like_its_reference_is_as_quiet_as_promised():
    found, runs, rounds = 0, 16, 40
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        profile = fitted(series(rng, 1500, [0.6], 2))
        fleet = FleetDetector(profile, rounds)
        report = devices(rng, profile, dict.fromkeys("abcd", 0.0), 32)
        for _ in range(rounds):
            if fleet.update(report()).alarm:
                found += 1
                fleet.acknowledge()
    assert found / runs <= 0.75  # the promise is 1


@pytest.mark.parametrize("tolerance", [0.0, 0.25])
def test_one_device_of_a_fleet_that_moved_is_found_and_named(tolerance):
    rng = np.random.default_rng(14)
    profile = fitted(series(rng, 2000, [0.6], 2))
    shifts = dict.fromkeys("abcdefgh", 0.0) | {"c": 1.5}
    fleet, report = FleetDetector(profile, 1000, tolerance=tolerance), devices(rng, profile, shifts, 50)
    statuses = [fleet.update(report()) for _ in range(6)]
    status = statuses[-1]
    assert status.alarm
    assert status.devices == ("c",)
    assert FleetDetector.from_bytes(profile, fleet.to_bytes()).status == fleet.status


def test_a_fleet_whose_reference_has_a_band_pools_what_its_devices_say_of_it():
    rng = np.random.default_rng(15)
    x = np.column_stack((rng.normal(size=2000) + np.repeat([0.0, 0.5], [1600, 400]), rng.normal(size=2000)))
    profile = fitted(x)
    fleet, within = FleetDetector(profile, 1000), np.array([0.4, 0.0])
    detectors = {name: DriftDetector(profile) for name in "abcdef"}

    def report(shift):
        for detector in detectors.values():
            detector.feed(rng.normal(size=(50, 2)) + shift)
        return {name: detector.take_counts() for name, detector in detectors.items()}

    for _ in range(30):
        assert not fleet.update(report(within)).alarm
    assert any(fleet.update(report(np.array([2.0, 0.0]))).alarm for _ in range(4))


def test_a_device_whose_reference_has_other_levels_is_refused_in_one_line():
    rng = np.random.default_rng(16)
    profile, own = fitted(series(rng, 2000, [0.6])), fitted(series(rng, 200, [0.6]))
    with pytest.raises(ProfileError, match="device 'odd' has levels of none, the fleet's of x0") as caught:
        FleetDetector(profile, profiles={"odd": own})
    assert "\n" not in str(caught.value)


def test_a_dead_sensor_and_a_stream_of_infinities_are_alarms_and_no_errors():
    x = series(np.random.default_rng(17), 2000, [0.8])
    for value, name in ((np.nan, "x0.missing"), (np.inf, "x0"), (-np.inf, "x0"), (1.7e308, "x0")):
        detector = DriftDetector(fitted(x * 1e-3))
        assert delay(detector, np.full((400, 1), value)) < math.inf
        assert detector.status.features[0] == name
        detector.acknowledge()
        assert np.isfinite(detector._past.state().history).all()
        assert all(math.isfinite(e.mean_shift) for e in detector.status.effects.values())
