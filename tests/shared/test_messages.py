"""Every payload survives both encodings, unknown fields included; noise is refused and never crashes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import messages
from shared.errors import MessageError
from shared.messages import (
    JSON,
    MSGPACK,
    PAYLOAD_MAX_BYTES,
    UP_TYPES,
    AnswerRecord,
    Command,
    Desired,
    Event,
    Feedback,
    Prediction,
    Report,
    Samples,
    SelectionRow,
    Status,
    Truth,
    TruthLabel,
    decode,
    encode,
)

TYPES = [*UP_TYPES.values(), Truth, Desired, Command]
names = st.from_regex(r"[a-z0-9_-]{1,64}", fullmatch=True)
text = st.text(max_size=20)
counts = st.integers(0, 1 << 53)
number = st.floats(allow_nan=False, allow_infinity=False)
truths = st.lists(st.builds(TruthLabel, id=text, label=text), max_size=3)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | number | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
OVERRIDES = {
    "device": names,
    "model": names,
    "counts": st.dictionaries(text, st.lists(counts, max_size=5), max_size=3),
    "details": st.dictionaries(text, plain, max_size=2),
    "labels": truths,
}


def field(name, type_):
    if name in OVERRIDES and not (name == "labels" and type_ == list[str]):
        return OVERRIDES[name]
    if type_ is float:
        return number
    if type_ == list[AnswerRecord]:
        return st.lists(st.builds(AnswerRecord, id=text, label=text, score=number), max_size=2)
    if type_ == list[SelectionRow]:
        row = st.builds(
            SelectionRow, variant=text, runtime=text, precision=text, bytes=counts, p50_us=st.none() | number
        )
        return st.lists(row, max_size=2)
    if type_ == list[float]:
        return st.lists(number, max_size=3)
    if type_ == dict[str, float]:
        return st.dictionaries(text, number, max_size=3)
    if type_ == float | None:
        return st.none() | number
    if type_ == list[int]:
        return st.lists(counts, max_size=3)
    return st.from_type(type_)


def build(type_):
    fields = {f.name: f for f in msgspec.structs.fields(type_) if f.name != "unrecognized"}
    strategies = {}
    for name, f in fields.items():
        annotated = f.type
        base = getattr(annotated, "__origin__", annotated) if hasattr(annotated, "__metadata__") else annotated
        strategies[name] = counts if base is int else field(name, base)
    return st.builds(type_, **strategies)


@pytest.mark.parametrize("content_type", [JSON, MSGPACK])
@pytest.mark.parametrize("type_", TYPES, ids=lambda t: t.__name__)
@given(data=st.data())
def test_every_message_survives_the_round_trip(type_, content_type, data):
    message = data.draw(build(type_))
    assert decode(encode(message, content_type), type_, content_type) == message


@pytest.mark.parametrize("content_type", [JSON, MSGPACK])
@given(extra=st.dictionaries(st.from_regex(r"new_[a-z]{1,9}", fullmatch=True), plain, min_size=1, max_size=3))
def test_fields_of_a_newer_version_survive_an_older_one(content_type, extra):
    message = Status(device="cam-1", state="online", time=1.0)
    newer = {**msgspec.to_builtins(message), **extra}
    newer.pop("unrecognized")
    payload = msgspec.msgpack.encode(newer) if content_type == MSGPACK else msgspec.json.encode(newer)
    seen = decode(payload, Status, content_type)
    assert seen.unrecognized == extra
    again = encode(seen, content_type)
    assert (msgspec.msgpack.decode(again) if content_type == MSGPACK else msgspec.json.decode(again)) == newer


def test_json_is_plain_for_any_consumer():
    event = Event(
        device="cam-1", kind="drift", level="warning", text="sharpness fell", boot="b", stream="s", sequence=3
    )
    assert msgspec.json.decode(encode(event)) == {
        "device": "cam-1",
        "boot": "b",
        "stream": "s",
        "sequence": 3,
        "time": 0.0,
        "kind": "drift",
        "level": "warning",
        "text": "sharpness fell",
        "model": "",
        "release": 0,
        "variant": "",
        "details": {},
    }


def test_samples_carry_bytes_in_both_encodings():
    samples = Samples(
        device="d",
        model="m",
        release=1,
        request="r",
        chunk=0,
        last=True,
        ids=["a"],
        dtype="uint8",
        shape=[4],
        data=b"\0\1\xfe\xff",
    )
    for content_type in (JSON, MSGPACK):
        assert decode(encode(samples, content_type), Samples, content_type).data == b"\0\1\xfe\xff"
    assert b"\0\1\xfe\xff" in encode(samples, MSGPACK)  # not base64 there


@pytest.mark.parametrize("content_type", [JSON, MSGPACK])
@given(payload=st.binary(max_size=100))
def test_noise_is_a_message_error_and_nothing_else(content_type, payload):
    with pytest.raises(MessageError, match=r"^Report: "):
        decode(payload, Report, content_type)


@given(data=st.data())
def test_a_truncated_message_is_refused(data):
    payload = encode(data.draw(build(Report)))
    with pytest.raises(MessageError):
        decode(payload[: data.draw(st.integers(0, len(payload) - 1))], Report)


@pytest.mark.parametrize(
    ("payload", "type_", "text"),
    [
        (b'{"state": "online"}', Status, "Status: .*missing required field `device`"),
        (b'{"device": "A B", "state": "x"}', Status, r"Status: .*\$.device"),
        (b'{"device": "d", "state": 1}', Status, r"Expected `str`, got `int` - at `\$.state`"),
        (b'{"model": "m", "release": -1, "time": 0}', Desired, r"\$.release"),
        (b"[1, 2]", Status, "Status: expected an object, got list"),
        (b"", Status, "Status: "),
        (b"[" * 100_000, Status, "Status: "),
    ],
)
def test_what_is_wrong_is_named(payload, type_, text):
    with pytest.raises(MessageError, match=text):
        decode(payload, type_)


def test_another_content_type_is_refused():
    with pytest.raises(MessageError, match="content type 'text/plain' is neither"):
        decode(b"{}", Status, "text/plain")


def test_a_huge_payload_is_not_parsed():
    with pytest.raises(MessageError, match=f"at most {PAYLOAD_MAX_BYTES} are allowed"):
        decode(b" " * (PAYLOAD_MAX_BYTES + 1), Status)


def test_up_types_are_all_messages_that_a_device_sends():
    assert set(UP_TYPES) == {
        "status", "info", "state", "reported", "report", "event", "prediction", "samples", "feedback", "reply"
    }  # fmt: skip
    for type_ in (Report, Event, Prediction, Samples, Feedback, messages.Reply):
        assert {"boot", "stream", "sequence"} <= set(type_.__struct_fields__)


def test_unrecognized_is_not_shared_between_messages():
    first, second = (Status(device="d", state="online") for _ in range(2))
    first.unrecognized["x"] = 1
    assert second.unrecognized == {}


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), msgspec.msgpack.Ext(5, b"")])
def test_what_json_cannot_say_is_no_message_in_messagepack_either(strange):
    data = {"device": "cam-1", "state": "online"}
    with pytest.raises(MessageError):
        decode(msgspec.msgpack.encode(data | {"time": strange}), Status, MSGPACK)
    if not isinstance(strange, float):
        with pytest.raises(MessageError):
            decode(msgspec.msgpack.encode(data | {"unknown": strange}), Status, MSGPACK)
