"""The store of samples is bounded by bytes and gives what was asked for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.samples import OVERHEAD_BYTES, SampleStore

SIZE = 256 + OVERHEAD_BYTES


def filled(n, max_bytes=1 << 20):
    store = SampleStore(max_bytes)
    for i in range(n):
        store.offer(str(i), np.full((16, 16), i % 256, np.uint8), "zero", 0.5, float(i))
    return store


def test_the_oldest_go_first_and_bytes_stay_bounded():
    store = filled(100, max_bytes=10 * SIZE + 5)
    assert len(store) == 10
    assert store.bytes == 10 * SIZE
    assert [s.id for s in store.collect(100)] == [str(i) for i in range(90, 100)]


def test_a_sample_is_copied_when_it_is_offered():
    store, sample = SampleStore(1 << 16), np.zeros(4)
    store.offer("a", sample, "zero", 0.5, 1.0)
    sample[:] = 7
    assert store.collect(1)[0].sample.tolist() == [0, 0, 0, 0]


def test_a_sample_larger_than_the_store_is_not_kept():
    store = filled(3, max_bytes=3 * SIZE)
    store.offer("big", np.zeros(10_000), "zero", 0.5, 9.0)
    assert [s.id for s in store.collect(9)] == ["0", "1", "2"]


def test_samples_of_other_shapes_and_dtypes_are_kept_beside_the_others():
    store = filled(4, max_bytes=6 * SIZE)
    for name, sample in (("wide", np.full((8, 32), 5, np.uint8)), ("signed", np.full((16, 16), -5, np.int8))):
        store.offer(name, sample, "zero", 0.5, 9.0)
    store.offer("4", np.full((16, 16), 4, np.uint8), "zero", 0.5, 9.0)
    found = store.collect(9)
    assert [s.id for s in found] == ["1", "2", "3", "wide", "signed", "4"]
    assert [int(s.sample[0, 0]) for s in found] == [1, 2, 3, 5, -5, 4]
    assert found[3].sample.shape == (8, 32)
    assert found[4].sample.dtype == np.int8
    assert store.bytes == 6 * SIZE


@given(st.lists(st.sampled_from([(4,), (2, 2), (50,), (300,), (0,)]), max_size=60), st.integers(1, 4000))
def test_whatever_comes_the_newest_are_kept_as_they_were_and_memory_stays_bounded(shapes, max_bytes):
    store = SampleStore(max_bytes)
    offered = []
    for i, shape in enumerate(shapes):
        sample = np.full(shape, i, np.uint8)
        store.offer(str(i), sample, "", 0.0, float(i))
        if sample.nbytes + OVERHEAD_BYTES <= max_bytes:
            offered.append((str(i), sample))
        each = 0 if store._slots is None else store._slots[0].nbytes + OVERHEAD_BYTES
        assert store._used * each + store._apart <= max_bytes
        found = store.collect(99)
        newest = offered[len(offered) - len(found) :]
        assert [s.id for s in found] == [name for name, _ in newest]
        for one, (_, kept) in zip(found, newest, strict=True):
            np.testing.assert_array_equal(one.sample, kept)
        assert store.bytes == sum(kept.nbytes + OVERHEAD_BYTES for _, kept in newest) <= max_bytes
        assert found or not offered


def test_samples_too_large_to_keep_are_told_once(caplog):
    store = SampleStore(1000)
    for i in range(3):
        store.offer(str(i), np.zeros(5000), "", 0.0, 0.0)
    assert [record.getMessage() for record in caplog.records] == [
        "samples of 40256 bytes are not kept: [samples] max_bytes is 1000"
    ]


def test_samples_come_back_as_they_were_after_many_rounds():
    store = filled(100, max_bytes=7 * SIZE)
    assert [(s.id, int(s.sample[0, 0]), s.sample.shape) for s in store.collect(7)] == [
        (str(i), i, (16, 16)) for i in range(93, 100)
    ]


def test_what_was_collected_stays_when_its_slot_is_used_again():
    store = filled(7, max_bytes=7 * SIZE)
    found = store.collect(7)
    for i in range(7, 14):
        store.offer(str(i), np.full((16, 16), i, np.uint8), "zero", 0.5, float(i))
    assert [int(s.sample[5, 5]) for s in found] == list(range(7))


def test_only_newer_ones_are_collected():
    assert [s.id for s in filled(10).collect(99, since=7.0)] == ["7", "8", "9"]
    assert filled(10).collect(5, since=100.0) == []


def test_few_of_many_are_spread_over_the_whole_time():
    found = [int(s.id) for s in filled(100).collect(5)]
    assert found == [0, 25, 50, 74, 99]


@given(st.integers(0, 60), st.integers(0, 80), st.integers(0, 60))
def test_never_more_than_asked_in_order_and_none_twice(n, count, since):
    found = [int(s.id) for s in filled(n).collect(count, since=float(since))]
    assert len(found) == min(count, max(n - since, 0))
    assert found == sorted(set(found))
    assert all(i >= since for i in found)
