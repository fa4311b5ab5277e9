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


def test_a_sample_of_another_shape_or_dtype_begins_the_store_anew():
    store = filled(4, max_bytes=4 * SIZE)
    for name, sample in (("wide", np.zeros((8, 32), np.uint8)), ("signed", np.zeros((8, 32), np.int8))):
        store.offer(name, sample, "zero", 0.5, 9.0)
        assert [s.id for s in store.collect(9)] == [name]
        assert store.collect(9)[0].sample.dtype == sample.dtype
        assert store.bytes == SIZE


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
