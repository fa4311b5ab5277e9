"""Does batching pay? Decided from durations that are made up here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.scheduler.times import ChunkSize, ServiceTimes


def run(times, cost, waiting, limit=32, calls=200):
    """Decide and measure ``calls`` times; returns the sizes that were used."""
    sizes = []
    for _ in range(calls):
        rows = times.rows(waiting, limit)
        times.add(rows, cost(rows), 0.0)
        sizes.append(rows)
    return sizes


def mlp(rows):
    """Eight microseconds a call, whatever is in it."""
    return 8e-6 + 0.1e-6 * rows


def cnn(rows):
    """1.07 times cheaper a row in a batch."""
    return 70e-6 * rows / (1.07 if rows > 1 else 1)


def test_a_model_whose_calls_are_overhead_is_batched():
    times = ServiceTimes()
    run(times, mlp, 1, calls=10)
    assert set(run(times, mlp, 20)[10:]) == {20}
    assert times.gain == pytest.approx(mlp(1) / (mlp(20) / 20), rel=0.01)
    assert times.pays


def test_a_model_whose_calls_are_arithmetic_is_not():
    times = ServiceTimes()
    run(times, cnn, 1, calls=10)
    assert set(run(times, cnn, 20)[10:]) == {1}
    assert times.gain == pytest.approx(1.07, rel=0.01)
    assert not times.pays


def test_the_best_size_is_used_and_not_the_largest():
    def cache(rows):
        return rows * (10e-6 if rows == 1 else 2e-6 if rows <= 8 else 5e-6)

    times = ServiceTimes()
    run(times, cache, 1, calls=10)
    run(times, cache, 8, calls=10)
    assert set(run(times, cache, 30)[10:]) == {8}


def test_what_has_changed_is_found_out():
    times = ServiceTimes()
    run(times, cnn, 1, calls=10)
    run(times, cnn, 20)
    assert run(times, mlp, 20, calls=3000)[-1] == 20
    assert 1 in run(times, mlp, 20, calls=600)
    assert run(times, cnn, 20, calls=6000)[-1] == 1


def test_one_preempted_call_decides_nothing():
    times = ServiceTimes()
    run(times, cnn, 1, calls=50)
    times.add(1, 1.0, 0.0)
    assert times.run_seconds(0.0) < 1.3 * cnn(1)


def test_the_first_two_batches_open_what_batches_need_and_are_forgotten():
    times = ServiceTimes()
    for _ in range(10):
        times.add(1, mlp(1), 0.0)
    for _ in range(2):
        times.add(8, 0.03, 0.0)
    for _ in range(6):
        times.add(8, mlp(8), 0.0)
    assert times.gain == pytest.approx(mlp(1) / (mlp(8) / 8), rel=1e-6)


def test_the_first_call_warms_up_and_is_forgotten():
    times = ServiceTimes()
    times.add(1, 5.0, 0.0)
    run(times, mlp, 1, calls=6)
    assert times.single == pytest.approx(mlp(1))


def test_old_estimates_refuse_nobody():
    times = ServiceTimes()
    run(times, mlp, 1, calls=10)
    assert times.run_seconds(0.5) == times.row_seconds(0.5) == pytest.approx(mlp(1))
    assert times.run_seconds(1.5) == times.row_seconds(1.5) == 0.0


def test_nothing_is_known_before_it_was_measured():
    times = ServiceTimes()
    assert (times.single, times.gain, times.pays, times.short) == (None, None, True, False)
    assert times.run_seconds(0.0) == times.row_seconds(0.0) == 0.0


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 64), st.floats(1e-7, 10)), max_size=600))
def test_never_more_than_wait_or_than_the_limit_and_never_less_than_one(calls):
    times = ServiceTimes()
    for waiting, limit, seconds in calls:
        rows = times.rows(waiting, limit)
        assert 1 <= rows <= min(waiting, limit)
        times.add(rows, seconds, 0.0)


@given(st.floats(1e-7, 1.0), st.floats(1e-3, 1.0))
def test_chunks_double_at_most_and_settle_at_the_time_they_may_take(row, seconds):
    chunk = ChunkSize(seconds)
    for _ in range(60):
        before = chunk.rows
        chunk.add(chunk.rows, row * chunk.rows)
        assert 1 <= chunk.rows <= 2 * before
    assert chunk.rows == 1 or chunk.rows * row <= seconds * 1.001
    assert chunk.rows == 65_536 or (chunk.rows + 1) * row > seconds * 0.999
