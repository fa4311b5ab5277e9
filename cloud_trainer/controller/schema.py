"""The tables. Portable types only, so that the same tables work in SQLite and PostgreSQL."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 2

metadata = MetaData()

# SQLite numbers rows by itself only in a column of exactly the type INTEGER
Identity = BigInteger().with_variant(Integer, "sqlite")


def _name(name: str, *, primary_key: bool = False) -> Column[str]:
    return Column(name, String(64), nullable=False, primary_key=primary_key)


meta = Table("meta", metadata, Column("key", String(64), primary_key=True), Column("value", Text, nullable=False))

messages = Table(
    "messages",
    metadata,
    Column("id", Identity, primary_key=True),
    _name("device"),
    _name("boot"),
    _name("stream"),
    Column("sequence", BigInteger, nullable=False),
    _name("kind"),
    Column("received", Float, nullable=False, index=True),
    UniqueConstraint("device", "boot", "stream", "sequence"),
)
"""The inbox: one row for each message that was taken in; a second message with the same key is a duplicate."""

bad_messages = Table(
    "bad_messages",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("topic", String(300), nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # the first bytes of it
    Column("received", Float, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    _name("device", primary_key=True),
    Column("online", Integer, nullable=False, default=0),
    Column("seen", Float, nullable=False),
    Column("info", Text, nullable=False, default="{}"),
)

device_models = Table(
    "device_models",
    metadata,
    _name("device", primary_key=True),
    _name("model", primary_key=True),
    Column("release", Integer, nullable=False, default=0),  # 0: none runs yet
    Column("variant", String(64), nullable=False, default=""),
    Column("refused", Integer, nullable=False, default=0),
    Column("error", Text, nullable=False, default=""),
    Column("reported", Text, nullable=False, default="{}"),
    Column("state", Text, nullable=False, default="{}"),
    ForeignKeyConstraint(["device"], ["devices.device"]),
)
"""What runs on a device: the last ``up/reported`` and ``up/state`` of each model."""

windows = Table(
    "windows",
    metadata,
    Column("id", Identity, primary_key=True),
    _name("device"),
    _name("model"),
    Column("release", Integer, nullable=False),
    _name("variant"),
    _name("baseline"),
    _name("profile"),
    Column("samples", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("counts", Text, nullable=False),  # JSON: track -> counts
    Column("evidence", Float, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("p50_us", Float, nullable=False),
    Column("p99_us", Float, nullable=False),
    Column("confidence", Float, nullable=False),
    Column("received", Float, nullable=False),
    Column("round", Integer, nullable=True),  # null: not folded yet; 0: kept, but of no use; else the fold's number
    Column("note", Text, nullable=False, default=""),
    Index("windows_unfolded", "round"),
    Index("windows_by_device", "model", "release", "device"),
)

detectors = Table(
    "detectors",
    metadata,
    _name("model", primary_key=True),
    Column("release", Integer, primary_key=True),
    _name("variant", primary_key=True),
    Column("round", Integer, nullable=False),
    Column("reports", BigInteger, nullable=False),
    Column("evidence", Float, nullable=False),
    Column("devices", Text, nullable=False),  # JSON: those that e-BH names
    Column("by_device", Text, nullable=False),  # JSON: device -> evidence
    Column("state", LargeBinary, nullable=False),
)
"""A fleet detector as of its last fold, saved in the transaction that marks the windows as folded."""

alarms = Table(
    "alarms",
    metadata,
    _name("device", primary_key=True),
    _name("model", primary_key=True),
    Column("release", Integer, primary_key=True),
    Column("time", Float, nullable=False),  # by the device's clock
    Column("received", Float, nullable=False),
)
"""Drift alarms of single devices that nobody has acknowledged."""

incidents = Table(
    "incidents",
    metadata,
    Column("id", Identity, primary_key=True),
    _name("model"),
    _name("state"),
    Column("closed", Float, nullable=True),
    Column("data", Text, nullable=False),
)
Index(
    "one_open_incident",
    incidents.c.model,
    unique=True,
    sqlite_where=incidents.c.closed.is_(None),
    postgresql_where=incidents.c.closed.is_(None),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Identity, primary_key=True),
    _name("model"),
    Column("release", Integer, nullable=False),
    _name("state"),
    Column("closed", Float, nullable=True),
    Column("data", Text, nullable=False),
    UniqueConstraint("model", "release"),
)

targets = Table("targets", metadata, _name("model", primary_key=True), Column("release", Integer, nullable=False))
"""The release that the whole fleet should run; a rollout that is done moves it."""

commands = Table(
    "commands",
    metadata,
    Column("id", String(64), primary_key=True),
    _name("device", primary_key=True),
    Column("incident", BigInteger, nullable=False),
    _name("verb"),
    Column("payload", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("sent", Float, nullable=True),  # when the broker acknowledged it
    Column("answered", Float, nullable=True),
    Column("ok", Integer, nullable=True),
    Column("total", BigInteger, nullable=False),  # samples: what the device may send in all
    Column("had", BigInteger, nullable=False),  # samples: what it had sent when it was asked
    Column("until", Float, nullable=False),  # samples: the device's time of its last chunk
    Column("text", Text, nullable=False, default=""),
)

samples = Table(
    "samples",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("incident", BigInteger, nullable=False),
    _name("device"),
    Column("sample", String(200), nullable=False),
    _name("model"),
    Column("dtype", String(16), nullable=False),
    Column("shape", String(64), nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("predicted", String(200), nullable=False),
    Column("score", Float, nullable=False),
    UniqueConstraint("incident", "device", "sample"),
    ForeignKeyConstraint(["incident"], ["incidents.id"]),
)

truth = Table(
    "truth",
    metadata,
    _name("model", primary_key=True),
    _name("device", primary_key=True),
    Column("sample", String(200), primary_key=True),
    Column("label", String(200), nullable=False),
    Column("source", String(200), nullable=False),
    Column("received", Float, nullable=False, index=True),
)
"""What an answer should have been. The device is that of the topic: a device never labels for others."""

events = Table(
    "events",
    metadata,
    Column("id", Identity, primary_key=True),
    _name("device"),
    _name("kind"),
    _name("level"),
    Column("model", String(64), nullable=False),
    Column("release", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("received", Float, nullable=False),
)
"""What devices told about themselves: faults, updates, rollbacks, drift."""

log = Table(
    "log",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("time", Float, nullable=False),
    _name("what"),
    Column("subject", String(64), nullable=False),  # number of the incident or rollout, name of the device
    _name("model"),
    _name("state"),
    Column("text", Text, nullable=False),
    Column("details", Text, nullable=False),
)
"""Every transition, written in the transaction that makes it; ``timeline.jsonl`` is copied from here."""
