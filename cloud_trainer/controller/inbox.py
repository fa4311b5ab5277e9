"""From an MQTT message to rows: what is taken in, once, and what is refused.

Every function here works inside the caller's transaction; the message is acknowledged after its commit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa

from cloud_trainer.controller import schema
from cloud_trainer.controller.store import BAD_PAYLOAD_BYTES, LogEntry, insert_ignore, upsert, write_log
from shared import topics
from shared.errors import MessageError
from shared.messages import (
    UP_TYPES,
    Command,
    Event,
    Feedback,
    Info,
    Message,
    Reply,
    Report,
    Reported,
    Samples,
    State,
    Status,
    Truth,
    TruthLabel,
    UpMessage,
    decode,
)

ID_MAX = 200
DEVICE = "device"  # source of labels that a device gave itself
TEXT_MAX = 1000
DETAILS_MAX = 16  # of one event
MODELS_MAX = 64  # of one device
WINDOW_SAMPLES_MAX = 1 << 28  # so that thousands of windows can be added without an overflow
SAMPLE_DTYPES = frozenset({"uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64"})


class Arrived(msgspec.Struct, frozen=True):
    """One message as the broker delivered it."""

    topic: str
    payload: bytes
    content_type: str
    received: float


def take(connection: sa.Connection, site: str, arrived: Arrived) -> bool:
    """Store one message; false if it is a duplicate of one that was stored before.

    Raises:
        MessageError: it is malformed, of another site, or speaks for another device. Nothing was stored.
    """
    topic = topics.parse(arrived.topic)
    if topic.site != site:
        raise MessageError(f"topic is of site {topic.site!r}, this controller serves {site!r}")
    kind = topic.kind
    type_ = {"truth": Truth, "up": UP_TYPES.get(kind)}.get(topic.branch)
    if type_ is None:
        raise MessageError(f"nothing is known about topic {arrived.topic[:200]!r}")
    message: Message = decode(arrived.payload, type_, arrived.content_type)
    device = getattr(message, "device", topic.device)
    if device != topic.device:
        raise MessageError(f"{kind} on the topic of {topic.device!r} says that it comes from {device!r}")
    model = getattr(message, "model", "")
    if kind in {"state", "reported", "report", "samples", "feedback", "truth"}:
        topics.check_name(topic.name, "model")
        if model != topic.name:
            raise MessageError(f"{kind} on the topic of model {topic.name!r} is about {model!r}")
    if isinstance(message, UpMessage):
        if not message.boot or not message.stream or max(len(message.boot), len(message.stream)) > 64:
            raise MessageError(f"{kind} has no boot and stream of 1 to 64 characters, so duplicates can't be told")
        key = {"device": device, "boot": message.boot, "stream": message.stream, "sequence": message.sequence}
        if not insert_ignore(connection, schema.messages, key | {"kind": kind, "received": arrived.received}):
            return False
    if kind != "truth":
        seen(connection, device, arrived.received)
    handler = _HANDLERS.get(type_)
    if handler is not None:
        handler(connection, topic, message, arrived.received)
    return True


def seen(connection: sa.Connection, device: str, now: float) -> None:
    """Note that ``device`` was heard of; a device that is heard of for the first time appears."""
    if not insert_ignore(connection, schema.devices, {"device": device, "seen": now, "online": 0, "info": "{}"}):
        table = schema.devices
        connection.execute(table.update().where(table.c.device == device).values(seen=now))


def store_bad(connection: sa.Connection, arrived: Arrived, reason: str) -> None:
    """Keep the beginning of a malformed message, for whoever has to find out who sends it."""
    connection.execute(
        schema.bad_messages.insert().values(
            topic=arrived.topic[:300].replace("\0", ""),
            reason=reason[:1000].replace("\0", ""),
            payload=arrived.payload[:BAD_PAYLOAD_BYTES],
            received=arrived.received,
        )
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _known(message: Message) -> str:
    """A message as JSON, without the fields that nobody here knows: they may be anything, in any depth."""
    return _json(msgspec.structs.replace(message, unrecognized={}))


def _status(connection: sa.Connection, topic: topics.Topic, message: Status, now: float) -> None:
    if message.state not in {"online", "offline"}:
        raise MessageError(f"status {message.state[:50]!r} is neither online nor offline")
    table = schema.devices
    online = int(message.state == "online")
    result = connection.execute(
        table.update().where(table.c.device == topic.device, table.c.online != online).values(online=online)
    )
    if result.rowcount:
        entry = LogEntry("device", topic.device, "", message.state, f"{topic.device} is {message.state}")
        write_log(connection, now, [entry])


def _info(connection: sa.Connection, topic: topics.Topic, message: Info, _now: float) -> None:
    table = schema.devices
    connection.execute(table.update().where(table.c.device == topic.device).values(info=_known(message)))
    for model in message.models:
        topics.check_name(model, "model")
        _device_model(connection, topic.device, model)


def _device_model(connection: sa.Connection, device: str, model: str) -> sa.Row[Any]:
    table = schema.device_models
    blank = {"release": 0, "variant": "", "refused": 0, "error": "", "reported": "{}", "state": "{}"}
    if insert_ignore(connection, table, {"device": device, "model": model, **blank}):
        count = sa.select(sa.func.count()).select_from(table).where(table.c.device == device)
        if (connection.scalar(count) or 0) > MODELS_MAX:
            raise MessageError(f"{device} names more than {MODELS_MAX} models")
    return connection.execute(table.select().where(table.c.device == device, table.c.model == model)).one()


def _state(connection: sa.Connection, topic: topics.Topic, message: State, _now: float) -> None:
    _device_model(connection, topic.device, message.model)
    values = {"device": topic.device, "model": message.model, "state": _known(message)}
    _update_model(connection, values)


def _update_model(connection: sa.Connection, values: dict[str, Any]) -> None:
    table = schema.device_models
    mine = (table.c.device == values["device"]) & (table.c.model == values["model"])
    connection.execute(table.update().where(mine).values(**values))


def _reported(connection: sa.Connection, topic: topics.Topic, message: Reported, now: float) -> None:
    before = _device_model(connection, topic.device, message.model)
    _update_model(
        connection,
        {
            "device": topic.device,
            "model": message.model,
            "release": message.release,
            "variant": message.variant[:64],
            "refused": message.refused,
            "error": message.error[:1000],
            "reported": _known(message),
        },
    )
    entries = []
    details = {"release": message.release, "variant": message.variant, "baseline": message.baseline}
    if (before.release, before.variant) != (message.release, message.variant):
        text = f"{topic.device} runs release {message.release} ({message.variant or 'no variant'})"
        entries.append(LogEntry("device", topic.device, message.model, "runs", text, details))
        # a new release has a profile and counters of its own: alarms of the former one are history
        table = schema.alarms
        mine = (table.c.device == topic.device) & (table.c.model == message.model)
        connection.execute(table.delete().where(mine, table.c.release != message.release))
    if message.refused and before.refused != message.refused:
        text = f"{topic.device} refused release {message.refused}: {message.error[:300] or 'no reason given'}"
        details = {"release": message.refused, "error": message.error[:1000]}
        entries.append(LogEntry("device", topic.device, message.model, "refused", text, details))
    write_log(connection, now, entries)


def _report(connection: sa.Connection, topic: topics.Topic, message: Report, now: float) -> None:
    latencies = message.p50_us, message.p99_us
    numbers = (message.evidence, *latencies, message.confidence, message.seconds, *message.effects.values())
    if not all(math.isfinite(number) for number in numbers):
        raise MessageError("report has a number that is not finite")
    if message.samples > WINDOW_SAMPLES_MAX:
        raise MessageError(f"report of {message.samples} samples; at most {WINDOW_SAMPLES_MAX} fit into one window")
    connection.execute(
        schema.windows.insert().values(
            device=topic.device,
            model=message.model,
            release=message.release,
            variant=message.variant[:64],
            baseline=message.baseline[:64],
            profile=message.profile[:64],
            samples=message.samples,
            seconds=message.seconds,
            counts=_json(message.counts),
            evidence=message.evidence,
            errors=message.errors,
            p50_us=message.p50_us,
            p99_us=message.p99_us,
            confidence=message.confidence,
            received=now,
        )
    )


def _event(connection: sa.Connection, topic: topics.Topic, message: Event, now: float) -> None:
    connection.execute(
        schema.events.insert().values(
            device=topic.device,
            kind=message.kind[:64],
            level=message.level[:64],
            model=message.model[:64],
            release=message.release,
            text=message.text[:1000],
            received=now,
        )
    )
    if message.level == "info":  # good news is in up/reported as well
        return
    details = {"kind": message.kind, "level": message.level, "release": message.release, "time": message.time}
    what = "alarm" if message.kind == "drift" else "device"
    text = f"{topic.device}: {message.text[:500]}"
    entry = LogEntry(what, topic.device, message.model[:64], message.kind[:64], text, _flat(message.details) | details)
    write_log(connection, now, [entry])
    if message.kind == "drift" and message.model:
        key = {"device": topic.device, "model": message.model, "release": message.release}
        insert_ignore(connection, schema.alarms, key | {"time": message.time or now, "received": now})


def _flat(details: dict[str, Any]) -> dict[str, Any]:
    """What a device adds to an event, in a size and depth that a line of the timeline can hold."""
    flat: dict[str, Any] = {}
    for key, value in list(details.items())[:DETAILS_MAX]:
        plain = value is None or isinstance(value, str | int | float)
        flat[key[:64]] = value[:TEXT_MAX] if isinstance(value, str) else value if plain else _excerpt(value)
    return flat


def _excerpt(value: Any) -> Any:
    """A small list or object of numbers and texts as it is; anything else as the beginning of its JSON."""
    inner = value.values() if isinstance(value, dict) else value
    text = _json(value)
    small = len(text) <= TEXT_MAX and all(item is None or isinstance(item, str | int | float) for item in inner)
    return value if small else text[:TEXT_MAX]


def _samples(connection: sa.Connection, topic: topics.Topic, message: Samples, now: float) -> None:
    table = schema.commands
    asked = connection.execute(
        table.select().where(table.c.id == message.request, table.c.device == topic.device, table.c.verb == "samples")
    ).one_or_none()
    if asked is None:
        raise MessageError(f"samples for request {message.request[:80]!r}, which this device was not asked")
    wanted = msgspec.json.decode(asked.payload, type=Command).model
    if message.model != wanted:
        raise MessageError(f"samples of {message.model!r} for a request that was about {wanted!r}")
    pieces = _split(message)
    incidents = schema.incidents
    closed = connection.scalar(sa.select(incidents.c.closed).where(incidents.c.id == asked.incident))
    room = 0 if closed else asked.total - samples_of(connection, asked.incident, topic.device)
    for index, piece in enumerate(pieces):
        if room <= 0:  # no device fills more than its share
            break
        row = {
            "incident": asked.incident,
            "device": topic.device,
            "sample": message.ids[index],
            "model": message.model,
            "dtype": message.dtype,
            "shape": _json(message.shape),
            "data": piece,
            "predicted": (message.labels[index] if message.labels else "")[:ID_MAX],
            "score": message.scores[index] if message.scores else 0.0,
        }
        room -= insert_ignore(connection, schema.samples, row)
    if message.last:
        mine = (table.c.id == message.request) & (table.c.device == topic.device)
        connection.execute(table.update().where(mine).values(answered=now, ok=1, until=message.time))


def samples_of(connection: sa.Connection, incident: int, device: str) -> int:
    """How many samples ``device`` has sent for an incident."""
    table = schema.samples
    query = sa.select(sa.func.count()).where(table.c.incident == incident, table.c.device == device)
    return connection.scalar(query) or 0


def _split(message: Samples) -> list[bytes]:
    """The bytes of each sample.

    Raises:
        MessageError: sizes do not agree.
    """
    if message.dtype not in SAMPLE_DTYPES or len(message.shape) > 8 or any(side < 1 for side in message.shape):
        raise MessageError(f"samples of dtype {message.dtype[:20]!r} and shape {message.shape[:8]} can't be taken")
    size = math.prod(message.shape) * np.dtype(message.dtype).itemsize
    if size * len(message.ids) != len(message.data):
        raise MessageError(
            f"{len(message.ids)} samples of {size} bytes each, but {len(message.data)} bytes of data; they must agree"
        )
    for name, values in (("labels", message.labels), ("scores", message.scores)):
        if values and len(values) != len(message.ids):
            raise MessageError(f"{len(message.ids)} samples but {len(values)} {name}; they must agree")
    if any(not 0 < len(id_) <= ID_MAX for id_ in message.ids):
        raise MessageError(f"sample ids must have 1 to {ID_MAX} characters")
    return [message.data[i * size : (i + 1) * size] for i in range(len(message.ids))]


def _labels(
    connection: sa.Connection, device: str, model: str, labels: list[TruthLabel], source: str, now: float
) -> None:
    labels = [label for label in labels if label.value is None]  # numbers are no training labels yet
    for label in labels:
        if not 0 < len(label.id) <= ID_MAX or not 0 < len(label.label) <= ID_MAX:
            raise MessageError(f"ids and labels must have 1 to {ID_MAX} characters")
    # the last word counts, for people correct themselves; but no device corrects those who know the truth
    only = schema.truth.c.source == DEVICE if source == DEVICE else None
    for label in labels:
        row = {"model": model, "device": device, "sample": label.id, "label": label.label}
        upsert(connection, schema.truth, row | {"source": source, "received": now}, where=only)


def _feedback(connection: sa.Connection, topic: topics.Topic, message: Feedback, now: float) -> None:
    _labels(connection, topic.device, message.model, message.labels, DEVICE, now)


def _truth(connection: sa.Connection, topic: topics.Topic, message: Truth, now: float) -> None:
    _labels(connection, topic.device, message.model, message.labels, f"truth: {message.source}"[:ID_MAX], now)


def _reply(connection: sa.Connection, topic: topics.Topic, message: Reply, now: float) -> None:
    table = schema.commands
    mine = (table.c.id == message.id) & (table.c.device == topic.device)
    values: dict[str, Any] = {"ok": int(message.ok), "text": message.text[:1000]}
    if message.verb != "samples" or not message.ok:  # the last chunk of samples is the answer to a granted request
        values["answered"] = now
    connection.execute(table.update().where(mine).values(**values))


_HANDLERS: dict[type[Message], Callable[[sa.Connection, topics.Topic, Any, float], None]] = {
    Status: _status,
    Info: _info,
    State: _state,
    Reported: _reported,
    Report: _report,
    Event: _event,
    Samples: _samples,
    Feedback: _feedback,
    Truth: _truth,
    Reply: _reply,
}
"""Predictions are for other consumers: they are counted as seen and not stored."""
