"""The promise, measured: false alarms, delays, tolerance; and that cutting, saving and restoring change nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.drift import DriftDetector, ReferenceProfile
from shared.drift.bets import SHAPES, SHIFTS, SPREADS
from shared.errors import InputError, ProfileError

URN_BETS = 2 * len(SHIFTS) + len(SPREADS) + len(SHAPES) + 1


def alarms(detector, rows, block=640):
    count = 0
    for at in range(0, len(rows), block):
        if detector.update(rows[at : at + block]).alarm:
            count += 1
            detector.acknowledge()
    return count


def delay(detector, rows, block=32):
    """Samples to the alarm; infinite if there is none."""
    for at in range(0, len(rows), block):
        status = detector.update(rows[at : at + block])
        if status.alarm:
            return status.at
    return math.inf


def normal(rng, n):
    return rng.normal(size=(n, 4))


def mixed(rng, n):
    """Rounded, heavy-tailed, constant, binary and counted columns, a category, all with holes, some infinite."""
    x = rng.normal(size=(n, 7))
    x[:, 1] = np.round(x[:, 1])
    x[:, 2] = rng.standard_cauchy(n)
    x[:, 3] = 1
    x[:, 4] = rng.integers(0, 2, n)
    x[:, 5] = rng.poisson(1, n)
    x[rng.random(n) < 0.01, 2] = np.inf
    x[:, 6] = np.minimum(rng.zipf(1.8, n), 10**6)
    x[rng.random((n, 7)) < 0.03] = np.nan
    return x


KINDS = {normal: None, mixed: ["value"] * 6 + ["category"]}


@pytest.mark.parametrize("draw", [normal, mixed])
@pytest.mark.parametrize("n", [60, 500])
def test_exchangeable_streams_raise_at_most_the_promised_alarms(draw, n):
    runs = 40
    total = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        profile = ReferenceProfile.fit(draw(rng, n), kinds=KINDS[draw], seed=seed)
        detector = DriftDetector(profile, 10_000, seed=seed)
        total += alarms(detector, draw(rng, 10_000))
    assert total / runs <= 0.75  # the promise is 1; the measured rates are 0.1 to 0.4, standard error 0.1


def test_a_stream_of_the_same_few_values_is_watched_without_false_alarms():
    values = np.array([0.0, 0.25, 0.5])
    total = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        detector = DriftDetector(ReferenceProfile.fit(rng.choice(values, 300)), 5000, window=8)
        total += alarms(detector, rng.choice(values, (5000, 1)))
    assert total / 20 <= 0.75


@pytest.mark.parametrize(
    ("shift", "scale", "promised"), [(1.0, 1.0, 32), (0.5, 1.0, 64), (0.25, 1.0, 224), (0.0, math.sqrt(1.5), 192)]
)
def test_changes_are_found_within_the_measured_delay(shift, scale, promised):
    found = []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        profile = ReferenceProfile.fit(rng.normal(size=2000))
        found.append(delay(DriftDetector(profile, 10_000), rng.normal(shift, scale, (2000, 1))))
    # windows of 32 samples: one more is within the measurement
    assert np.median(found) <= promised * 1.5 + 32


def test_a_shift_after_a_long_quiet_time_is_found_and_named():
    rng = np.random.default_rng(8)
    profile = ReferenceProfile.fit(rng.normal(size=(1000, 8)), names=list("abcdefgh"))
    detector = DriftDetector(profile, 100_000)
    assert not detector.update(rng.normal(size=(5000, 8))).alarm
    rows = rng.normal(size=(400, 8))
    rows[:, 5] += 1
    status = detector.update(rows)
    assert status.alarm
    assert status.features[0] == "f"
    assert 5000 < status.at <= 5160
    assert max(status.effects, key=lambda name: abs(status.effects[name].mean_shift)) == "f"


def test_movement_within_the_tolerance_is_silent_by_promise_and_beyond_it_is_found():
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        profile = ReferenceProfile.fit(rng.normal(size=(1000, 4)))
        within = rng.normal(size=(30_000, 4)) + 0.25 * np.sin(np.arange(30_000) / 500)[:, None]
        detector = DriftDetector(profile, 1_000_000, tolerance=0.5)
        status = detector.update(within)
        assert not status.alarm
        assert status.evidence < 0.05
        before = len(within)
        found.append(delay(detector, rng.normal(1.0, 1, (2000, 4))) - before)
    assert np.median(found) <= 96 * 1.5 + 32


def test_without_tolerance_the_same_movement_alarms():
    rng = np.random.default_rng(0)
    profile = ReferenceProfile.fit(rng.normal(size=(1000, 4)))
    assert delay(DriftDetector(profile, 1_000_000), rng.normal(0.25, 1, (30_000, 4))) < 30_000


def test_a_tolerance_covers_categories_that_follow_from_values_and_replaced_covers_the_rest():
    rng = np.random.default_rng(1)
    profile = ReferenceProfile.fit(rng.integers(0, 4, 1000).astype(float), kinds=["category"])
    wandered = rng.choice(4, (20_000, 1), p=[0.35, 0.25, 0.2, 0.2]).astype(float)
    assert delay(DriftDetector(profile, 1_000_000), wandered) < 2000
    for arguments in ({"tolerance": 0.5}, {"replaced": 0.15}):
        assert delay(DriftDetector(profile, 1_000_000, **arguments), wandered, 1000) == math.inf
        collapsed = rng.choice(4, (2000, 1), p=[0.9, 0.04, 0.03, 0.03]).astype(float)
        assert delay(DriftDetector(profile, 1_000_000, **arguments), collapsed) <= 256


@pytest.mark.parametrize("tolerance", [0.0, 0.5])
def test_values_that_go_missing_are_found_and_named(tolerance):
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(2000, 3))
        x[rng.random(2000) < 0.01, 1] = np.nan
        detector = DriftDetector(ReferenceProfile.fit(x), 10_000, tolerance=tolerance)
        now = rng.normal(size=(3000, 3))
        now[rng.random(3000) < 0.05, 1] = np.nan
        found.append(delay(detector, now))
        assert detector.status.features[0] == "x1.missing"
    assert np.median(found) <= 348 * 1.5 * (1 if tolerance == 0 else 1.5)


def test_a_share_of_missing_values_within_replaced_is_silent():
    rng = np.random.default_rng(1)
    profile = ReferenceProfile.fit(rng.normal(size=(1000, 2)))
    now = rng.normal(size=(20_000, 2))
    now[rng.random((20_000, 2)) < 0.05] = np.nan
    assert delay(DriftDetector(profile, 1_000_000, replaced=0.1), now, 1000) == math.inf
    assert delay(DriftDetector(profile, 1_000_000), now) < 500


def test_a_category_that_was_never_seen_and_a_class_that_takes_over_are_found():
    rng = np.random.default_rng(3)
    profile = ReferenceProfile.fit(rng.integers(0, 10, 1000).astype(float), kinds=["category"])
    unseen = rng.integers(0, 10, (2000, 1)).astype(float)
    unseen[rng.random(2000) < 0.2] = 55
    assert delay(DriftDetector(profile), unseen) <= 128
    shares = np.full(10, 0.7 / 9)
    shares[3] = 0.3
    assert delay(DriftDetector(profile), rng.choice(10, (2000, 1), p=shares).astype(float)) <= 192


def test_a_constant_that_changes_and_a_stuck_sensor_are_found():
    rng = np.random.default_rng(3)
    constant = ReferenceProfile.fit(np.full(500, 3.0))
    assert delay(DriftDetector(constant), np.full((5000, 1), 3.0)) == math.inf
    assert delay(DriftDetector(constant), np.full((500, 1), 3.1)) <= 32
    moving = ReferenceProfile.fit(rng.normal(size=500))
    assert delay(DriftDetector(moving), np.full((500, 1), 0.1)) <= 96


def test_two_humps_with_the_mean_and_spread_of_one_are_found():
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        profile = ReferenceProfile.fit(rng.normal(size=2000))
        humps = rng.choice((-0.95, 0.95), (2000, 1)) + rng.normal(0, 0.31, (2000, 1))
        found.append(delay(DriftDetector(profile, 10_000), humps))
    assert np.median(found) <= 320


def test_infinities_are_ordinary_extremes():
    rng = np.random.default_rng(3)
    profile = ReferenceProfile.fit(rng.normal(size=500))
    detector = DriftDetector(profile)
    rows = rng.normal(size=(320, 1))
    rows[::4] = np.inf
    status = detector.update(rows)
    assert status.alarm
    assert status.features == ("x0",)
    assert detector.counts.to_mapping()["x0"][-1] >= 80
    assert detector.counts.to_mapping()["x0.missing"] == [320, 0]


def test_confidence_alone_is_found_sooner_when_inputs_are_a_family_of_their_own():
    delays = {}
    for families in (["inputs"] * 17, ["inputs"] * 16 + ["confidence"]):
        found = []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            profile = ReferenceProfile.fit(rng.normal(size=(1000, 17)), families=families)
            rows = rng.normal(size=(600, 17))
            rows[:, 16] -= 0.5
            found.append(delay(DriftDetector(profile, 10_000, window=4), rows, 4))
        delays[len(set(families))] = np.mean(found)
    assert delays[2] < delays[1]


@pytest.fixture(scope="module")
def stream():
    rng = np.random.default_rng(11)
    reference = mixed(rng, 400)
    return ReferenceProfile.fit(reference, kinds=KINDS[mixed]), np.concatenate((mixed(rng, 700), mixed(rng, 300) + 1))


def same(one, other):
    assert one._log_evidence == pytest.approx(other._log_evidence, rel=1e-9)  # what is reported is capped
    assert one.status.at == other.status.at
    assert one.status.features == other.status.features
    assert one.counts == other.counts


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 1000), max_size=12), window=st.sampled_from([1, 7, 32]))
def test_how_a_stream_is_cut_into_blocks_changes_nothing(stream, cuts, window):
    profile, rows = stream
    whole = DriftDetector(profile, 5000, window)
    whole.update(rows)
    cut = DriftDetector(profile, 5000, window)
    for block in np.split(rows, sorted(cuts)):
        cut.update(block)
    same(whole, cut)


@pytest.mark.parametrize("tolerance", [0.0, 0.3])
def test_a_restored_detector_goes_on_exactly_as_the_first_would_have(stream, tolerance):
    profile, rows = stream
    first = DriftDetector(profile, 5000, 32, tolerance, replaced=0.02, seed=9)
    first.update(rows[:333])
    second = DriftDetector.from_bytes(profile, first.to_bytes())
    assert second.to_bytes() == first.to_bytes()
    for detector in (first, second):
        detector.take_counts()
        detector.update(rows[333:])
    assert first.status.alarm
    assert second.to_bytes() == first.to_bytes()
    assert second.status.effects == first.status.effects


def test_states_of_others_versions_and_fragments_are_refused(stream):
    profile, rows = stream
    detector = DriftDetector(profile)
    detector.update(rows[:50])
    data = detector.to_bytes()
    for end in (0, 3, 10, len(data) // 2, len(data) - 1):
        with pytest.raises(ProfileError):
            DriftDetector.from_bytes(profile, data[:end])
    with pytest.raises(ProfileError, match="version 3"):
        DriftDetector.from_bytes(profile, data[:4] + b"\x03" + data[5:])
    with pytest.raises(ProfileError, match="checksum"):
        DriftDetector.from_bytes(profile, data[:100] + bytes([data[100] ^ 1]) + data[101:])
    with pytest.raises(ProfileError, match="belongs to profile"):
        DriftDetector.from_bytes(ReferenceProfile.fit(rows[:100, :3]), data)


def test_an_alarm_latches_until_it_is_acknowledged():
    rng = np.random.default_rng(0)
    profile = ReferenceProfile.fit(rng.normal(size=500))
    detector = DriftDetector(profile)
    at = detector.update(rng.normal(2, 1, (64, 1))).at
    status = detector.update(rng.normal(size=(3200, 1)))
    assert status.alarm
    assert status.at == at
    detector.acknowledge()
    assert not detector.status.alarm
    assert detector.status.evidence == 0
    assert detector.status.features == ()


def test_a_kept_urn_takes_the_new_world_for_granted_and_a_fresh_one_does_not():
    rng = np.random.default_rng(0)
    profile = ReferenceProfile.fit(rng.normal(size=200))
    changed = rng.normal(0.5, 1, (8000, 1))
    evidence = {}
    for keep in (True, False):
        detector = DriftDetector(profile)
        detector.update(changed)
        detector.acknowledge(keep)
        detector.update(rng.normal(0.5, 1, (320, 1)))
        log_r, _ = detector._evidence.state()[0]
        evidence[keep] = log_r[0, :URN_BETS].max()
    assert evidence[True] < evidence[False] - 5


def test_counts_hold_every_row_once_also_of_unfinished_windows():
    rng = np.random.default_rng(0)
    detector = DriftDetector(ReferenceProfile.fit(rng.normal(size=(100, 2))), window=32)
    detector.update(rng.normal(size=(45, 2)))
    assert detector.counts.samples == 45
    assert detector.take_counts().table[:2].sum(1).tolist() == [45, 45]
    detector.update(rng.normal(size=(30, 2)))
    assert detector.take_counts().table[:2].sum(1).tolist() == [30, 30]
    assert detector.counts.samples == 0
    assert detector.status.samples == 75


def test_empty_blocks_change_nothing():
    rng = np.random.default_rng(0)
    detector = DriftDetector(ReferenceProfile.fit(rng.normal(size=(100, 2))))
    detector.update(rng.normal(size=(40, 2)))
    before = detector.to_bytes()
    detector.update(np.empty((0, 2)))
    detector.update([])
    assert detector.to_bytes() == before


@pytest.mark.parametrize("rows", [np.zeros((5, 3)), np.zeros(2), np.zeros((1, 2, 1)), [["a", "b"]]])
def test_rows_of_another_shape_are_refused_and_leave_no_trace(rows):
    detector = DriftDetector(ReferenceProfile.fit(np.random.default_rng(0).normal(size=(100, 2))))
    before = detector.to_bytes()
    with pytest.raises(InputError):
        detector.update(rows)
    assert detector.to_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        {"false_alarm_every": 0},
        {"false_alarm_every": math.inf},
        {"window": 0},
        {"window": 1 << 20},
        {"tolerance": -1},
        {"tolerance": math.nan},
        {"replaced": 1.0},
        {"replaced": -0.1},
    ],
)
def test_impossible_settings_are_refused(arguments):
    profile = ReferenceProfile.fit(np.arange(100.0))
    with pytest.raises(ProfileError):
        DriftDetector(profile, **arguments)
