"""How samples are dealt out: complete, disjoint, by group, by time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_trainer.data import Dataset
from cloud_trainer.data.grouped import by_group
from cloud_trainer.data.same import units
from cloud_trainer.data.split import REFERENCE_MINIMUM, by_time, shares_of, split, strata, stratified
from cloud_trainer.packaging import REFERENCE_MINIMUM as PACKAGE_MINIMUM
from shared.errors import DataError

SHARES = shares_of(0.25, 0.2)
cuts = st.tuples(st.floats(0.05, 0.4), st.floats(0.05, 0.4))


def dataset(n=400, classes=2, groups=None, times=None, x=None):
    x = np.arange(n, dtype=np.float32)[:, None] if x is None else x
    labels = tuple(f"c{i}" for i in range(classes))
    return Dataset(x, np.arange(n) % classes, labels, (), groups, times)


def deal(data, by, **more):
    return split(data, reference_share=0.25, test_share=0.2, seed=3, by=by, **more)


def test_the_reference_part_is_as_large_as_a_release_needs_it():
    assert REFERENCE_MINIMUM == PACKAGE_MINIMUM


@given(rows=st.lists(st.integers(0, 15), min_size=8, max_size=200), shares=cuts, seed=st.integers(0, 2**31))
def test_repeats_are_dealt_out_together_and_everything_once(rows, shares, seed):
    x = np.array(rows)[:, None]
    unit, _ = units(x)
    y = np.array(rows) % 2
    parts = stratified(y, {"a": shares[0], "b": shares[1], "c": 1 - sum(shares)}, np.random.default_rng(seed), unit)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(rows)))
    seen = [set(x[index, 0].tolist()) for index in parts.values()]
    assert not (seen[0] & seen[1])
    assert not (seen[0] & seen[2])
    assert not (seen[1] & seen[2])


@settings(max_examples=40, deadline=None)
@given(
    groups=st.lists(st.integers(0, 12), min_size=30, max_size=150).filter(lambda g: len(set(g)) >= 4),
    classes=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_no_group_is_on_both_sides_and_no_part_is_empty(groups, classes, seed):
    names = np.array([f"g{g}" for g in groups])
    rng = np.random.default_rng(seed)
    parts = by_group(names, rng.integers(0, classes, len(names)), SHARES, rng)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(names)))
    seen = [set(names[index].tolist()) for index in parts.values()]
    assert all(seen)
    assert sum(map(len, seen)) == len(set(names.tolist()))


@given(
    times=st.lists(st.integers(0, 40), min_size=30, max_size=150).filter(lambda t: len(set(t)) > 1),
    length=st.integers(0, 6),
)
def test_by_time_no_moment_is_on_both_sides_and_parts_follow_each_other(times, length):
    first = np.array(times, float)
    spans = np.stack([first, first + length], axis=1)
    if len(set(spans[:, 1])) == 1:
        return
    try:
        parts = [index for index in by_time(spans, SHARES).values() if len(index)]
    except DataError:
        if not length:
            raise
        return  # they overlap too much
    together = np.concatenate([np.zeros(0, int), *parts])  # where all overlap, no part has any, which split() refuses
    assert len(set(together.tolist())) == len(together)
    for before, after in itertools.pairwise(parts):
        assert spans[before, 1].max() < spans[after, 0].min()
    if length == 0:
        assert len(together) == len(times)


def test_groups_of_like_size_are_dealt_out_near_their_shares():
    groups = np.repeat([f"g{i}" for i in range(40)], 10)
    parts = deal(dataset(groups=groups), "group").parts()
    for name, part in parts.items():
        assert abs(len(part) / 400 - SHARES[name]) < 0.06
        assert abs(part.y.mean() - 0.5) < 0.1


def test_class_of_one_group_is_trained_on_and_the_other_parts_are_said_to_lack_it():
    groups = np.repeat([f"g{i}" for i in range(20)], 20)
    data = dataset(groups=groups)
    rare = Dataset(data.x, np.where(groups == "g7", 1, 0), ("many", "rare"), (), groups)
    splits = deal(rare, "group")
    assert (splits.train.y == 1).sum() == 20
    said = {finding.where: finding.text for finding in splits.findings if finding.check == "classes missing"}
    assert set(said) == {"validation", "reference", "test"}
    assert "no sample of rare" in said["test"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_groups_say_what_would_be_right(count):
    groups = np.array([f"g{i % count}" for i in range(400)])
    with pytest.raises(
        DataError, match=rf'{count} groups; 4 parts .* leave data.group out, or set data.split to "random"'
    ):
        deal(dataset(groups=groups), "group")


def test_class_that_only_comes_last_cannot_be_split_by_time():
    data = dataset(times=np.arange(400.0))
    late = Dataset(data.x, (np.arange(400) > 350).astype(int), ("a", "b"), (), None, data.times)
    with pytest.raises(DataError, match="class 'b': its 49 samples come only after the others"):
        deal(late, "time")


def test_all_of_the_same_time():
    with pytest.raises(DataError, match="every sample has the same time"):
        deal(dataset(times=np.zeros(400)), "time")


def test_numbers_are_dealt_out_evenly_by_size():
    y = np.random.default_rng(0).lognormal(size=400).astype(np.float32)
    parts = deal(Dataset(np.arange(400.0)[:, None], y), "random").parts()
    for part in parts.values():
        assert abs((part.y > np.median(y)).mean() - 0.5) < 0.1


def test_numbers_that_are_all_the_same_are_one_stratum():
    assert set(strata(np.zeros(40)).tolist()) == {0}


def test_repeats_stay_in_one_part_unless_nearly_all_are_repeats():
    few = np.arange(400) % 350
    splits = deal(dataset(x=few[:, None].astype(np.float32)), "random")
    seen = [set(part.x.ravel().tolist()) for part in splits.parts().values()]
    assert sum(map(len, seen)) == 350
    many = np.arange(400) % 7
    splits = deal(dataset(x=many[:, None].astype(np.float32)), "random")
    assert [finding.check for finding in splits.findings] == ["duplicates"]
    assert min(map(len, splits.parts().values())) > 20


def test_parts_carry_groups_times_columns_and_rate():
    data = Dataset(
        np.arange(400.0)[:, None],
        np.arange(400) % 2,
        ("a", "b"),
        ("v",),
        np.arange(400).astype(str),
        np.arange(400.0),
        50.0,
    )
    part = deal(data, "time").test
    assert part.columns == ("v",)
    assert part.rate == 50.0
    assert (part.times == part.x[:, 0]).all()
    assert (part.groups == part.x[:, 0].astype(int).astype(str)).all()


def test_samples_that_overlap_too_much_for_parts_that_do_not():
    spans = np.stack([np.arange(400.0), np.arange(400.0) + 200], axis=1)
    with pytest.raises(DataError, match="samples that overlap with 199 others each are too few for 4 parts"):
        deal(dataset(), "time", spans=spans)


def test_small_parts_do_not_pay_alone_for_the_gaps():
    spans = np.stack([np.arange(400.0), np.arange(400.0) + 60], axis=1)
    parts = deal(dataset(times=np.arange(400.0)), "time", spans=spans, every_class=False).parts()
    left = 400 - 3 * 60
    for name, part in parts.items():
        assert abs(len(part) - SHARES[name] * left) <= 2
