"""The database: engine, transactions, and the few statements that several parts need."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from cloud_trainer.controller import schema
from shared.errors import StoreError, one_line

BUSY_SECONDS = 10.0
BAD_PAYLOAD_BYTES = 512
BAD_ROWS = 1000
LOG_ROWS = 50_000  # all of them are in timeline.jsonl as well
EVENT_ROWS = 100_000
WINDOW_ROWS = 500_000  # some 1 KiB each
MESSAGE_ROWS = 5_000_000
TRUTH_ROWS_PER_DEVICE = 50_000
DAY = 86_400.0


class LogEntry(msgspec.Struct, frozen=True):
    """One transition. ``subject`` is the number of the incident or rollout, or the name of the device."""

    what: str  # "incident" | "rollout" | "alarm" | "device" | "release"
    subject: str
    model: str
    state: str
    text: str
    details: dict[str, Any] = {}


class Store:
    """A controller's database. Each thread takes its own connection; writers wait for each other.

    Raises:
        StoreError: the database cannot be opened, or is of another schema version.
    """

    def __init__(self, url: str) -> None:
        shown = re.sub(r"(://[^:@/]*):[^@/]*@", r"\1:***@", url)  # no password in a log
        try:
            self.engine = sa.create_engine(url)
            if self.engine.dialect.name == "sqlite":
                _prepare_sqlite(self.engine)
            elif self.engine.dialect.name != "postgresql":
                raise StoreError(f"database {shown!r}: only sqlite and postgresql are supported")
            with self.engine.begin() as connection:
                schema.metadata.create_all(connection)
                _check_version(connection)
        except (SQLAlchemyError, ImportError) as error:
            raise StoreError(f"database {shown!r} cannot be opened: {_reason(error)}") from error

    @classmethod
    def in_workspace(cls, workspace: Path, url: str = "") -> Store:
        """The database at ``url``, by default ``controller.db`` in ``workspace``, which is made if missing."""
        try:
            workspace.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"workspace {workspace} cannot be made: {error.strerror}") from error
        return cls(url or f"sqlite:///{workspace / 'controller.db'}")

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction that writes: all of it or, on any exception, nothing.

        Raises:
            StoreError: the database failed.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(f"database: {_reason(error)}") from error

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A consistent view for reading; never waits for a writer (in SQLite thanks to its write-ahead log)."""
        try:
            with self.engine.connect().execution_options(reading=True) as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(f"database: {_reason(error)}") from error

    def claim(self, what: str, owner: str) -> None:
        """Note at the first start whose rows these are.

        Raises:
            StoreError: they are somebody else's.
        """
        with self.transaction() as connection:
            insert_ignore(connection, schema.meta, {"key": what, "value": owner})
            found = read_meta(connection, what)
        if found != owner:
            raise StoreError(f"the database is about {what} {found}, not {owner}; use another workspace")

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _prepare_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not guessed by the driver
        for pragma in (
            f"busy_timeout={int(BUSY_SECONDS * 1000)}",
            "journal_mode=WAL",
            "synchronous=FULL",  # what was acknowledged to the broker must survive a power cut
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # IMMEDIATE: a transaction that reads first and writes later would otherwise fail when another one wrote between
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _check_version(connection: sa.Connection) -> None:
    insert_ignore(connection, schema.meta, {"key": "schema", "value": str(schema.SCHEMA_VERSION)})
    found = connection.scalar(sa.select(schema.meta.c.value).where(schema.meta.c.key == "schema"))
    if found != str(schema.SCHEMA_VERSION):
        raise StoreError(
            f"database has schema version {found}; this version of sanderling works with {schema.SCHEMA_VERSION}"
        )


def _reason(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    return one_line(original)


def insert_ignore(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Insert a row; false if one with the same key is there already."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    result = connection.execute(insert(table).values(**values).on_conflict_do_nothing())
    return result.rowcount == 1


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    values: Mapping[str, Any],
    *,
    where: sa.ColumnElement[bool] | None = None,
) -> None:
    """Insert a row, or change the named columns of the one that has its primary key (if that row is as ``where``)."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    keys = [column.name for column in table.primary_key]
    rest = {name: value for name, value in values.items() if name not in keys}
    statement = insert(table).values(**values)
    connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=rest, where=where)
        if rest
        else statement.on_conflict_do_nothing()
    )


def read_meta(connection: sa.Connection, key: str) -> str:
    """What is noted under ``key``; empty: nothing."""
    return connection.scalar(sa.select(schema.meta.c.value).where(schema.meta.c.key == key)) or ""


def write_log(connection: sa.Connection, now: float, entries: Sequence[LogEntry]) -> None:
    """Add transitions to the log, in the transaction that makes them."""
    for entry in entries:
        values = msgspec.to_builtins(entry) | {"time": now, "details": msgspec.json.encode(entry.details).decode()}
        connection.execute(schema.log.insert().values(**values))


def prune(connection: sa.Connection, now: float, *, keep_seconds: float = 30 * DAY) -> None:
    """Forget what no decision can need any more, so that the database stays bounded.

    Keys of duplicates, folded windows, truth and device events go after ``keep_seconds``, or earlier where there are
    more than ``..._ROWS`` of them; samples and commands ``keep_seconds`` after their incident. The newest row of each
    table stays, or SQLite would give its number again, and others have that number noted.
    """
    old = now - keep_seconds
    messages, windows, events, alarms = schema.messages, schema.windows, schema.events, schema.alarms
    _forget(connection, messages, messages.c.received < old, MESSAGE_ROWS)
    _forget(connection, events, events.c.received < old, EVENT_ROWS)
    _forget(connection, windows, windows.c.received < old, WINDOW_ROWS, only=windows.c.round.is_not(None))
    _forget(connection, schema.bad_messages, sa.false(), BAD_ROWS)
    _forget(connection, schema.log, sa.false(), LOG_ROWS)
    targets = schema.targets
    current = sa.exists().where(targets.c.model == alarms.c.model, targets.c.release == alarms.c.release)
    connection.execute(alarms.delete().where(alarms.c.received < old, ~current))
    closed = sa.select(schema.incidents.c.id).where(schema.incidents.c.closed < old)
    for table in (schema.samples, schema.commands):
        connection.execute(table.delete().where(table.c.incident.in_(closed)))
    _forget_truth(connection, old)


def _forget(
    connection: sa.Connection,
    table: sa.Table,
    old: sa.ColumnElement[bool],
    rows: int,
    *,
    only: sa.ColumnElement[bool] | None = None,
) -> None:
    newest = connection.scalar(sa.select(sa.func.max(table.c.id))) or 0
    goes = sa.or_(old, table.c.id <= newest - rows) & (table.c.id < newest)
    connection.execute(table.delete().where(goes if only is None else goes & only))


def _forget_truth(connection: sa.Connection, old: float) -> None:
    truth = schema.truth
    connection.execute(truth.delete().where(truth.c.received < old))
    many = sa.select(truth.c.device).group_by(truth.c.device).having(sa.func.count() > TRUTH_ROWS_PER_DEVICE)
    for device in connection.scalars(many).all():
        mine = truth.c.device == device
        times = sa.select(truth.c.received).where(mine).order_by(truth.c.received.desc())
        last = connection.scalar(times.offset(TRUTH_ROWS_PER_DEVICE).limit(1))
        connection.execute(truth.delete().where(mine, truth.c.received <= last))
