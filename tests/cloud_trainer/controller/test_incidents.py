"""The incident's state machine: every transition, and that there is always a way on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cloud_trainer.controller.incidents import (
    CLOSED,
    FIRST_HOLD_SECONDS,
    Facts,
    Incident,
    Policy,
    Training,
    advance,
    affected,
    confirmed_text,
    hold_until,
    open_incident,
)

POLICY = Policy(samples_per_device=100)
NOW = 1000.0


def incident(state: str, **more) -> Incident:
    values = {"release": 1, "opened": 0.0, "entered": NOW, "mark": 0, "since": 0.0, "devices": ("a", "b")}
    return Incident(id=1, model="digits", state=state, **(values | more))


def facts(**more) -> Facts:
    return Facts(**({"now": NOW + 1, "current": 1} | more))


@pytest.mark.parametrize(
    ("found", "opens"),
    [
        (facts(), False),
        (facts(evidence=0.09), False),
        (facts(evidence=0.1), True),
        (facts(alarmed=("a",)), True),
        (facts(alarmed=("a",), current=0), False),
    ],
)
def test_a_suspicion_opens_on_an_alarm_or_on_rising_evidence(found, opens) -> None:
    assert (open_incident("digits", found, mark=3, since=1.0) is not None) == opens


def test_no_suspicion_opens_while_a_hold_lasts() -> None:
    assert open_incident("digits", facts(alarmed=("a",)), mark=0, since=0, hold=NOW + 2) is None
    assert open_incident("digits", facts(alarmed=("a",)), mark=0, since=0, hold=NOW + 1) is not None


TRANSITIONS = [
    # evidence and effect are both needed
    ("suspected", facts(evidence=1.0, effect=0.2, alarmed=("a",)), "confirmed"),
    ("suspected", facts(evidence=0.99, effect=9.0, alarmed=("a",)), None),
    ("suspected", facts(evidence=1e9, effect=0.19, alarmed=("a",)), None),
    ("suspected", facts(reports=39, reporting=("a", "b")), None),
    ("suspected", facts(reports=40, reporting=("a", "b")), "dismissed"),
    ("suspected", facts(now=NOW + 86_400), "dismissed"),
    ("confirmed", facts(), "collecting"),
    ("collecting", facts(samples={"a": 100, "b": 99}), None),
    ("collecting", facts(samples={"a": 100, "b": 100}), "labelling"),
    ("collecting", facts(samples={"a": 100}, finished=frozenset("b")), "labelling"),
    ("collecting", facts(samples={"a": 99}, finished=frozenset("ab")), "dismissed"),
    ("collecting", facts(samples={"a": 99, "b": 1}, now=NOW + 3600), "labelling"),
    ("collecting", facts(samples={"a": 99}, now=NOW + 3600), "dismissed"),
    ("labelling", facts(samples={"a": 200}, labelled=189), None),
    ("labelling", facts(samples={"a": 200}, labelled=190), "training"),
    ("labelling", facts(samples={"a": 200}, labelled=100, now=NOW + 86_400), "training"),
    ("labelling", facts(samples={"a": 200}, labelled=99, now=NOW + 86_400), "dismissed"),
    ("labelling", facts(samples={"a": 100}, labelled=95), None),
    ("training", facts(), None),
    ("training", facts(training=Training("running")), None),
    ("training", facts(training=Training("running"), now=NOW + 7200), "dismissed"),
    ("training", facts(training=Training("passed")), "gating"),
    ("training", facts(training=Training("failed", "no data")), "dismissed"),
    ("training", facts(training=Training("lost", "SIGKILL")), "training"),
    ("gating", facts(), None),
    ("gating", facts(gate=Training("passed", "better")), "releasing"),
    ("gating", facts(gate=Training("failed", "worse")), "dismissed"),
    ("gating", facts(now=NOW + 7200), "dismissed"),
    ("releasing", facts(), None),
    ("releasing", facts(now=NOW + 3600), "dismissed"),
    ("releasing", facts(rollout="expanding", now=NOW + 3600), None),
    ("releasing", facts(rollout="done", current=2), "resolved"),
    ("releasing", facts(rollout="rolled_back", rollout_reason="a: fault"), "dismissed"),
    ("resolved", facts(evidence=9, effect=9), None),
    ("dismissed", facts(evidence=9, effect=9), None),
]


@pytest.mark.parametrize(("state", "found", "following"), TRANSITIONS)
def test_transitions(state, found, following) -> None:
    before = incident(state, attempt=1)
    after = advance(before, found, POLICY)
    assert (after.state if after else None) == following
    if after:
        assert after.entered == found.now
        assert after.reason


def test_a_device_that_drifts_while_samples_are_collected_joins() -> None:
    after = advance(incident("collecting"), facts(alarmed=("a", "c"), named=("d",), samples={"a": 100}), POLICY)
    assert after is not None
    assert (after.state, after.devices, after.entered) == ("collecting", ("a", "b", "c", "d"), NOW)
    assert after.reason == "c, d drifted, too"


def test_a_training_that_keeps_dying_is_given_up() -> None:
    lost = facts(training=Training("lost", "ended by SIGKILL"))
    after = advance(incident("training", attempt=3), lost, POLICY)
    assert after is not None
    assert after.state == "dismissed"
    assert "SIGKILL" in after.reason


@pytest.mark.parametrize("state", ["suspected", "confirmed", "collecting", "labelling", "training", "gating"])
def test_an_incident_ends_when_the_fleet_goes_on_to_another_release(state) -> None:
    after = advance(incident(state), facts(current=2, evidence=9, effect=9), POLICY)
    assert after is not None
    assert after.state == "dismissed"
    assert "release 2" in after.reason


def test_a_shift_too_small_for_any_one_device_concerns_everyone_who_reports() -> None:
    assert affected(facts(evidence=1.0, reporting=("b", "a"))) == ("a", "b")
    assert affected(facts(evidence=1.0, reporting=("b", "a"), named=("b",))) == ("b",)
    assert affected(facts(evidence=0.5, reporting=("b", "a"))) == ()


def test_a_confirmation_says_who_and_what() -> None:
    found = facts(
        evidence=4.2e7, effect=2.4, feature="brightness", shift=2.31, alarmed=("cam-1",), named=("cam-1", "cam-2")
    )
    after = advance(incident("suspected"), found, POLICY)
    assert after is not None
    assert after.reason == (
        "cam-1, cam-2 drifted: evidence is over 1,000,000 times the alarm threshold; "
        "brightness moved most (+2.3 robust sigma)"
    )
    assert (after.devices, after.effect) == (("cam-1", "cam-2"), 2.4)


@pytest.mark.parametrize(
    ("evidence", "shift", "text"),
    [
        (1.04, 0.3, "a drifted: evidence is 1.04 times the alarm threshold; noise moved most (+0.3 robust sigma)"),
        (999_999, -41.5, "a drifted: evidence is 999,999 times the alarm threshold; noise moved most (-41.5"),
        (1e12, -1e5, "a drifted: evidence is over 1,000,000 times the alarm threshold; noise moved most (beyond -100"),
    ],
)
def test_numbers_for_people_are_bounded(evidence, shift, text) -> None:
    assert confirmed_text(["a"], facts(evidence=evidence, feature="noise", shift=shift)).startswith(text)


def test_a_suspicion_that_came_to_nothing_says_how_far_the_evidence_went() -> None:
    after = advance(incident("suspected"), facts(evidence=0.34, reports=10_000), POLICY)
    assert after is not None
    assert after.reason.endswith("evidence is 0.34 times the alarm threshold")


def test_each_retraining_that_came_to_nothing_doubles_the_hold() -> None:
    failed = incident("dismissed", attempt=1, entered=100.0)
    assert hold_until([incident("dismissed"), replace(failed, release=2), incident("resolved", attempt=1)], 1) == 0
    assert hold_until([failed], 1) == 100 + FIRST_HOLD_SECONDS
    assert hold_until([failed, replace(failed, entered=200.0)], 1) == 200 + 2 * FIRST_HOLD_SECONDS
    assert hold_until([failed] * 100, 1) < 100 + 65 * FIRST_HOLD_SECONDS


names = st.lists(st.sampled_from(["a", "b", "c"]), unique=True).map(tuple)
some_facts = st.builds(
    Facts,
    now=st.floats(0, 1e6),
    current=st.integers(0, 3),
    evidence=st.floats(0, 1e300),
    alarmed=names,
    named=names,
    reporting=names,
    reports=st.integers(0, 1000),
    effect=st.floats(0, 10),
    samples=st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 500)),
    finished=names.map(frozenset),
    labelled=st.integers(0, 1000),
    training=st.builds(Training, st.sampled_from(["absent", "running", "passed", "failed", "lost"])),
    gate=st.builds(Training, st.sampled_from(["absent", "passed", "failed"])),
    rollout=st.sampled_from(["", "staged", "canary", "expanding", "done", "aborted", "rolled_back"]),
)


@settings(max_examples=150)
@given(st.lists(some_facts, max_size=30))
def test_whatever_happens_an_incident_moves_forward_only_and_a_closed_one_stays(story) -> None:
    order = ["suspected", "confirmed", "collecting", "labelling", "training", "gating", "releasing"]
    now = incident("suspected", entered=0.0)
    for found in story:
        following = advance(now, found, POLICY)
        if now.closed:
            assert following is None
            break
        if following is None:
            continue
        if following.state == "resolved":
            assert now.state == "releasing"
        elif following.state != "dismissed":
            assert order.index(following.state) - order.index(now.state) in (
                {0, 1} if now.state in {"training", "collecting"} else {1}
            )
            if following.state == now.state == "collecting":
                assert set(following.devices) > set(now.devices)
        now = following


@settings(max_examples=100)
@given(
    st.sampled_from(["suspected", "confirmed", "collecting", "labelling", "training", "gating", "releasing"]),
    some_facts,
)
def test_no_state_is_left_without_a_way_on(state, found) -> None:
    """However little comes, after its time limit an incident goes on; what waits for another machine (a training that
    has not started, a rollout) is that machine's to end."""
    started = replace(found.training, state="running") if found.training.state == "absent" else found.training
    running = state == "releasing" and found.rollout not in {"", "done", "rolled_back"}
    now = incident(state, entered=0.0)
    late = replace(found, now=1e9, training=started)
    assert running or advance(now, late, POLICY) is not None
    assert state not in CLOSED
