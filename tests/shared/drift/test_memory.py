"""What a time-ordered reference says of itself: what could be promised, and what not."""

from __future__ import annotations

import numpy as np
import pytest

from shared.drift import ReferenceProfile
from shared.errors import ProfileError
from tests.shared.drift.series import deviation, series


def fitted(x, **arguments):
    return ReferenceProfile.fit(x, time_ordered=True, **arguments)


def test_a_level_is_promised_where_the_reference_holds_twenty_means():
    rng = np.random.default_rng(0)
    profile = fitted(np.column_stack((series(rng, 2000, [0.6]), series(rng, 2000, [0.97]), rng.normal(size=2000))))
    assert profile.level["x0"].startswith("promised, level on means of ")
    assert profile.level["x1"].startswith("level not promised: memory ")
    assert profile.level["x1"].endswith(", 2000 seen")
    assert profile.level["x2"] == "promised"
    assert profile.layout.names == ("x0", "x1", "x2", "x0.missing", "x1.missing", "x2.missing", "x0.level")
    length = profile.memories[0].serial.length
    assert profile.level["x0"].endswith(f" {length}")
    assert 2000 // length == profile.memories[0].level.present
    assert profile.tau("x0") == profile.tau("x0.level") == profile.tau("x0.missing") == profile.memories[0].tau
    assert profile.tau("x2") == profile.tau("unknown") == 1
    assert profile.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("coefficients", [[0.6], [0.9], [1.2, -0.4]])
def test_memory_is_what_theory_says(coefficients):
    found = [m.tau for m in fitted(series(np.random.default_rng(1), 4000, coefficients, 5)).memories]
    theory = 1 / ((1 - sum(coefficients)) * deviation(coefficients)) ** 2
    assert np.median(found) == pytest.approx(theory, rel=0.2)
    assert all(m.serial.length == np.ceil(max(8, 5 * m.tau)) for m in fitted(np.zeros((60, 1)) + 1).memories if m)


def test_stationary_references_hardly_ever_fail_their_own_test():
    rng = np.random.default_rng(2)
    profiles = [fitted(series(rng, 1000, c, 15)) for c in ([0.0], [0.6], [1.2, -0.4])]
    memories = [memory for profile in profiles for memory in profile.memories if memory is not None]
    assert sum(memory.band > 0 or memory.bursts for memory in memories) <= 2


def test_a_reference_that_moves_gets_a_band_and_no_promise():
    rng = np.random.default_rng(3)
    step = rng.normal(size=2000) + np.repeat([0.0, 0.5], [1600, 400])
    profile = fitted(step[:, None], names=["pressure"])
    text = profile.level["pressure"]
    assert text.startswith("not promised: the reference moves, a band of ")
    band = profile.memories[0].band
    middles = [part.mean() for part in np.array_split(step, 10)]
    assert band == pytest.approx(1.5 * (max(middles) - min(middles)) / profile.memories[0].unit)


def test_large_changes_that_follow_each_other_are_said():
    rng = np.random.default_rng(4)
    x, variance = np.zeros(2000), 1.0
    for t in range(1, 2000):
        e = np.sqrt(variance) * rng.normal()
        variance = 0.1 + 0.1 * e * e + 0.8 * variance
        x[t] = 0.7 * x[t - 1] + e
    sticky = (series(rng, 2000, [0.9])[:, 0] > 0).astype(float)
    profile = fitted(np.column_stack((x, sticky)))
    assert all(text.startswith("not promised: large changes follow each other") for text in profile.level.values())


def test_categories_keep_their_track_and_say_whether_they_follow_each_other():
    rng = np.random.default_rng(5)
    sticky = np.repeat(rng.integers(0, 4, 200), 10).astype(float)
    x = np.column_stack((sticky, rng.integers(0, 4, 2000)))
    profile = fitted(x, names=["sticky", "free"], kinds=["category", "category"])
    assert profile.level["free"] == "promised"
    assert profile.level["sticky"].startswith("not promised: answers follow each other, memory ")
    assert profile.memories[0].tau == pytest.approx(19, rel=0.25)  # (1 + κ) / (1 - κ), κ = 0.9
    assert [column.gaps.tolist() for column in profile.columns] == [
        column.gaps.tolist() for column in ReferenceProfile.fit(x, kinds=["category", "category"]).columns
    ]


def test_a_walk_a_trend_and_a_constant_are_no_errors():
    rng = np.random.default_rng(6)
    x = np.column_stack((rng.normal(size=600).cumsum(), np.arange(600.0), np.full(600, 2.0)))
    profile = fitted(x)
    assert "not promised" in profile.level["x0"]
    assert profile.level["x2"] == "promised"
    with pytest.raises(ProfileError, match="0 values that are not missing"):
        fitted(np.full((60, 1), np.nan))


def test_missing_and_infinite_values_of_the_reference_leave_the_model_alone():
    rng = np.random.default_rng(7)
    x = series(rng, 3000, [0.8], 3)
    x[rng.random(3000) < 0.2, 1] = np.nan
    x[rng.random(3000) < 0.01, 2] = np.inf
    profile = fitted(x)
    for memory in profile.memories:
        assert memory.serial.model.coefficients[0] == pytest.approx(0.8, abs=0.06)
    assert profile.columns[1].missing == pytest.approx(600, abs=80)
    assert np.isinf(profile.columns[2].sketch).any()


def test_a_name_that_a_level_needs_is_refused_in_one_line():
    x = series(np.random.default_rng(8), 2000, [0.5], 2)
    with pytest.raises(ProfileError, match=r"'a\.level' appears twice"):
        fitted(x, names=["a", "a.level"])
    assert ReferenceProfile.fit(x, names=["a", "a.level"]).names == ("a", "a.level")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("memory", lambda a: a[:, :-1]),
        ("memory", lambda a: a * np.nan),
        ("memory", lambda a: -a),
        ("memory_of", lambda a: a + 9),
        ("memory_of", lambda a: a[::-1].copy()),
        ("level_of", lambda a: a + 9),
        ("level_gaps", lambda a: a * 0),
        ("coefficients", lambda a: a * np.inf),
        ("coefficients_lengths", lambda a: a + 1),
        ("format", lambda a: a + 1),
    ],
)
def test_a_file_with_malformed_memories_is_refused(name, change):
    arrays = fitted(series(np.random.default_rng(9), 2000, [0.5], 2)).to_arrays()
    assert arrays["format"].tolist() == [2]
    arrays[name] = change(arrays[name])
    with pytest.raises(ProfileError, match="drift profile"):
        ReferenceProfile.from_arrays(arrays)
    del arrays[name]
    with pytest.raises(ProfileError, match=name):
        ReferenceProfile.from_arrays(arrays)


def test_a_file_gives_back_the_same_reference(tmp_path):
    rng = np.random.default_rng(10)
    x = np.column_stack((series(rng, 2000, [0.5]), rng.integers(0, 3, 2000), rng.normal(size=2000).cumsum()))
    profile = fitted(x, kinds=["value", "category", "value"])
    plain = ReferenceProfile.fit(x[:, :1], names=["plain"])
    joined = ReferenceProfile.join(plain, profile)
    joined.save(tmp_path / "p.npz")
    back = ReferenceProfile.load(tmp_path / "p.npz")
    assert (back.digest, back.level, back.layout) == (joined.digest, joined.level, joined.layout)
    assert joined.layout.names[-1] == "x0.level"
    assert plain.to_arrays()["format"].tolist() == [1]


@pytest.mark.parametrize("step", [2, 4, 5])
@pytest.mark.parametrize("n", [560, 575, 1000])
def test_a_staircase_such_as_a_date_is_no_stationary_series(step, n):
    profile = ReferenceProfile.fit((np.arange(n) // step + 19_000.0)[:, None], time_ordered=True)
    assert len(profile.names) == 1
