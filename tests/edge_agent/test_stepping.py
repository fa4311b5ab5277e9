"""Stepping down and up: pure numbers and times."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.stepping import Stepper, SteppingConfig, ladder
from shared.messages import SelectionRow


def row(variant, p50, quality=0.9):
    return SelectionRow(variant=variant, runtime="litert", precision="int8", bytes=1, p50_us=p50, quality=quality)


TABLE = [row("big", 1000, 0.95), row("middle", 400, 0.94), row("small", 100, 0.92), row("tiny", 10, 0.5)]


DEFAULT = SteppingConfig()


class Device:
    """A minute hand: ``run`` observes once a second and collects what is asked for."""

    def __init__(self, config=DEFAULT, rows=TABLE, chosen="big"):
        self.stepper = Stepper(rows, config, chosen)
        self.now = 0.0
        self.asked = []

    def run(self, seconds, *, misses=0, answers=10, throttled=False, p99=0.0):
        asked = []
        for _ in range(int(seconds)):
            self.now += 1
            wanted = self.stepper.observe(self.now, p99, misses, answers, throttled)
            if wanted is not None:
                asked.append((self.now, wanted))
        self.asked += asked
        return [name for _, name in asked]


@pytest.mark.parametrize(
    ("chosen", "drop", "expected"),
    [
        ("big", 0.05, ["big", "middle", "small"]),
        ("big", 0.01, ["big", "middle"]),
        ("big", 0.0, ["big"]),
        ("big", 1.0, ["big", "middle", "small", "tiny"]),
        ("small", 0.05, ["small"]),
        ("gone", 0.05, []),
    ],
)
def test_the_steps_are_the_cheaper_ones_within_the_drop(chosen, drop, expected):
    assert [r.variant for r in ladder(TABLE, chosen, drop)] == expected


def test_a_slower_and_worse_variant_is_no_step_nor_one_hardly_cheaper():
    rows = [row("a", 1000, 0.95), row("slow and bad", 500, 0.90), row("b", 400, 0.93), row("as fast", 390, 0.92)]
    assert [r.variant for r in ladder(rows, "a", 0.1)] == ["a", "b"]


def test_what_was_not_measured_or_has_no_quality_is_no_step():
    rows = [row("a", 1000, 0.95), row("b", None, 0.95), row("c", 10, None)]
    assert [r.variant for r in ladder(rows, "a", 0.1)] == ["a"]
    unknown = [row("a", 1000, None), row("c", 10, None), row("d", 5, 0.1)]
    assert [r.variant for r in ladder(unknown, "a", 0.1)] == ["a", "d"]
    assert [r.variant for r in ladder([row("a", None)], "a", 0.1)] == ["a"]


def test_sustained_misses_step_down_one_at_a_time_and_end_at_the_last():
    device = Device()
    assert device.run(60, misses=2) == ["middle", "small"]
    assert device.stepper.lowered


def test_misses_that_do_not_last_change_nothing():
    device = Device()
    for _ in range(20):
        assert device.run(3, misses=5) == []
        assert device.run(30) == []


def test_few_answers_and_few_misses_are_no_reason():
    assert Device(SteppingConfig(least_answers=100)).run(300, misses=1, answers=1) == []
    assert Device().run(300, misses=1, answers=30) == []


def test_throttling_steps_down_even_without_misses():
    assert Device().run(15, throttled=True) == ["middle"]


def test_a_slow_tail_steps_down_where_a_limit_is_set():
    config = SteppingConfig(p99_ms=2)
    assert Device(config).run(15, p99=2_100) == ["middle"]
    assert Device(config).run(15, p99=1_900) == []
    assert Device().run(15, p99=1e9) == []


def test_after_a_calm_time_it_steps_back_up_to_the_chosen_one():
    device = Device(SteppingConfig(up_seconds=100))
    device.run(60, misses=5)
    assert device.stepper.variant == "small"
    assert device.run(99) == []
    assert device.run(300) == ["middle", "big"]
    assert not device.stepper.lowered
    assert device.run(1000) == []


def test_no_step_up_where_the_slower_one_would_break_the_limit():
    device = Device(SteppingConfig(p99_ms=2, up_seconds=100))
    device.run(15, p99=2_500)
    assert device.stepper.variant == "middle"
    assert device.run(1000, p99=1_500) == []  # 1.5 ms × 1000 / 400 is above 2 ms
    assert device.run(1000, p99=700) == ["big"]


def test_time_without_answers_proves_nothing():
    device = Device(SteppingConfig(up_seconds=100))
    device.run(15, misses=5)
    assert device.run(1000, answers=0) == []
    assert device.run(100) == ["big"]


def test_a_step_up_that_did_not_hold_doubles_the_wait_and_one_that_held_ends_that():
    device = Device(SteppingConfig(up_seconds=100, up_seconds_most=350), rows=TABLE[:2])
    waits = []
    for _ in range(4):
        device.run(15, misses=5)
        waits.append(device.stepper.wait_seconds)
        device.run(device.stepper.wait_seconds + 20)
        assert device.stepper.variant == "big"
    assert waits == [100, 200, 350, 350]
    device.run(400)
    assert device.stepper.wait_seconds == 100


def test_a_device_that_is_always_too_slow_for_the_best_hardly_ever_tries():
    device = Device(rows=TABLE[:2])
    for _ in range(24 * 3600):
        device.run(1, misses=5 if device.stepper.variant == "big" else 0)
    ups = [name for _, name in device.asked if name == "big"]
    assert len(ups) <= 12  # 5, 10, 20, ... minutes, then every four hours


def test_a_switch_that_failed_is_not_asked_for_again():
    device = Device()
    assert device.run(12, misses=5) == ["middle"]
    device.stepper.failed("middle")
    assert device.stepper.variant == "big"
    assert device.run(100, misses=5) == ["small"]
    device.stepper.failed("no such thing")
    assert device.stepper.steps == ("big", "small")


def test_a_failed_step_up_stays_below():
    device = Device(SteppingConfig(up_seconds=50))
    device.run(40, misses=5)
    assert device.run(60) == ["middle"]
    device.stepper.failed("middle")
    assert device.stepper.variant == "small"
    assert device.run(60) == ["big"]


def test_a_pause_of_the_observer_counts_as_one_window_at_most():
    stepper = Stepper(TABLE, SteppingConfig(down_seconds=10, up_seconds=100), "big")
    assert stepper.observe(0, 0, 5, 30, False) is None
    assert stepper.observe(5, 0, 5, 30, False) is None
    assert stepper.observe(1e6, 0, 5, 30, False) == "middle"
    assert stepper.observe(2e6, 0, 0, 30, False) is None
    assert stepper.observe(1e6, 0, 0, 30, False) is None  # a clock that jumps back does no harm


@given(
    st.lists(
        st.tuples(
            st.floats(-5, 400), st.floats(0, 1e4), st.integers(0, 50), st.integers(0, 50), st.booleans(), st.booleans()
        ),
        max_size=200,
    ),
    st.builds(
        SteppingConfig,
        step_quality_drop=st.floats(0, 1),
        p99_ms=st.one_of(st.none(), st.floats(0.1, 10)),
        up_seconds=st.floats(1, 500),
    ),
)
def test_it_moves_one_step_at_a_time_and_only_within_the_table(seen, config):
    stepper = Stepper(TABLE, config, "big")
    now = 0.0
    for passed, p99, misses, more, throttled, fails in seen:
        steps, before = list(stepper.steps), stepper.variant
        now += passed
        wanted = stepper.observe(now, p99, misses, misses + more, throttled)
        if wanted is None:
            assert stepper.variant == before
            continue
        assert wanted == stepper.variant
        assert abs(steps.index(wanted) - steps.index(before)) == 1
        if fails:
            stepper.failed(wanted)
            assert stepper.variant == before
            assert wanted not in stepper.steps
    assert config.up_seconds <= stepper.wait_seconds <= max(config.up_seconds_most, config.up_seconds)


@pytest.mark.parametrize("key", ["miss_share", "step_quality_drop"])
def test_shares_outside_zero_to_one_are_refused(key):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({key: 1.5}, SteppingConfig)
