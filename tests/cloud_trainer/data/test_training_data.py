"""Training data: what is refused, and how it is dealt out."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_trainer.config import DataConfig, TaskConfig
from cloud_trainer.data import (
    Dataset,
    Labelled,
    check,
    deal,
    digest,
    join,
    load_splits,
    read_labelled,
    value_range,
    write_labelled,
)
from cloud_trainer.data.oversample import alter, oversample
from cloud_trainer.data.split import split, stratified
from cloud_trainer.features import float_warning
from shared.errors import ConfigError, DataError, UsageError

LABELS = ("a", "b", "c")


def images(n=300, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return Dataset(rng.integers(0, 256, (n, 8, 8), dtype=np.uint8), np.arange(n) % classes, LABELS[:classes])


def task(**data):
    return TaskConfig(name="t", kind="image-classification", data=DataConfig(**data))


@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    cut=st.tuples(st.floats(0.05, 0.4), st.floats(0.05, 0.4)),
    seed=st.integers(0, 2**31),
)
def test_every_sample_is_dealt_out_once_and_each_class_by_its_share(counts, cut, seed):
    y = np.repeat(np.arange(len(counts)), counts)
    shares = {"a": cut[0], "b": cut[1], "c": 1 - sum(cut)}
    if not len(y):
        return
    parts = stratified(y, shares, np.random.default_rng(seed))
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(y)))
    for value, count in enumerate(counts):
        for name, share in shares.items():
            assert abs((y[parts[name]] == value).sum() - share * count) <= 1


def test_same_seed_same_split_and_another_seed_another():
    data = images()
    one, same, other = (split(data, reference_share=0.25, test_share=0.2, seed=s) for s in (1, 1, 2))
    assert digest(list(one.parts().values())) == digest(list(same.parts().values()))
    assert digest(list(one.parts().values())) != digest(list(other.parts().values()))


def test_digest_tells_samples_classes_and_labels_apart():
    data = images()
    changed = data.x.copy()
    changed[0, 0, 0] ^= 1
    found = {
        digest([data]),
        digest([Dataset(changed, data.y, LABELS)]),
        digest([Dataset(data.x, data.y[::-1], LABELS)]),
        digest([Dataset(data.x, data.y, ("a", "b", "d"))]),
    }
    assert len(found) == 4


@pytest.mark.parametrize(
    ("x", "y", "labels", "message"),
    [
        (np.zeros((4, 8, 8)), np.zeros(4, int), ("a", "b"), "class 'b' has no samples"),
        (np.zeros((4, 8, 8)), np.array([0, 1, 2, 0]), ("a", "b"), "y has class 2, but there are 2 labels (0 to 1)"),
        (np.zeros((4, 8, 8)), np.array([0, 1, -1, 0]), ("a", "b"), "y has class -1; classes must be 0 to N-1"),
        (np.zeros((4, 8, 8)), np.array([0, 1, 0]), ("a", "b"), "4 samples in x but 3 in y"),
        (np.zeros((0, 8, 8)), np.zeros(0, int), ("a", "b"), "no samples"),
        (np.zeros((4, 8, 8)), np.zeros(4), ("a", "b"), "expected one integer class per sample"),
        (np.array(["x", "y"]), np.array([0, 1]), ("a", "b"), "must be numbers of one shape"),
        (np.zeros(2), np.array([0, 1]), ("a", "b"), "expected (samples, ...)"),
        (np.zeros((2, 8)), np.array([0, 0]), ("a",), "at least two"),
        (np.array([[0.0], [1.0], [np.nan]]), np.array([0, 1, 0]), ("a", "b"), "sample 2 has NaN"),
        (np.array([[0.0], [1e300], [1.0]]), np.array([0, 1, 0]), ("a", "b"), "sample 1 has NaN or infinite"),
    ],
)
def test_unusable_data_is_refused_in_one_line(x, y, labels, message):
    with pytest.raises(DataError) as error:
        check(Dataset(x, y, labels), "train.npz")
    assert message in str(error.value)
    assert str(error.value).startswith("train.npz: ")
    assert "\n" not in str(error.value)


def test_class_with_one_sample_cannot_be_in_every_part():
    data = images(101)
    rare = Dataset(data.x, np.where(np.arange(101) == 0, 2, data.y % 2), LABELS)
    with pytest.raises(DataError, match="class 'c' has 1 samples, too few for a"):
        split(rare, reference_share=0.25, test_share=0.2, seed=0)


def test_shares_that_leave_nothing_to_train_on():
    with pytest.raises(DataError, match="leave nothing to train on"):
        split(images(), reference_share=0.6, test_share=0.5, seed=0)


def test_npz_file_gives_disjoint_parts_and_names(tmp_path):
    data = images()
    np.savez(tmp_path / "d.npz", x=data.x, y=data.y, names=np.array(["x", "y", "z"]))
    splits = load_splits(task(format="npz", path=str(tmp_path / "d.npz")))
    assert splits.train.labels == ("x", "y", "z")
    assert sum(len(part) for part in splits.parts().values()) == 300


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"no archive"), "not a readable .npz"),
        (lambda path: np.savez(path, x=np.zeros((4, 8, 8))), "no array 'y'"),
        (
            lambda path: np.savez(path, x=np.array([np.zeros(3), np.zeros(4)], dtype=object), y=np.array([0, 1])),
            "objects instead of numbers",
        ),
    ],
)
def test_unreadable_files_are_refused_in_one_line(tmp_path, write, message):
    path = tmp_path / "d.npz"
    write(path)
    with pytest.raises(DataError, match=message):
        load_splits(task(format="npz", path=str(path)))


@pytest.mark.parametrize("read", [lambda path: load_splits(task(format="npz", path=str(path))), read_labelled])
def test_data_that_is_not_there_is_wrong_use(tmp_path, read):
    with pytest.raises(UsageError, match=f"{tmp_path / 'gone'}: no such"):
        read(tmp_path / "gone")


def test_floats_become_float32_and_bytes_stay_bytes():
    y = np.arange(3)
    for dtype in (np.float16, np.float32, np.float64):
        assert check(Dataset(np.eye(3, dtype=dtype), y, LABELS), "x").x.dtype == np.float32
    for dtype in (np.uint8, np.uint16):
        assert check(Dataset(np.eye(3, dtype=dtype), y, LABELS), "x").x.dtype == dtype


def test_floats_are_warned_of_with_their_range_and_bytes_are_not():
    x = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    said = float_warning(x, value_range(x, "x"))
    assert said == "x is float: devices must send float32 in the same range, found 0 to 1"
    assert float_warning(images().x, (0, 255)) is None


def test_samples_that_are_all_the_same_value():
    with pytest.raises(DataError, match="train split: every value of x is 7"):
        value_range(np.full((4, 8, 8), 7, np.uint8), "train split")


@pytest.mark.parametrize(
    ("factory", "error"),
    [("nowhere", ConfigError), ("no.such.module:f", ConfigError), ("os:getcwd", DataError)],
)
def test_factory_that_leads_nowhere(factory, error):
    with pytest.raises(error):
        load_splits(task(format="python", factory=factory))


def test_labelled_samples_survive_the_round_trip_through_files(tmp_path):
    data = images(20)
    write_labelled(tmp_path / "l", [Labelled("cam-1", tuple(f"cam-1-{i}" for i in range(20)), data.x, data.y)])
    (found,) = read_labelled(tmp_path / "l")
    assert found.device == "cam-1"
    assert found.ids[3] == "cam-1-3"
    assert (found.x == data.x).all()


def test_held_out_share_is_never_trained_on_and_the_same_for_the_same_seed():
    data = images(60, seed=4)
    labelled = Labelled("cam-1", tuple(map(str, range(60))), data.x, data.y)
    share, again = deal(labelled, images(), 0.4, 7), deal(labelled, images(), 0.4, 7)
    assert len(share.held_out) == 24
    together = {sample.tobytes() for sample in share.train.x} & {sample.tobytes() for sample in share.held_out.x}
    assert not together
    assert (again.held_out.x == share.held_out.x).all()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((40, 4, 4), np.uint8), np.arange(40) % 3, "the model takes uint8"),
        (np.zeros((40, 8, 8), np.uint8), np.arange(40), r"y has class 39, but there are 3 labels \(0 to 2\)"),
        (np.zeros((1, 8, 8), np.uint8), np.zeros(1, int), "too few"),
    ],
)
def test_labelled_samples_that_do_not_fit_the_model(x, y, message):
    with pytest.raises(DataError, match=message):
        deal(Labelled("cam-1", tuple(map(str, range(len(x)))), x, y), images(), 0.4, 0)


def test_new_samples_are_repeated_with_changes_that_keep_dtype_and_range():
    few = images(30)
    many = oversample(few, 600, 0)
    assert len(many) == 300
    assert (many.x[:30] == few.x).all()
    assert many.x.dtype == np.uint8
    assert (many.y[30:60] == few.y).all()
    altered = alter(few.x, np.random.default_rng(0))
    assert (altered != few.x).any()
    assert np.abs(altered.astype(float).mean((1, 2)) - few.x.astype(float).mean((1, 2))).max() < 40


def test_labelled_rows_of_words_and_numbers_are_dealt_out_and_repeated_as_they_are():
    x = np.array([["1", "red"], ["", "blue"]] * 20, dtype=np.str_)
    like = Dataset(x.astype(object), np.arange(40) % 2, ("a", "b"), ("size", "color"))
    shares = deal(Labelled("m-1", tuple(map(str, range(40))), x, np.arange(40) % 2), like, 0.4, 0)
    assert shares.train.x.dtype == object
    assert shares.train.columns == ("size", "color")
    many = oversample(shares.train, 200, 0, images=False)
    assert len(many) == 96
    assert (many.x[24:48] == shares.train.x).all()


def test_labelled_numbers_are_dealt_out_by_size():
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    like = Dataset(x, x[:, 0], (), ("a", "b", "c"))
    shares = deal(Labelled("m-1", tuple(map(str, range(40))), x, x[:, 0]), like, 0.5, 0)
    assert shares.train.y.dtype == np.float32
    assert abs((shares.train.y > 0).mean() - (shares.held_out.y > 0).mean()) < 0.2


def test_join_and_digest_carry_everything_that_belongs_to_samples():
    one = Dataset(np.eye(3), np.arange(3), LABELS, ("u", "v", "w"), np.array(["g", "g", "h"]), np.arange(3.0), 8.0)
    both = join([one, one])
    assert (both.columns, both.rate, both.groups.tolist()) == (one.columns, 8.0, ["g", "g", "h"] * 2)
    assert both.times.tolist() == [0, 1, 2, 0, 1, 2]
    changes = [{"columns": ("u", "v", "x")}, {"groups": None}, {"times": one.times + 1}, {"rate": 9.0}]
    assert len({digest([one]), *(digest([msgspec.structs.replace(one, **change)]) for change in changes)}) == 5
    words = [Dataset(np.array(cells, object), np.arange(2), LABELS) for cells in (["ab", "c"], ["a", "bc"])]
    assert digest(words[:1]) != digest(words[1:])


def broken(task):
    raise KeyError("no such table")


def test_factory_that_fails():
    with pytest.raises(DataError, match=r":broken failed: KeyError: 'no such table'"):
        load_splits(task(format="python", factory=f"{__name__}:broken"))
