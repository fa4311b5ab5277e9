"""Counts add exactly and survive every form they travel in."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.drift import DriftDetector, ReferenceProfile, WindowCounts, effects
from shared.errors import ProfileError


@lru_cache
def reference():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 3))
    x[:, 2] = rng.integers(0, 4, 300)
    return ReferenceProfile.fit(x, names=["a", "b", "class"], kinds=["value", "value", "category"])


def counted(seed, n):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    x[:, 2] = rng.integers(0, 6, n)
    x[rng.random((n, 3)) < 0.1] = np.nan
    detector = DriftDetector(reference())
    detector.update(x)
    return detector.take_counts()


parts = st.tuples(st.integers(0, 2**31), st.integers(0, 300))


@settings(max_examples=25)
@given(st.lists(parts, min_size=1, max_size=4), st.randoms())
def test_sums_are_exact_in_any_order_and_round_trips_lose_nothing(blocks, random):
    windows = [counted(*block) for block in blocks]
    total = sum(windows[1:], windows[0])
    random.shuffle(windows)
    assert sum(windows[1:], windows[0]) == total
    assert total.samples == sum(n for _, n in blocks)
    assert WindowCounts.from_bytes(reference(), total.to_bytes()) == total
    assert WindowCounts.from_mapping(reference(), total.to_mapping(), total.samples) == total
    assert (total.table >= 0).all()


@settings(max_examples=100)
@given(st.binary(max_size=120), st.booleans())
def test_strange_bytes_are_refused_or_are_counts(data, headed):
    if headed:
        data = b"\x01" + bytes.fromhex(reference().digest) + data
    try:
        found = WindowCounts.from_bytes(reference(), data)
    except ProfileError:
        return
    assert found.table.sum(1).max() == found.samples


def test_every_truncation_and_any_tail_is_refused():
    data = counted(1, 200).to_bytes()
    for end in range(len(data)):
        with pytest.raises(ProfileError):
            WindowCounts.from_bytes(reference(), data[:end])
    with pytest.raises(ProfileError, match="another layout"):
        WindowCounts.from_bytes(reference(), data + b"\0")
    with pytest.raises(ProfileError, match="version"):
        WindowCounts.from_bytes(reference(), b"\x02" + data[1:])


def test_a_thousand_samples_of_sixteen_scalars_fit_into_400_bytes():
    rng = np.random.default_rng(0)
    detector = DriftDetector(ReferenceProfile.fit(rng.normal(size=(1000, 16))))
    detector.update(rng.normal(size=(1000, 16)))
    assert len(detector.counts.to_bytes()) <= 400


def test_counts_of_another_profile_are_refused_everywhere():
    other = ReferenceProfile.fit(np.arange(90.0).reshape(30, 3).repeat(2, axis=0))
    window = counted(1, 50)
    with pytest.raises(ProfileError, match="can't be added"):
        window + WindowCounts.zero(other)
    with pytest.raises(ProfileError, match="belong to profile"):
        WindowCounts.from_bytes(other, window.to_bytes())
    with pytest.raises(ProfileError, match="belong to profile"):
        effects(other, window)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("a"), "'a' is missing"),
        (lambda m: m.update(z=[1]), "'z' is unknown"),
        (lambda m: m["a"].append(0), "19 bins"),
        (lambda m: m["a"].__setitem__(0, -1), "whole numbers"),
        (lambda m: m["a"].__setitem__(0, 1 << 60), "whole numbers"),
        (lambda m: m["a"].__setitem__(0, 1.5), "whole numbers"),
        (lambda m: m["a"].__setitem__(0, True), "whole numbers"),
        (lambda m: m["a"].__setitem__(0, m["a"][0] + 1), "don't sum to 50"),
        (lambda m: m["a.missing"].__setitem__(1, m["a.missing"][1] + 1), "don't sum to 50"),
    ],
)
def test_a_mapping_that_no_device_could_have_counted_is_refused(change, message):
    mapping = counted(1, 50).to_mapping()
    change(mapping)
    with pytest.raises(ProfileError, match=message):
        WindowCounts.from_mapping(reference(), mapping, 50)


@pytest.mark.parametrize("samples", [-1, 1 << 60, 49, 50.0, True])
def test_a_wrong_number_of_samples_is_refused(samples):
    with pytest.raises(ProfileError, match=r"samples"):
        WindowCounts.from_mapping(reference(), counted(1, 50).to_mapping(), samples)


def test_a_sum_beyond_all_reason_is_refused():
    mapping = WindowCounts.zero(reference()).to_mapping()
    half = 1 << 39
    for row in mapping.values():
        row[0] = half + 1
    window = WindowCounts.from_mapping(reference(), mapping, half + 1)
    with pytest.raises(ProfileError, match="at most"):
        window + window


def test_effects_measure_the_shift_that_was_made():
    rng = np.random.default_rng(4)
    profile = ReferenceProfile.fit(rng.normal(10, 2, size=(2000, 2)), names=["moved", "same"])
    detector = DriftDetector(profile)
    detector.update(np.column_stack((rng.normal(11, 2, 4000), rng.normal(10, 2, 4000))))
    found = effects(profile, detector.counts)
    assert set(found) == {"moved", "same"}
    assert found["moved"].mean_shift == pytest.approx(0.5, abs=0.06)
    assert found["moved"].w1 == pytest.approx(0.5, abs=0.06)
    assert found["moved"].psi == pytest.approx(0.25, abs=0.06)  # shift²
    assert abs(found["same"].mean_shift) < 0.06
    assert found["same"].psi < 0.02
    assert found["moved"].js > found["same"].js >= 0


def test_effects_of_categories_missing_values_and_constants_are_shares():
    rng = np.random.default_rng(4)
    x = np.column_stack((rng.integers(0, 2, 1000), np.zeros(1000), rng.normal(size=1000)))
    profile = ReferenceProfile.fit(x, names=["class", "constant", "holes"], kinds=["category", "value", "value"])
    now = np.column_stack((np.zeros(2000), np.repeat([0.0, 5.0], 1000), rng.normal(size=2000)))
    now[:500, 2] = np.nan
    detector = DriftDetector(profile)
    found = detector.update(now).effects
    assert set(found) == {"class", "constant", "holes", "holes.missing"}
    assert found["class"].mean_shift == pytest.approx(0.5, abs=0.03)
    assert found["constant"].mean_shift == pytest.approx(0.5, abs=0.03)
    assert effects(profile, detector.counts)["holes.missing"].mean_shift == pytest.approx(0.25)


def test_nothing_counted_has_no_effect():
    found = effects(reference(), WindowCounts.zero(reference()))
    assert all(abs(value) < 1e-12 for effect in found.values() for value in (effect.psi, effect.js, effect.w1))
