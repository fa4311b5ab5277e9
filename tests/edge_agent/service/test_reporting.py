"""What a device says of quality and performance."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from edge_agent.commands.status import _agent_rows
from edge_agent.engine import Engine
from edge_agent.service import reporting
from edge_agent.state import AgentStatus, performance_text
from shared.errors import InputError
from shared.messages import Report, State, decode, encode
from tests.releases import LABELS, digits

FIELDS = ("estimated_accuracy", "truths", "accuracy", "truth_evidence", "missing", "out_of_range", "reject_evidence")


@pytest.fixture
def engine(release):
    engine = Engine.load(release, variant="fp32-onnx")
    for answer, wrong in zip(engine.infer_batch(digits(120, seed=4)[0]), [False, True] * 60, strict=True):
        engine.feedback(answer.id, LABELS[(LABELS.index(answer.label) + wrong) % 10])
    for _ in range(30):
        with pytest.raises(InputError):
            engine.infer(np.zeros(3))
    return engine


def state_of(engine, last=None):
    return reporting.state_message(
        "cam-1",
        "digits",
        engine,
        now=1.0,
        rate_hz=0.0,
        bad=2,
        rss_mib=1.0,
        temperature_c=None,
        throttled=None,
        outbox_rows=0,
        dropped=0,
        last=last,
    )


def test_state_and_report_say_how_good_the_answers_are(engine):
    state = state_of(engine)
    window = engine.monitor.take()
    report = reporting.report_message("cam-1", engine, window, bad=2, now=1.0)
    for message, type_ in ((state, State), (report, Report)):
        told = decode(encode(message), type_)
        assert [getattr(told, field) for field in FIELDS] == [getattr(window, field) for field in FIELDS]
        assert (told.truths, told.accuracy, told.errors) == (120, 0.5, 32)
        assert told.truth_evidence > 1
    assert state.reference_accuracy == window.reference_accuracy > 0.9
    assert state.rejected == 0.2
    assert state.drift_alarm


def test_right_after_a_report_the_state_is_of_the_window_that_was_reported(engine):
    before = state_of(engine)
    last = engine.monitor.take()
    assert state_of(engine).accuracy is None
    after = state_of(engine, last=last)
    for field in ("confidence", "rejected", *FIELDS):
        assert getattr(after, field) == getattr(before, field)
    for answer in engine.infer_batch(digits(200, seed=5)[0])[:5]:
        engine.feedback(answer.id, answer.label)
    later = state_of(engine, last=last)
    assert later.rejected == 0  # of more samples than the last window
    assert (later.truths, later.accuracy) == (120, 0.5)  # of which more had a truth
    assert state_of(engine, last=None).truths == 5


def test_without_an_engine_nothing_is_known():
    state = json.loads(encode(state_of(None)))
    assert (state["estimated_accuracy"], state["accuracy"], state["truths"], state["rejected"]) == (None, None, 0, 0.0)


def test_a_report_of_an_older_device_is_read(engine):
    report = reporting.report_message("cam-1", engine, engine.monitor.take(), bad=0, now=1.0)
    older = {name: value for name, value in json.loads(encode(report)).items() if name not in FIELDS}
    told = decode(json.dumps(older).encode(), Report)
    assert (told.estimated_accuracy, told.truths, told.accuracy, told.truth_evidence) == (None, 0, None, 0.0)


def test_an_alarm_says_what_it_is_about(engine):
    window = engine.monitor.report()
    event = reporting.drift_event("cam-1", engine, window, 1.0)
    assert event.kind == "drift"
    assert event.text.startswith("the answers of digits/1 have become worse: accuracy below ")
    assert event.details["features"] == ["accuracy", "rejected"]
    assert event.details["truth_evidence"] == window.truth_evidence > 1 > event.details["evidence"]
    assert event.details["accuracy"] == 0.5
    texts = {
        ("rejected",): "more samples of m than usual get no answer",
        ("noise", "contrast"): "the stream of m has drifted: noise, contrast",
        (): "the stream of m has drifted: several features together",
    }
    for features, text in texts.items():
        assert reporting.alarm_text("m", msgspec.structs.replace(window, features=features)) == text
    worse = msgspec.structs.replace(window, features=("absolute_error",), reference_error=0.25)
    assert reporting.alarm_text("m", worse) == "the answers of m have become worse: mean error above 0.25"


def test_for_people_it_is_one_line():
    found = {
        "estimated_accuracy": 0.9,
        "truths": 40,
        "accuracy": 0.8,
        "reference_accuracy": 0.95,
        "truth_evidence": 0.2,
    }
    text = "estimated 90.0 %, 80.0 % of 40 truths, on held-out data 95.0 %, evidence 0.2 of 1"
    assert performance_text(found) == text
    assert performance_text({}) == ""
    assert performance_text({"reference_accuracy": 0.95}) == ""
    status = AgentStatus(
        pid=1, time=5.0, started=1.0, site="", device="", model="m", release=1, accuracy=0.8, truths=40
    )
    rows = dict(_agent_rows(msgspec.to_builtins(status), 5.0, running=True, alone=True))
    assert rows["accuracy"] == "80.0 % of 40 truths"
    assert "accuracy" not in dict(
        _agent_rows(msgspec.to_builtins(msgspec.structs.replace(status, accuracy=None)), 5.0, running=True, alone=True)
    )
