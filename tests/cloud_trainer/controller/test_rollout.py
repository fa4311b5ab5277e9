"""The rollout's state machine: canary first, then everyone, or back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cloud_trainer.controller.rollout import (
    Device,
    Policy,
    Rollout,
    Window,
    advance,
    choose_canaries,
    health,
    wanted,
)

POLICY = Policy(canary_samples=100, canary_seconds=60, settle_seconds=60)
NOW = 1000.0
WELL = Window(100, 0, 120.0, 300.0, 0.9)
OLD = Device(online=True, release=1)
MOVED = Device(online=True, release=2, windows=(WELL,))


def rollout(state: str, **more) -> Rollout:
    values = {"parent": 1, "opened": NOW, "entered": NOW, "canaries": ("b",), "affected": ("b", "c")}
    return Rollout(id=1, model="digits", release=2, state=state, **(values | more))


STORIES = [
    ("staged", {}, 1, None),
    ("staged", {"a": replace(OLD, online=False)}, 1, None),
    ("staged", {"a": replace(OLD, online=False)}, 60, "aborted"),
    ("staged", {"a": OLD}, 1, "canary"),
    ("canary", {"a": OLD, "b": OLD}, 1, None),
    ("canary", {"a": OLD, "b": replace(MOVED, windows=())}, 1, None),
    ("canary", {"a": OLD, "b": replace(MOVED, windows=(replace(WELL, samples=99),))}, 1, None),
    ("canary", {"a": OLD, "b": MOVED}, 1, "expanding"),
    ("canary", {"a": OLD, "b": OLD}, 60, "aborted"),
    ("canary", {"a": OLD}, 60, "aborted"),
    ("canary", {"a": OLD, "b": replace(OLD, refused=2, error="self-test")}, 1, "aborted"),
    ("canary", {"a": OLD, "b": replace(MOVED, fault="fault: out of memory")}, 1, "aborted"),
    ("canary", {"a": OLD, "b": replace(MOVED, drifted=True)}, 1, "aborted"),
    ("canary", {"a": replace(OLD, fault="not its fault"), "b": MOVED}, 1, "expanding"),
    ("expanding", {"a": OLD, "b": MOVED}, 1, None),
    ("expanding", {"a": MOVED, "b": MOVED}, 1, "done"),
    ("expanding", {"a": replace(OLD, online=False), "b": MOVED}, 1, "done"),
    ("expanding", {"a": replace(OLD, online=False)}, 1, None),
    ("expanding", {"a": replace(OLD, online=False)}, 60, "aborted"),
    ("expanding", {"a": OLD, "b": MOVED}, 60, "aborted"),
    ("expanding", {"a": replace(OLD, refused=2), "b": MOVED}, 1, "aborted"),
    ("expanding", {"a": replace(MOVED, drifted=True), "b": MOVED}, 1, "aborted"),
    ("aborted", {"a": OLD, "b": MOVED}, 1, None),
    ("aborted", {"a": OLD, "b": OLD}, 1, "rolled_back"),
    ("aborted", {"a": OLD, "b": replace(MOVED, online=False)}, 1, "rolled_back"),
    ("aborted", {"a": OLD, "b": MOVED}, 60, "rolled_back"),
    ("done", {"a": OLD, "b": OLD}, 99, None),
    ("rolled_back", {"a": MOVED}, 99, None),
]


@pytest.mark.parametrize(("state", "devices", "seconds", "following"), STORIES)
def test_transitions(state, devices, seconds, following) -> None:
    after = advance(rollout(state, reason="why"), devices, [WELL], POLICY, NOW + seconds)
    assert (after.state if after else None) == following
    if after:
        assert after.entered == NOW + seconds
        assert after.reason


def test_the_canary_is_an_affected_device_that_is_online() -> None:
    devices = {"a": OLD, "b": replace(OLD, online=False), "c": OLD, "d": OLD}
    assert choose_canaries(["b", "c"], devices, 1) == ("c",)
    assert choose_canaries(["b", "c"], devices, 3) == ("c", "a", "d")
    assert choose_canaries([], devices, 1) == ("a",)


@pytest.mark.parametrize(
    ("window", "trouble"),
    [
        (WELL, ""),
        (replace(WELL, errors=1), ""),
        (replace(WELL, errors=2), "samples fail"),
        (replace(WELL, p50_us=950.0), ""),  # eight times the control group's, but no camera notices
        (replace(WELL, p50_us=1050.0), "p50 is 1050 us, 120 us in the control group"),
        (replace(WELL, p99_us=9e6), ""),  # one window is no evidence
        (replace(WELL, confidence=0.64), ""),
        (replace(WELL, confidence=0.62), "confidence"),
    ],
)
def test_a_canary_is_compared_with_the_control_group(window, trouble) -> None:
    found = health(replace(MOVED, windows=(window,)), [WELL])
    assert trouble in found
    assert bool(found) == bool(trouble)


def windows(p50_us: list[float], p99_us: list[float], samples: int = 150) -> tuple[Window, ...]:
    return tuple(Window(samples, 0, p50, p99, 0.9) for p50, p99 in zip(p50_us, p99_us, strict=True))


@pytest.mark.parametrize(
    ("before", "after", "trouble"),
    [
        # a demo on two busy cores: 486 answers in four windows, p99 tenfold by the scheduler alone
        (windows([130] * 60, [395] * 60), windows([310, 170, 160, 150], [9100, 4200, 3500, 3100]), ""),
        # the machine got busy for good
        (windows([130] * 60, [395] * 60), windows([300] * 20, [12_000] * 20), ""),
        (windows([130] * 60, [395] * 60), windows([900, 5000, 130, 130, 140], [80_000, 60_000, 400, 400, 400]), ""),
        (windows([400] * 60, [700] * 60), windows([1100] * 4, [2000] * 4), ""),  # another variant, 2.75 times slower
        (windows([400] * 60, [700] * 60), windows([2000] * 4, [3500] * 4), "p50 is 2000 us, 400 us before"),
        (windows([400] * 60, [700] * 60), windows([2000], [3500]), "p50 is 2000 us, 400 us before"),
        (windows([400] * 60, [700] * 60), windows([2000], [3500], samples=99), ""),
        # stalls in every window, though the typical answer is as fast as ever
        (windows([400] * 60, [700] * 60), windows([400] * 4, [30_000] * 4), ""),
        (
            windows([400] * 60, [700] * 60),
            windows([400] * 8, [30_000] * 6 + [700] * 2),
            "p99 is 30000 us in 6 of 8 windows, 700 us before",
        ),
        (windows([400] * 60, [700] * 60), windows([400] * 8, [30_000] * 5 + [700] * 3), ""),
        (windows([400] * 60, [15_000] * 60), windows([400] * 8, [30_000] * 8), ""),  # it always stalled there
    ],
)
def test_a_release_is_slower_only_where_its_typical_answer_is_or_it_stalls_all_the_time(before, after, trouble) -> None:
    device = replace(MOVED, windows=after, before=before)
    assert health(device, [WELL]) == trouble
    following = advance(rollout("canary"), {"a": OLD, "b": device}, [WELL], replace(POLICY, canary_samples=90), NOW + 4)
    assert following is not None
    assert following.state == ("aborted" if trouble else "expanding")
    assert trouble in following.reason


def test_a_slow_device_is_compared_with_itself_not_with_a_faster_one() -> None:
    zero = replace(MOVED, windows=windows([9000] * 4, [15_000] * 4), before=windows([9000] * 60, [15_000] * 60))
    assert health(zero, [WELL]) == ""
    assert health(replace(zero, before=()), [WELL]) == "p50 is 9000 us, 120 us in the control group"


def test_without_a_control_group_errors_alone_count() -> None:
    assert health(replace(MOVED, windows=(replace(WELL, p50_us=9e9, confidence=0.0),)), []) == ""
    assert health(replace(MOVED, windows=(replace(WELL, errors=50),)), []) != ""


@pytest.mark.parametrize(
    ("state", "canary", "other"),
    [("staged", 1, 1), ("canary", 2, 1), ("expanding", 2, 2), ("aborted", 1, 1), ("rolled_back", 1, 1)],
)
def test_what_a_device_should_run_follows_from_the_rollout(state, canary, other) -> None:
    assert wanted(rollout(state), 1, "b") == canary
    assert wanted(rollout(state), 1, "a") == other
    assert wanted(None, 1, "a") == 1


devices = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.builds(
        Device,
        online=st.booleans(),
        release=st.integers(0, 3),
        refused=st.integers(0, 3),
        fault=st.sampled_from(["", "fault"]),
        drifted=st.booleans(),
        windows=st.lists(
            st.builds(
                Window, st.integers(0, 200), st.integers(0, 5), st.floats(0, 1e5), st.floats(0, 1e6), st.floats(0, 1)
            ),
            max_size=6,
        ).map(tuple),
    ),
)


@settings(max_examples=150)
@given(st.lists(st.tuples(devices, st.floats(0, 30)), max_size=20), devices)
def test_every_rollout_ends_and_never_skips_the_canary(story, last) -> None:
    now, time = rollout("staged", canaries=()), NOW
    states = [now.state]
    for found, seconds in [*story, (last, 61.0), (last, 61.0), (last, 61.0), (last, 61.0)]:
        time += seconds
        following = advance(now, found, [WELL], POLICY, time)
        if following is not None:
            assert not now.closed
            now = following
            states.append(now.state)
    assert now.closed
    if "done" in states:
        assert states == ["staged", "canary", "expanding", "done"]
    assert ("aborted" in states) == (states[-1] == "rolled_back")
