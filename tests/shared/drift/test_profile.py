"""References: what fits, what is refused, and that files come back as they went."""

from __future__ import annotations

import numpy as np
import pytest

from shared.drift import DriftDetector, ReferenceProfile
from shared.drift.arrays import load_arrays, save_arrays
from shared.errors import InputError, ProfileError


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 4))
    x[:, 1] = 7.0
    x[:, 2] = rng.integers(0, 5, 400)
    x[rng.random(400) < 0.1, 3] = np.nan
    return x


@pytest.fixture(scope="module")
def profile(table):
    return ReferenceProfile.fit(
        table,
        names=["a", "constant", "class", "holes"],
        families=["inputs", "inputs", "classes", "inputs"],
        kinds=["value", "value", "category", "value"],
    )


def test_gaps_of_a_value_column_are_rank_gaps_and_sum_to_n_plus_one(profile):
    column = profile.columns[0]
    assert column.gaps.sum() == 401
    assert column.gaps[0] == column.gaps[-1] == 1
    assert len(column.gaps) == 18


def test_same_data_same_digest_other_data_another(table):
    one, two = ReferenceProfile.fit(table), ReferenceProfile.fit(table.copy())
    assert one.digest == two.digest
    assert len(one.digest) == 16
    changed = table.copy()
    changed[0, 0] += 100
    assert ReferenceProfile.fit(changed).digest != one.digest
    assert ReferenceProfile.fit(table, names=["a", "b", "c", "d"]).digest != one.digest


def test_a_file_gives_back_the_same_profile(profile, tmp_path):
    profile.save(tmp_path / "p.npz")
    back = ReferenceProfile.load(tmp_path / "p.npz")
    assert back.digest == profile.digest
    assert (back.names, back.families, back.kinds) == (profile.names, profile.families, profile.kinds)
    assert back.level == dict.fromkeys(profile.names, "promised")


def test_join_puts_columns_side_by_side_whatever_their_row_counts(profile, table):
    other = ReferenceProfile.fit(table[:100, :1], names=["b"], families=["confidence"])
    joined = ReferenceProfile.join(profile, other)
    assert joined.names == (*profile.names, "b")
    assert joined.families[-1] == "confidence"
    assert joined.digest not in {profile.digest, other.digest}
    with pytest.raises(ProfileError, match="'a' appears twice"):
        ReferenceProfile.join(profile, profile)


def test_weights_go_by_family_first(profile):
    # an eighth for 4 missing flags; inputs (3 scalars) and classes (1) share the rest
    inputs, classes, flag = 7 / 48, 7 / 16, 1 / 32
    np.testing.assert_allclose(profile.weights, [inputs, inputs, classes, inputs, *[flag] * 4])


def test_rare_and_unseen_categories_share_the_last_bin():
    x = np.repeat([1.0, 2.0, 3.0, 9.0], [200, 100, 50, 1])
    column = ReferenceProfile.fit(x, kinds=["category"]).columns[0]
    assert column.edges.tolist() == [1, 2, 3, 9]
    assert column.gaps.tolist() == [200, 100, 50, 1, 2]  # one for what never came, one for what came once
    many = ReferenceProfile.fit(np.repeat(np.arange(40.0), np.arange(40) + 2), bins=16, kinds=["category"]).columns[0]
    assert many.edges.tolist() == list(range(24, 40))
    assert many.gaps[-1] == np.arange(2, 26).sum() + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X": np.zeros((49, 2))}, "49 rows; at least 50"),
        ({"X": np.full((60, 1), np.nan)}, "0 values that are not missing"),
        ({"X": [["a"]] * 60}, "table of numbers"),
        ({"X": np.zeros((60, 2, 2))}, "rows by 1 to"),
        ({"X": np.zeros((60, 2)), "names": ["a"]}, "1 names for 2 columns"),
        ({"X": np.zeros((60, 2)), "names": ["a", "a"]}, "'a' appears twice"),
        ({"X": np.zeros((60, 2)), "names": ["a", "a.missing"]}, "'a.missing' appears twice"),
        ({"X": np.zeros((60, 2)), "names": ["a", ""]}, "1 to 128 characters"),
        ({"X": np.zeros((60, 1)), "kinds": ["colour"]}, "'colour' is neither"),
        ({"X": np.zeros((60, 1)), "bins": 1}, "bins must be"),
    ],
)
def test_what_cannot_be_a_reference_is_refused_in_one_line(arguments, message):
    with pytest.raises(ProfileError, match=message) as caught:
        ReferenceProfile.fit(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["gaps", "edges", "rows", "names", "format", "scores_lengths"])
def test_a_file_without_one_of_its_arrays_is_refused(profile, name):
    arrays = profile.to_arrays()
    del arrays[name]
    with pytest.raises(ProfileError, match=name):
        ReferenceProfile.from_arrays(arrays)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("format", lambda a: a + 1),
        ("gaps", lambda a: a * 0),
        ("gaps", lambda a: a * np.nan),
        ("edges", lambda a: a[::-1].copy()),
        ("edges_lengths", lambda a: a + 1),
        ("rows", lambda a: -a),
        ("unit", lambda a: a - 1e9),
        ("names", lambda a: a[:1]),
        ("edges", lambda a: a.astype(np.int64)),
        ("kinds", lambda a: np.char.add(a, "x")),
    ],
)
def test_a_file_with_malformed_arrays_is_refused(profile, name, change):
    arrays = profile.to_arrays()
    arrays[name] = change(arrays[name])
    with pytest.raises(ProfileError):
        ReferenceProfile.from_arrays(arrays)


def test_damaged_missing_or_oversized_files_are_refused(profile, tmp_path):
    path = tmp_path / "p.npz"
    with pytest.raises(ProfileError, match="cannot be read"):
        ReferenceProfile.load(path)
    profile.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ProfileError, match="damaged"):
        ReferenceProfile.load(path)
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :])
    with pytest.raises(ProfileError):
        ReferenceProfile.load(path)
    path.write_bytes(data)
    with pytest.raises(ProfileError, match="at most 1000"):
        load_arrays(path, max_bytes=1000)
    with pytest.raises(ProfileError, match="cannot be written"):
        profile.save(tmp_path / "nowhere" / "p.npz")


def test_a_file_with_python_objects_is_refused(tmp_path):
    path = tmp_path / "p.npz"
    np.savez(path, names=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ProfileError, match="not a drift profile"):
        load_arrays(path)
    save_arrays(path, {"a": np.arange(3)})
    assert load_arrays(path)["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("X", "arguments"),
    [
        ([[10**400]] * 60, {}),
        (np.ones((60, 1), complex), {}),
        (np.array(["2024-01-01"] * 60, "datetime64[D]"), {}),
        ([["a"]] * 60, {}),
        ([[1.0], [1.0, 2.0]] * 30, {}),
        (np.arange(60.0), {"bins": 16.5}),
        (np.arange(60.0), {"names": [1]}),
        (np.arange(60.0), {"kinds": [None]}),
    ],
)
def test_what_is_no_table_of_numbers_or_no_argument_is_refused_in_a_line(X, arguments):
    with pytest.raises(ProfileError) as failed:
        ReferenceProfile.fit(X, **arguments)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    "arguments", [{"window": 2.5}, {"window": "32"}, {"false_alarm_every": "90d"}, {"false_alarm_every": None}]
)
def test_a_knob_that_is_no_number_is_refused(arguments):
    with pytest.raises(ProfileError, match=next(iter(arguments))):
        DriftDetector(ReferenceProfile.fit(np.arange(60.0)), **arguments)


def test_rows_that_no_float_can_hold_are_refused_and_the_next_are_served():
    detector = DriftDetector(ReferenceProfile.fit(np.arange(60.0)))
    for wrong in ([[10**400]], np.ones((3, 1), complex), [["x"]]):
        with pytest.raises(InputError, match="numbers"):
            detector.update(wrong)
    assert detector.update([[1], [2]]).samples == 2


def test_a_path_may_be_text(tmp_path):
    profile = ReferenceProfile.fit(np.arange(60.0))
    profile.save(str(tmp_path / "p.npz"))
    assert ReferenceProfile.load(str(tmp_path / "p.npz")).digest == profile.digest
