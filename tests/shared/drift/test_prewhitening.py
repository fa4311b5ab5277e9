"""Residuals and means of a stream, whatever is missing in it and however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.drift.autoregression import LONGEST_GAP, Autoregression
from shared.drift.bins import fit_value
from shared.drift.prewhitening import NO_MEAN, Prewhitener, Serial
from shared.uniform import Uniform
from tests.shared.drift.series import series


def serial(coefficients, length=0, intercept=0.0):
    return Serial(Autoregression(intercept, np.array(coefficients)), 3.0, 2.0, -4.0, 4.0, length)


def level(seed=0):
    rng = np.random.default_rng(seed)
    return fit_value(rng.normal(3, 1, 60), 0, 8, rng, "level")


SERIALS = [serial([0.9], 7), None, serial([1.2, -0.4], 12, 0.1), serial([0.5]), serial([0.2] * 4 + [0.1], 9)]
LEVELS = [level(1), None, level(2), None, level(3)]


def fresh():
    return Prewhitener(SERIALS, LEVELS, seed=5)


def stream(seed, n):
    rng = np.random.default_rng(seed)
    x = 3 + 2 * series(rng, n, [0.8], len(SERIALS)).T
    x[rng.random(x.shape) < 0.1] = np.nan
    x[rng.random(x.shape) < 0.02] = np.inf
    x[1, n // 3 : n // 3 + 100] = x[2, n // 3 : n // 3 + 100] = np.nan
    return x


def test_residuals_are_what_the_formula_says():
    x = 3 + 2 * series(np.random.default_rng(0), 500, [0.7], len(SERIALS)).T
    found, _ = fresh().advance(x)
    z = (x - 3) / 2
    np.testing.assert_allclose(found[0, 1:], 2 * (z[0, 1:] - 0.9 * z[0, :-1]), atol=1e-5)
    np.testing.assert_allclose(found[2, 2:], 2 * (z[2, 2:] - 0.1 - 1.2 * z[2, 1:-1] + 0.4 * z[2, :-2]), atol=1e-5)
    np.testing.assert_array_equal(found[1], x[1])


def test_first_residuals_are_as_large_as_the_others():
    streams = 2000
    x = series(np.random.default_rng(0), 3, [1.2, -0.4], streams).T
    one = Serial(Autoregression(0.0, np.array([1.2, -0.4])), 0.0, 1.0, -20.0, 20.0, 0)
    first, _ = Prewhitener([one] * streams, [None] * streams).advance(x)
    np.testing.assert_allclose(np.std(first, axis=0), 1, atol=0.06)
    assert np.abs(np.corrcoef(first.T) - np.eye(3)).max() < 0.08


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 600), max_size=10), st.integers(0, 1000))
def test_how_a_stream_is_cut_changes_nothing(cuts, seed):
    x = stream(seed, 600)
    whole, cut = fresh(), fresh()
    residuals, codes = whole.advance(x)
    parts = [cut.advance(part) for part in np.split(x, sorted(cuts), axis=1)]
    np.testing.assert_array_equal(np.concatenate([r for r, _ in parts], axis=1), residuals)
    np.testing.assert_array_equal(np.concatenate([c for _, c in parts], axis=1), codes)
    for one, other in zip(whole.state().__struct_fields__, cut.state().__struct_fields__, strict=True):
        np.testing.assert_array_equal(getattr(whole.state(), one), getattr(cut.state(), other))


def test_a_state_loaded_goes_on_and_one_of_others_is_refused():
    x = stream(3, 400)
    first, second = fresh(), fresh()
    first.advance(x[:, :333])
    assert second.load(first.state(), Uniform(first.ties.seed, first.ties.drawn))
    for one, other in zip(first.advance(x[:, 333:]), second.advance(x[:, 333:]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not second.load(Prewhitener(SERIALS[:1], LEVELS[:1]).state(), Uniform())
    state = first.state()
    state.filled[0] = 7
    assert not second.load(state, Uniform())


def test_means_are_of_values_that_follow_each_other_without_those_missing():
    one = Prewhitener([serial([0.5], 5)], [LEVELS[0]], seed=1)
    x = 3 + np.random.default_rng(1).normal(size=(1, 103))
    x[0, 4:50:3] = np.nan
    _, codes = one.advance(x)
    there = np.flatnonzero(~np.isnan(x[0]))
    ends = there[4::5]
    assert np.flatnonzero(codes[0] != NO_MEAN).tolist() == ends.tolist()
    means = x[0, there][: len(ends) * 5].reshape(-1, 5).mean(1)
    np.testing.assert_array_equal(codes[0, ends], np.searchsorted(LEVELS[0].edges, means))


def test_an_infinity_spoils_none_of_those_that_follow():
    x = np.full((1, 60), 3.0)
    x[0, 30] = np.inf
    residuals, _ = Prewhitener([serial([0.9])], [None]).advance(x)
    assert residuals[0, 30] == np.inf
    assert residuals[0, 31] == pytest.approx(-0.9 * 8)  # as after the largest value of the reference
    assert np.abs(residuals[0, 32:]).max() < 1e-9


def test_missing_values_are_forecast_and_a_long_gap_forgets():
    x = np.full((1, 300), 7.0)  # z = 2
    x[0, 100:102] = np.nan
    x[0, 150 : 150 + 2 * LONGEST_GAP] = np.nan
    residuals, _ = Prewhitener([serial([0.9])], [None]).advance(x)
    assert np.isnan(residuals[0, 100:102]).all()
    expected = 2 * (2 - 0.9**3 * 2) / np.sqrt(1 + 0.9**2 + 0.9**4)
    assert residuals[0, 102] == pytest.approx(expected, abs=1e-4)
    assert residuals[0, 103] == pytest.approx(2 * (2 - 0.9 * 2), abs=1e-4)
    assert residuals[0, 150 + 2 * LONGEST_GAP] == pytest.approx(4 * np.sqrt(1 - 0.81), abs=1e-4)


def test_nothing_is_done_where_nothing_has_a_memory():
    one = Prewhitener([None, None], [None, None])
    x = np.zeros((2, 5))
    assert one.idle
    assert one.advance(x)[0] is x
