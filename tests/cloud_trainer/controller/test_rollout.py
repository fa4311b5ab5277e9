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
WELL = Window(100, 0, 300.0, 0.9)
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
        (replace(WELL, p99_us=1900.0), ""),  # more than three times the control group's, but noise in absolute terms
        (replace(WELL, p99_us=2100.0), "p99"),
        (replace(WELL, confidence=0.64), ""),
        (replace(WELL, confidence=0.62), "confidence"),
    ],
)
def test_a_canary_is_compared_with_the_control_group(window, trouble) -> None:
    found = health(replace(MOVED, windows=(window,)), [WELL])
    assert trouble in found
    assert bool(found) == bool(trouble)


def test_one_slow_window_of_many_does_not_abort() -> None:
    windows = (WELL, replace(WELL, p99_us=50_000.0), WELL)
    assert health(replace(MOVED, windows=windows), [WELL]) == ""


def test_without_a_control_group_errors_alone_count() -> None:
    assert health(replace(MOVED, windows=(replace(WELL, p99_us=9e9, confidence=0.0),)), []) == ""
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
            st.builds(Window, st.integers(0, 200), st.integers(0, 5), st.floats(0, 1e6), st.floats(0, 1)), max_size=3
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
