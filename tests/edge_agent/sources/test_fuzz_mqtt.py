"""Anything may be published: to the topic that samples come from, and to the agent's own command topics. It is answered
or counted, and the next good message is answered.

``SANDERLING_FUZZ`` is how many cases each test tries.
"""

from __future__ import annotations

import json
import logging
import os
import time
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent import Engine
from edge_agent.config import MqttSource
from edge_agent.service.commands import Commands
from edge_agent.service.records import answer_record
from edge_agent.sources.mqtt import Mqtt
from shared.errors import MessageError, SanderlingError
from shared.manifest import SampleSpec
from shared.messages import JSON, MSGPACK, Desired, decode
from tests.brokers import Listener, TestBroker

CASES = int(os.environ.get("SANDERLING_FUZZ", "150"))
GOOD = json.dumps({"id": "good", "values": [1.0] * 16}).encode()

fuzzed = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))

sizes = st.one_of(st.integers(-2, 40), st.sampled_from([2**31, 2**63, 2**64, 10**30, -(2**63)]))
scalars = st.one_of(st.floats(), st.integers(), sizes, st.booleans(), st.none(), st.text(max_size=5))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=40,
)
rows = st.lists(st.floats() | st.integers(-(10**40), 10**40) | scalars, min_size=16, max_size=16)
encoded = st.sampled_from(["", "AAAA", "AAAAAAAA" * 8, "A" * 86 + "==", "?", "A" * 5000, "\x00"])
given_fields = {"data": encoded | values, "values": rows | values, "shape": st.lists(sizes, max_size=70) | values}
wholes = st.fixed_dictionaries({}, optional={**given_fields, "id": values, "more": values})
inputs = st.dictionaries(
    st.sampled_from(["input", "a", "b", "c", ""]),
    values | rows | st.fixed_dictionaries({}, optional=given_fields),
    max_size=4,
)
shaped = st.one_of(wholes, inputs.map(lambda found: {"inputs": found}), values, rows)
as_json = shaped.map(lambda found: json.dumps(found).encode())  # NaN and Infinity too, which are no JSON
edges = st.sampled_from(
    [
        *(b"", b" ", b"{", b"{}", b"[]", b"[[", b"null", b"NaN", b"1e999", b"\x00", b"\xff\xfe"),
        *(b"[" * 100_000, b"1" * 100_000, b'{"a":' * 50_000, b"[" + b"0," * 200_000 + b"0]"),
        *(b'{"values":' + b"[" * 900 + b"]" * 900 + b"}", b'"' + b"x" * 300_000 + b'"'),
        *(np.full(16, value, "<f4").tobytes() for value in (np.nan, np.inf)),
    ]
)


def mutated(whole: bytes) -> st.SearchStrategy[bytes]:
    def change(changes: list[tuple[int, bytes]]) -> bytes:
        changed = bytearray(whole)
        for at, piece in changes:
            changed[at % len(whole) : at % len(whole) + len(piece)] = piece
        return bytes(changed)

    return st.lists(st.tuples(st.integers(0, 500), st.binary(max_size=6)), max_size=5).map(change)


payloads = st.one_of(st.binary(max_size=200), as_json, edges, mutated(GOOD), st.binary(min_size=64, max_size=64))
SIGNATURES = (
    (SampleSpec("float32", (16,), "input"),),
    (SampleSpec("uint8", (2, 3), "input"),),
    (SampleSpec("int64", (-1, 2), "input"),),
    (SampleSpec("bool", (-1, -1), "input"),),
    (SampleSpec("str", (1,), "input"),),
    (SampleSpec("float16", (), "input"),),
    (SampleSpec("float32", (2,), "a"), SampleSpec("str", (-1,), "b"), SampleSpec("int8", (-1,), "c")),
)


def message(payload: bytes) -> SimpleNamespace:
    return SimpleNamespace(topic="plant/x", payload=payload)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_our_fault():
    """What is logged as an error is a bug of ours, not of who publishes."""
    faults: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = faults.append
    logger = logging.getLogger("edge_agent")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    assert not [record.getMessage() for record in faults]


@fuzzed
@given(payload=payloads, signature=st.sampled_from(SIGNATURES), encoding=st.sampled_from(["json", "raw"]))
def test_a_message_is_one_sample_or_one_bad_one(payload, signature, encoding):
    source = Mqtt(MqttSource(topic="plant/x", encoding=encoding if len(signature) == 1 else "json"), signature)
    source._on_message(None, None, message(payload))
    assert len(source._waiting) + source.bad == 1
    if source.bad:
        assert source.last_error.startswith("plant/x: ")
        return
    given_ = source._waiting[0].data
    for spec in signature:
        array = given_[spec.name] if isinstance(given_, dict) else given_
        assert array.dtype == (object if spec.dtype == "str" else np.dtype(spec.dtype))
        assert array.ndim == len(spec.shape)
        assert all(wanted in {-1, size} for size, wanted in zip(array.shape, spec.shape, strict=True))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    from scripts.bench.models import mlp_onnx

    engine = Engine.load(mlp_onnx(tmp_path_factory.mktemp("model") / "mlp.onnx"), learn=50)
    yield engine
    engine.close()


@fuzzed
@given(payload=payloads, encoding=st.sampled_from(["json", "raw"]))
def test_what_is_taken_is_answered_in_words_that_json_has_or_refused(engine, payload, encoding):
    source = Mqtt(MqttSource(topic="plant/x", encoding=encoding), engine.signature)
    source._on_message(None, None, message(payload))
    for sample in source._waiting:
        try:
            answer = engine.infer(sample.data, id=sample.id)
        except SanderlingError:
            continue
        msgspec.json.encode(answer_record(answer, 0.0, 1, "v"))
    assert len(engine.infer(np.ones(16, np.float32), id="good").value) == 4


class Stream:
    """A source on a broker, and who publishes to it."""

    def __init__(self, port: int) -> None:
        self.source = Mqtt(MqttSource(topic="plant/#", port=port, queue=1000), SIGNATURES[0])
        self.sensor = Listener(port)
        self.good = 0

    def answers_a_good_one(self) -> None:
        self.good += 1
        name = f"good-{self.good}"
        end = time.monotonic() + 20
        while True:
            self.sensor.publish("plant/x", GOOD.replace(b"good", name.encode()))
            if any(sample.id == name for sample in self.source.poll(0.5)):
                return
            assert time.monotonic() < end, self.source.trouble


@pytest.fixture(scope="module")
def stream():
    with TestBroker() as broker:
        stream = Stream(broker.port)
        stream.answers_a_good_one()
        yield stream
        assert stream.source.trouble == ""
        stream.source.stop()
        assert not stream.source._thread.is_alive()
        stream.sensor.close()


@settings(fuzzed, max_examples=max(10, CASES // 5))
@given(given_=st.lists(st.tuples(st.sampled_from(["plant/x", "plant", "plant/a/b"]), payloads), max_size=4))
def test_a_stream_with_rubbish_in_it_goes_on(stream, given_):
    for topic, payload in given_:
        stream.sensor.publish(topic, payload)
    stream.answers_a_good_one()


class Actions:
    """Does nothing, but says yes."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, float]] = []

    def report_now(self) -> str:
        return "done"

    def send_samples(self, _request: str, count: int, since: float) -> str:
        assert isinstance(count, int)
        assert isinstance(since, float)
        assert np.isfinite(since)
        return "done"

    def acknowledge(self, *, keep: bool) -> str:
        return f"{keep}"

    def select_again(self, _command: str) -> str | None:
        return None

    pause = resume = report_now


verbs = st.one_of(st.sampled_from(["report", "samples", "acknowledge", "select", "pause", "resume"]), st.text())
likely = st.fixed_dictionaries(
    {"id": st.text(max_size=5) | values},
    optional={
        "model": st.sampled_from(["digits", "", "x"]) | values,
        "time": scalars,
        "count": sizes | values,
        "since": scalars,
        "keep": st.booleans() | values,
        "later": values,
    },
)


def packed(value: object) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, UnicodeEncodeError):  # a number that msgpack has no room for
        return b"\xc1"


bodies = st.one_of(
    payloads,
    (likely | values).map(lambda found: json.dumps(found).encode()),
    (likely | values).map(packed),
    st.sampled_from(
        [b"\x91" * 100_000, b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x81\xc0\xc0", b"\xd4\x01\x02"]
    ),
)
contents = st.one_of(st.sampled_from([JSON, MSGPACK]), st.text(max_size=20))


@fuzzed
@given(given_=st.lists(st.tuples(verbs, bodies, contents), max_size=4))
def test_a_command_gets_one_reply_or_is_no_message(given_):
    replies: list[tuple[str, str, bool, str]] = []
    commands = Commands("digits", Actions(), lambda *reply: replies.append(reply))
    for verb, payload, content_type in given_:
        before = len(replies)
        try:
            commands.handle(verb, payload, content_type)
        except MessageError:
            taken = 0
        else:
            taken = 1  # a reply, or none yet: a selection takes its time
        assert len(replies) <= before + taken
        try:
            decode(payload, Desired, content_type)
        except MessageError:
            continue
    commands.handle("report", b'{"id": "a good one, and new"}', JSON)
    assert replies[-1] == ("a good one, and new", "report", True, "done")
