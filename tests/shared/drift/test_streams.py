"""The fast form of the evidence against the plain one: every group by itself, every sum in logs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.drift import ReferenceProfile
from shared.drift.encode import Encoder, window_counts
from shared.drift.evidence import accumulate, log_sum
from shared.drift.streams import Evidence
from shared.drift.tracks import Tolerance, build_groups


class Plain:
    """R <- (R + window) e for each bet of each group, in logs."""

    def __init__(self, groups, window):
        self.groups, self.window = groups, window
        self.weights = [group.detector_weights() for group in groups]
        self.log_r = [np.full(weights.shape, -np.inf) for weights in self.weights]
        self.urns = [group.gaps.copy() for group in groups]

    def advance(self, counts):
        found = np.empty(counts.shape[:2])
        for g, group in enumerate(self.groups):
            windows = group.windows(counts)
            log_e = group.log_e_plug(windows)
            if group.urn:
                log_e = np.concatenate((group.log_e_urn(self.urns[g], windows), log_e), axis=2)
                self.urns[g] = self.urns[g] + windows.sum(1)
            log_r = accumulate(self.log_r[g], log_e, math.log(self.window))
            self.log_r[g] = log_r[:, -1]
            found[group.tracks] = group.by_track(log_sum(log_r + self.weights[g][:, None], axis=2))
        return found


@pytest.mark.parametrize("shift", [0.0, 0.7, 40.0])
@pytest.mark.parametrize(
    ("window", "delta", "replaced"), [(1, 0, 0), (32, 0, 0), (32, 0.5, 0), (8, 0, 0.1), (512, 0, 0)]
)
def test_the_fast_form_gives_the_same_numbers(shift, window, delta, replaced):
    rng = np.random.default_rng(window)

    def rows(n, moved=0.0, missing=0.0):
        x = np.column_stack((rng.normal(moved, 1, (n, 3)), rng.integers(0, 5, n)))
        x[rng.random(x.shape) < missing] = np.nan
        return x

    profile = ReferenceProfile.fit(rows(300), kinds=["value"] * 3 + ["category"])
    groups = build_groups(profile, Tolerance(delta, replaced))
    fast, plain = Evidence(groups, window), Plain(groups, window)
    encoder = Encoder(profile)
    steps = [
        (256, 0.0, 0.0),
        (1024, 0.0, 0.0),
        (1024, shift, 0.0),
        (512, shift, 0.05),
        (1024, 0.0, 0.0),
        (512, shift, 0),
    ]
    for at, (n, moved, missing) in enumerate(steps):
        codes = encoder.codes(rows(max(n, window), moved, missing), rng)
        counts = window_counts(codes, window, encoder.width).astype(float)
        pieces, expected = fast.advance(counts), plain.advance(counts)
        np.testing.assert_allclose(
            np.concatenate([log_u for log_u, _ in pieces]), log_sum(expected, axis=0), rtol=1e-9, atol=1e-9
        )
        np.testing.assert_allclose(fast.by_track(), expected[:, -1], rtol=1e-9, atol=1e-9)
        _, log_r_after = pieces[0]
        np.testing.assert_allclose(fast.by_track(log_r_after(0)), expected[:, 0], rtol=1e-9, atol=1e-9)
        for (log_r, urn), other, its_urn in zip(fast.state(), plain.log_r, plain.urns, strict=True):
            np.testing.assert_allclose(log_r, other, rtol=1e-9, atol=1e-9)
            np.testing.assert_array_equal(urn, its_urn)
        if at == 3:
            assert fast.load(fast.state())
        if at == 4:
            fast.forget(urns=False)
            plain.log_r = [np.full_like(log_r, -np.inf) for log_r in plain.log_r]


def test_tracks_alike_are_computed_once_until_something_tells_them_apart():
    rng = np.random.default_rng(0)
    profile = ReferenceProfile.fit(rng.normal(size=(300, 9)))
    evidence, encoder = Evidence(build_groups(profile, Tolerance()), 32), Encoder(profile)
    flags = evidence._lanes[-1]
    assert len(flags.group.tracks) == 1
    x = rng.normal(size=(64, 9))
    evidence.advance(window_counts(encoder.codes(x, rng), 32, encoder.width).astype(float))
    assert len(flags.group.tracks) == 1
    x[5, 3] = np.nan
    evidence.advance(window_counts(encoder.codes(x, rng), 32, encoder.width).astype(float))
    assert len(flags.group.tracks) == 9
    assert evidence.by_track()[9 + 3] > evidence.by_track()[9]
    assert evidence.load(evidence.state())
    assert len(flags.group.tracks) == 2


def test_an_urn_that_lost_something_is_refused():
    profile = ReferenceProfile.fit(np.random.default_rng(0).normal(size=(300, 2)))
    evidence = Evidence(build_groups(profile, Tolerance()), 32)
    for broken in (-1.0, 0.5):
        assert not evidence.load([(log_r, urn + broken) for log_r, urn in evidence.state()])
    assert not evidence.load([(log_r * np.nan, urn) for log_r, urn in evidence.state()])
