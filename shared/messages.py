"""Every MQTT payload, one Struct each, and the codec.

Rules of evolution: fields are only ever added, with a default; a field's meaning never changes; unknown fields are
ignored and survive a round trip (``unrecognized``). A change that a consumer must not ignore raises ``SCHEMA``, which
rides, with the content type, as an MQTT 5 property. JSON by default; MessagePack for metered links.

Times are seconds since 1970-01-01 UTC by the sender's clock; durations say their unit in their name.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from shared.errors import UNREADABLE, MessageError
from shared.manifest import Name

SCHEMA = 1
JSON = "application/json"
MSGPACK = "application/msgpack"
PAYLOAD_MAX_BYTES = 1 << 20

Count = Annotated[int, Meta(ge=0)]


class Message(Struct, kw_only=True):
    """Base of all payloads."""

    unrecognized: dict[str, Any] = {}


class UpMessage(Message, kw_only=True):
    """What a device sends through its outbox.

    ``(device, boot, stream, sequence)`` is unique for ever: the controller drops duplicates by it. ``sequence`` counts
    from 1 within a stream of one boot; a gap is what a full outbox has merged or dropped (``State.dropped``).
    """

    device: Name
    boot: str = ""
    stream: str = ""
    sequence: Count = 0
    time: float = 0.0


class Status(Message, kw_only=True):
    """``up/status``, retained; ``offline`` is the Will."""

    device: Name
    state: str  # "online" | "offline"
    time: float = 0.0


class Info(Message, kw_only=True):
    """``up/info``, retained: what this device is."""

    device: Name
    time: float
    machine: str
    system: str
    cpus: int
    memory_mib: int
    python: str
    agent: str
    backends: dict[str, str]  # runtime -> version
    clock: str = "unknown"  # "synchronized" | "unsynchronized" | "unknown"
    models: list[str] = []


class State(Message, kw_only=True):
    """``up/state/<model>``, retained, QoS 0: flat scalars for dashboards."""

    device: Name
    model: Name
    time: float
    release: int
    variant: str
    samples: Count = 0
    errors: Count = 0
    rate_hz: float = 0.0
    p50_us: float = 0.0
    p99_us: float = 0.0
    rss_mib: float = 0.0
    temperature_c: float | None = None
    throttled: bool | None = None
    outbox_rows: Count = 0
    dropped: Count = 0
    drift_evidence: float = 0.0
    drift_effect: float = 0.0
    drift_alarm: bool = False
    confidence: float = 0.0
    # of the open window, or of the one that was reported last, whichever has more samples or truths:
    estimated_accuracy: float | None = None  # from confidence alone; None: the release has no calibration
    reference_accuracy: float | None = None  # on held-out data; None: the release does not know
    truths: Count = 0  # answers whose truth became known
    accuracy: float | None = None  # share of those that were right
    absolute_error: float | None = None  # mean, where answers are numbers
    truth_evidence: float = 0.0  # for answers having become worse than on held-out data; 1.0 is the alarm
    missing: float = 0.0  # share of watched numbers that were not there
    out_of_range: float = 0.0  # share of those there beyond everything in the reference
    rejected: float = 0.0  # share of samples without an answer
    reject_evidence: float = 0.0  # for that share having grown; 1.0 is the alarm


class SelectionRow(Struct, kw_only=True):
    """One line of the table that a device measured: a variant and what it costs here."""

    variant: str
    runtime: str
    precision: str
    bytes: int
    p50_us: float | None = None
    p99_us: float | None = None
    rss_mib: float | None = None
    quality: float | None = None
    chosen: bool = False
    why: str = ""  # why chosen, or why not


class Reported(Message, kw_only=True):
    """``up/reported/<model>``, retained: what runs here."""

    device: Name
    model: Name
    time: float
    release: int  # 0: none
    variant: str = ""
    slot: str = ""
    trial: bool = False
    baseline: str = "default"
    selection: list[SelectionRow] = []
    refused: int = 0  # a release that was asked for and not taken
    error: str = ""


class Report(UpMessage, kw_only=True):
    """``up/report/<model>``: one drift window of this device."""

    model: Name
    release: int
    variant: str
    baseline: str
    profile: str  # first 16 hex digits of the profile's digest: counts of another profile can't be added
    samples: Count
    seconds: float
    counts: dict[str, list[int]]  # watched track -> one count a bin
    evidence: float  # U / A of this device since its last acknowledgement; 1.0 is the alarm
    effects: dict[str, float] = {}  # watched scalar -> mean shift in robust sigma
    errors: Count = 0
    p50_us: float = 0.0
    p99_us: float = 0.0
    confidence: float = 0.0
    estimated_accuracy: float | None = None  # of this window, from confidence alone; None: no calibration
    truths: Count = 0  # answers whose truth became known in this window, whenever they were given
    accuracy: float | None = None  # share of those that were right
    absolute_error: float | None = None  # mean, where answers are numbers
    truth_evidence: float = 0.0  # U / A, in truths, for answers having become worse than on held-out data
    missing: float = 0.0  # share of watched numbers that were not there
    out_of_range: float = 0.0  # share of those there beyond everything in the reference
    reject_evidence: float = 0.0  # U / A for a larger share of samples without an answer (errors)


class Event(UpMessage, kw_only=True):
    """``up/event/<kind>``: something that a person or the controller should know."""

    kind: str  # "drift" | "update" | "rollback" | "fault"
    level: str  # "info" | "warning" | "error"
    text: str
    model: str = ""
    release: int = 0
    variant: str = ""
    details: dict[str, Any] = {}


class Prediction(UpMessage, kw_only=True):
    """``up/prediction/<model>``: answers, if the task wants them there."""

    model: Name
    release: int
    variant: str
    answers: list[AnswerRecord]


class AnswerRecord(Struct, kw_only=True, omit_defaults=True):
    """One answer in a sink or a prediction message.

    ``label`` and ``score`` are those of a classifier; ``value`` is what other tasks give: a number, a list of boxes, a
    forecast. What an answer does not have is left out.
    """

    id: str
    label: str = ""
    score: float | None = None
    value: Any = None
    time: float = 0.0
    latency_us: float = 0.0
    release: int = 0
    variant: str = ""


class Samples(UpMessage, kw_only=True):
    """``up/samples/<model>``: a chunk of the samples that the controller asked for.

    ``data`` holds ``len(ids)`` samples of ``dtype`` and ``shape`` end to end, C order, little endian.
    """

    model: Name
    release: int
    request: str
    chunk: Count
    last: bool
    ids: list[str]
    dtype: str
    shape: list[int]
    data: bytes
    labels: list[str] = []  # what the device answered
    scores: list[float] = []


class Feedback(UpMessage, kw_only=True):
    """``up/feedback/<model>``: ground truth that the device learned locally."""

    model: Name
    labels: list[TruthLabel]


class TruthLabel(Struct, kw_only=True, omit_defaults=True):
    """The truth about one answer: its label, or its number where the task gives numbers."""

    id: str
    label: str = ""
    value: float | None = None


class Truth(Message, kw_only=True):
    """``truth/<model>``: labels for a device's answers, from people or systems."""

    model: Name
    source: str
    labels: list[TruthLabel]
    time: float = 0.0


class Reply(UpMessage, kw_only=True):
    """``up/reply/<verb>``: the answer to a command."""

    id: str
    verb: str
    ok: bool
    text: str = ""


class Desired(Message, kw_only=True):
    """``down/desired/<model>``, retained: which release to run. Unsigned on purpose: the release itself is signed."""

    model: Name
    release: Count
    time: float
    reason: str = ""


class Command(Message, kw_only=True):
    """``down/cmd/<verb>``. Verbs: ``report``, ``samples``, ``acknowledge``, ``select``, ``pause``, ``resume``."""

    id: str
    model: str = ""
    time: float = 0.0
    count: Count = 0  # samples: how many
    since: float = 0.0  # samples: none older than this
    keep: bool = True  # acknowledge: a false alarm (True) keeps the counts, a changed world (False) starts anew


M = TypeVar("M", bound=Message)

_FIELDS: dict[type, frozenset[str]] = {}


def encode(message: Message, content_type: str = JSON) -> bytes:
    """Payload bytes of ``message``; fields that an older version did not know are written back."""
    data: dict[str, Any] = msgspec.to_builtins(message, builtin_types=(bytes,) if content_type == MSGPACK else ())
    data.update(data.pop("unrecognized", {}))
    return msgspec.msgpack.encode(data) if content_type == MSGPACK else msgspec.json.encode(data)


def decode(payload: bytes | bytearray, type_: type[M], content_type: str = JSON) -> M:
    """Read a payload.

    Raises:
        MessageError: it is too large, of another content type, not parsable, or a field is wrong.
    """
    if len(payload) > PAYLOAD_MAX_BYTES:
        raise MessageError(f"{type_.__name__}: {len(payload)} bytes; at most {PAYLOAD_MAX_BYTES} are allowed")
    try:
        if content_type == MSGPACK:
            # by way of JSON: what that cannot say (not a number, extension types) goes no further than this line
            data = msgspec.json.decode(msgspec.json.encode(msgspec.msgpack.decode(payload)))
        elif content_type == JSON:
            data = msgspec.json.decode(payload)
        else:
            raise MessageError(f"{type_.__name__}: content type {content_type!r} is neither {JSON} nor {MSGPACK}")
        if not isinstance(data, dict):
            raise MessageError(f"{type_.__name__}: expected an object, got {type(data).__name__}")
        known = _FIELDS.get(type_)
        if known is None:
            known = _FIELDS[type_] = frozenset(type_.__struct_encode_fields__) - {"unrecognized"}
        unrecognized = {key: data.pop(key) for key in list(data) if key not in known}
        message = msgspec.convert(data, type_)
    except (*UNREADABLE, TypeError) as error:
        raise MessageError(f"{type_.__name__}: {error}") from error
    message.unrecognized = unrecognized
    return message


UP_TYPES: dict[str, type[Message]] = {
    "status": Status,
    "info": Info,
    "state": State,
    "reported": Reported,
    "report": Report,
    "event": Event,
    "prediction": Prediction,
    "samples": Samples,
    "feedback": Feedback,
    "reply": Reply,
}
"""Leaf of an ``up`` topic -> its payload."""
