"""The database: engine, transactions, and the few statements that several parts need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from cloud_trainer.controller import schema
from shared.errors import StoreError

BUSY_SECONDS = 10.0
BAD_PAYLOAD_BYTES = 512
BAD_ROWS = 1000
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
        try:
            self.engine = sa.create_engine(url)
            if self.engine.dialect.name == "sqlite":
                _prepare_sqlite(self.engine)
            elif self.engine.dialect.name != "postgresql":
                raise StoreError(f"database {url!r}: only sqlite and postgresql are supported")
            with self.engine.begin() as connection:
                schema.metadata.create_all(connection)
                _check_version(connection)
        except (SQLAlchemyError, ImportError) as error:
            raise StoreError(f"database {url!r} cannot be opened: {_reason(error)}") from error

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
    return str(original).splitlines()[0] if str(original) else type(original).__name__


def insert_ignore(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Insert a row; false if one with the same key is there already."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    result = connection.execute(insert(table).values(**values).on_conflict_do_nothing())
    return result.rowcount == 1


def upsert(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> None:
    """Insert a row, or change the named columns of the one that has its primary key."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    keys = [column.name for column in table.primary_key]
    rest = {name: value for name, value in values.items() if name not in keys}
    statement = insert(table).values(**values)
    connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=rest) if rest else statement.on_conflict_do_nothing()
    )


def write_log(connection: sa.Connection, now: float, entries: Sequence[LogEntry]) -> None:
    """Add transitions to the log, in the transaction that makes them."""
    for entry in entries:
        values = msgspec.to_builtins(entry) | {"time": now, "details": msgspec.json.encode(entry.details).decode()}
        connection.execute(schema.log.insert().values(**values))


def prune(connection: sa.Connection, now: float, *, keep_seconds: float = 30 * DAY) -> None:
    """Forget what no decision can need any more, so that the database stays bounded.

    Keys of duplicates, folded windows, truth without a sample and device events go after ``keep_seconds``; of
    malformed messages the last ``BAD_ROWS`` stay.
    """
    old = now - keep_seconds
    connection.execute(schema.messages.delete().where(schema.messages.c.received < old))
    connection.execute(schema.events.delete().where(schema.events.c.received < old))
    connection.execute(schema.truth.delete().where(schema.truth.c.received < old))
    folded = schema.windows.c.round.is_not(None)
    connection.execute(schema.windows.delete().where(schema.windows.c.received < old, folded))
    last = connection.scalar(sa.select(sa.func.max(schema.bad_messages.c.id))) or 0
    connection.execute(schema.bad_messages.delete().where(schema.bad_messages.c.id <= last - BAD_ROWS))
