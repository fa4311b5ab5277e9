"""The arithmetic under the promise, against enumeration and recursion."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.drift import ReferenceProfile
from shared.drift.bets import SLOW_SHIFTS, value_bets
from shared.drift.evidence import (
    accumulate,
    log_gamma,
    log_sum,
    share_bound,
    urn_log_e,
    urn_log_e_each,
    value_normaliser,
)
from shared.drift.tracks import Tolerance, build_groups


def test_log_gamma_agrees_with_the_standard_library():
    x = np.array([1.0, 2, 3, 17, 1022, 1023, 1024, 1025, 5e4, 1e9])
    np.testing.assert_allclose(log_gamma(x), [math.lgamma(v) for v in x], rtol=1e-13, atol=1e-11)


@pytest.mark.parametrize("gaps", [[1, 3, 2, 1], [1, 40, 1], [5, 7]])
def test_the_mean_e_value_under_the_urns_own_law_is_exactly_one(gaps):
    """Sum over all counts of two windows: the second meets the urn that the first has left."""
    start = np.array([gaps], dtype=float)
    bets = np.random.default_rng(0).normal(size=(1, 3, len(gaps)))
    n = 4
    compositions = [c for c in itertools.product(range(n + 1), repeat=len(gaps)) if sum(c) == n]

    def log_law(urn, c):
        ways = math.lgamma(n + 1) - sum(math.lgamma(k + 1) for k in c)
        rising = sum(math.lgamma(a + k) - math.lgamma(a) for a, k in zip(urn, c, strict=True))
        return ways + rising - math.lgamma(sum(urn) + n) + math.lgamma(sum(urn))

    mean = np.zeros((2, 3))
    for first, second in itertools.product(compositions, repeat=2):
        grown = [a + k for a, k in zip(gaps, first, strict=True)]
        probability = math.exp(log_law(gaps, first) + log_law(grown, second))
        windows = np.array([[first, second]], dtype=float)
        log_e = urn_log_e(bets, np.exp(bets), start, start.sum(1), windows)[0]
        mean += probability * np.exp(np.cumsum(log_e, axis=0))
    np.testing.assert_allclose(mean, 1, rtol=1e-9)


def test_windows_of_many_devices_each_meet_the_urn_as_it_is():
    rng = np.random.default_rng(0)
    bets = rng.normal(size=(2, 3, 5))
    urn = rng.integers(1, 3000, (2, 5)).astype(float)
    counts = rng.integers(0, 30, (2, 4, 5)).astype(float)
    of = (bets, np.exp(bets), urn, urn.sum(1))
    alone = [urn_log_e(*of, counts[:, d : d + 1])[:, 0] for d in range(4)]
    np.testing.assert_allclose(urn_log_e_each(*of, counts), np.stack(alone, axis=1), rtol=1e-9, atol=1e-9)


@settings(max_examples=30)
@given(st.integers(1, 20), st.booleans(), st.integers(0, 2**31))
def test_accumulation_in_one_go_is_the_recursion(windows, fresh, seed):
    rng = np.random.default_rng(seed)
    log_e = rng.normal(0, 2, (3, windows, 4))
    log_r = np.full((3, 4), -np.inf) if fresh else rng.normal(0, 3, (3, 4))
    r, steps = np.exp(log_r), []
    for w in range(windows):
        r = (r + 32) * np.exp(log_e[:, w])
        steps.append(r)
    np.testing.assert_allclose(np.exp(accumulate(log_r, log_e, math.log(32))), np.stack(steps, axis=1), rtol=1e-9)


def test_log_sum_of_nothing_is_nothing():
    assert log_sum(np.full(3, -np.inf), axis=0) == -np.inf
    assert log_sum(np.array([1000.0, 1000.0]), axis=0) == pytest.approx(1000 + math.log(2))


@pytest.mark.parametrize(("share", "n"), [(0.01, 100), (0.1, 500), (0.5, 50)])
def test_the_bound_of_a_share_is_missed_no_oftener_than_it_says(share, n):
    risk = 0.02
    counts = np.random.default_rng(0).binomial(n, share, 4000) / n
    bounds = {c: (share_bound(c, n, risk, upper=True), share_bound(c, n, risk, upper=False)) for c in set(counts)}
    assert np.mean([bounds[c][0] < share for c in counts]) <= risk
    assert np.mean([bounds[c][1] > share for c in counts]) <= risk


@pytest.mark.parametrize(("delta", "move"), [(0.0, 0.0), (0.5, 0.5), (0.5, -0.5), (0.5, 0.0)])
def test_no_bet_gains_on_average_from_a_stream_inside_the_band(delta, move):
    rng = np.random.default_rng(0)
    column = ReferenceProfile.fit(rng.normal(size=1000)).columns[0]
    bets, _ = value_bets(column.scores, SLOW_SHIFTS)
    stream = rng.normal(size=400_000) + move * column.unit
    h = np.exp(bets)[:, np.searchsorted(column.edges, stream)]
    assert (h.mean(1) <= np.exp(value_normaliser(column, bets, delta * column.unit, 0.05))).all()


def test_a_tolerance_switches_urns_off_where_it_must_and_implies_room_for_categories():
    assert [Tolerance().urn(kind) for kind in ("value", "category", "missing")] == [True] * 3
    assert [Tolerance(0.5).urn(kind) for kind in ("value", "category", "missing")] == [False] * 3
    assert [Tolerance(0, 0.1).urn(kind) for kind in ("value", "category", "missing")] == [True, False, False]
    assert Tolerance(0.5).share("category") == pytest.approx(0.1974, abs=1e-4)
    assert Tolerance(0.5).share("missing") == 0
    assert Tolerance(0.1, 0.3).share("category") == 0.3


@pytest.mark.parametrize("kind", ["value", "category"])
def test_no_track_is_given_more_than_its_weight(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)) if kind == "value" else rng.integers(0, 3, (300, 3)).astype(float)
    profile = ReferenceProfile.fit(x, kinds=[kind] * 3)
    total = 0.0
    for group in build_groups(profile, Tolerance()):
        weights = np.exp(group.detector_weights()).reshape(len(group.tracks), -1).sum(1)
        assert (weights <= profile.weights[group.tracks] * (1 + 1e-12)).all()
        total += weights.sum()
    assert 0.8 < total <= 1 + 1e-12
