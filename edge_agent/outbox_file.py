"""The SQLite file behind the outbox: rows in order, one transaction for a group, room made when it is full."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from edge_agent import windows
from shared.errors import MessageError, StoreError
from shared.messages import JSON, Report, decode, encode

log = logging.getLogger("edge_agent.outbox")

SCHEMA_VERSION = 1
IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
LEAST_FREE_BYTES = 128 << 10
"""What an empty file with its log takes."""
URGENT, PLAIN = 0, 1
ROW_OVERHEAD_BYTES = 100  # what SQLite spends on a row besides the payload and the topic, roughly
ROOM_AFTER_CLEARING = 0.9  # clearing goes a little further than needed, so that not every commit has to

TABLES = """
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    priority INTEGER NOT NULL, kind TEXT NOT NULL, stream TEXT NOT NULL,
    topic TEXT NOT NULL, content_type TEXT NOT NULL, size INTEGER NOT NULL, payload BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_order ON outbox (priority, id);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


class Row(NamedTuple):
    """A message that is ready for the wire."""

    id: int
    topic: str
    payload: bytes
    content_type: str


class NewRow(NamedTuple):
    """A message to be stored."""

    priority: int
    kind: str
    stream: str
    topic: str
    content_type: str
    payload: bytes


class OutboxFile:
    """Rows on disk. Not thread-safe: :class:`edge_agent.outbox.Outbox` holds a lock around each call.

    Raises:
        StoreError: the file cannot be opened and not be replaced either (directory not writable, file in use).
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.moved_aside: Path | None = None
        """Where a file that could not be used went; None when all was well."""
        self._max_bytes = max_bytes
        self._highest = 0
        try:
            self._connection = _connect(path)
        except sqlite3.Error as error:
            self.replace(error)
        self._count()

    def _count(self) -> None:
        found = self._connection.execute("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM outbox").fetchone()
        self.rows, self.bytes = int(found[0]), int(found[1])
        self._highest = max(self._highest, self.last_of_first(-1, URGENT), self.last_of_first(-1, PLAIN))
        counter = self._connection.execute("SELECT value FROM counter WHERE name = 'dropped'").fetchone()
        self.dropped = int(counter[0]) if counter else 0

    def replace(self, error: sqlite3.Error) -> None:
        """Move the file aside and start with an empty one. One damaged file is kept, the newest, with its log: what was
        committed last is in there.

        Raises:
            StoreError: the file is not what is wrong (in use, disk full or not writable), or there can be no new one.
        """
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in IN_USE:
            raise StoreError(f"outbox {self.path} is in use by another program: {error}") from error
        if not _writable(self.path.parent):
            raise StoreError(f"outbox {self.path} cannot be opened ({error}): the disk is full or not writable")
        with contextlib.suppress(AttributeError, sqlite3.Error):  # not opened yet, or too damaged to be closed
            self._connection.close()
        aside = self.path.with_name(self.path.name + ".damaged")
        try:
            self.path.with_name(self.path.name + "-shm").unlink(missing_ok=True)
            for suffix in ("-wal", ""):
                aside.with_name(aside.name + suffix).unlink(missing_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + suffix).replace(aside.with_name(aside.name + suffix))
            self._connection = _connect(self.path)
            # an acknowledgement may still be under way for an old id: never give it to another row
            self._connection.execute("INSERT INTO sqlite_sequence VALUES ('outbox', ?)", (self._highest,))
        except (OSError, sqlite3.Error) as second:
            raise StoreError(f"outbox {self.path} cannot be opened ({error}) and not be replaced: {second}") from error
        self.moved_aside = aside
        self._count()
        log.error("the outbox %s could not be used (%s): moved to %s, started a new one", self.path, error, aside)

    def last_of_first(self, count: int, priority: int = PLAIN) -> int:
        """The id of the last one of the first ``count`` rows (-1: of all); 0 when there is none."""
        query = "SELECT MAX(id) FROM (SELECT id FROM outbox WHERE priority = ? ORDER BY id LIMIT ?)"
        return int(self._connection.execute(query, (priority, count)).fetchone()[0] or 0)

    def select(self, priority: int, after: int, limit: int, without: Collection[int]) -> list[Row]:
        """Up to ``limit`` rows behind ``after``, in order, but those in ``without``."""
        query = "SELECT id, topic, payload, content_type FROM outbox WHERE priority = ? AND id > ? ORDER BY id"
        found: list[Row] = []
        with contextlib.closing(self._connection.execute(query, (priority, after))) as cursor:
            while len(found) < limit and (values := cursor.fetchone()):
                if values[0] not in without:
                    found.append(Row(*values))
        return found

    def write(
        self, new: Sequence[NewRow], gone: Iterable[int], *, keep: Collection[int], sent: int, dropped: int
    ) -> None:
        """One durable transaction: delete ``gone``, append ``new``, make room.

        Args:
            keep: rows in flight, which must not be dropped.
            sent: rows up to this id may have reached the broker and are not merged.
            dropped: messages lost elsewhere, to be added to the count.

        Raises:
            sqlite3.Error: nothing was changed.
        """
        before = (self.rows, self.bytes, self.dropped)
        self.dropped += dropped
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._delete(gone)
            for row in new:
                size = len(row.payload) + len(row.topic) + ROW_OVERHEAD_BYTES
                inserted = self._connection.execute(
                    "INSERT INTO outbox (priority, kind, stream, topic, content_type, payload, size) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (*row, size),
                )
                self._highest = max(self._highest, inserted.lastrowid or 0)
                self.rows, self.bytes = self.rows + 1, self.bytes + size
            if self.bytes > self._max_bytes:
                self._make_room(keep, sent)
            if self.dropped != before[2]:
                self._connection.execute("INSERT OR REPLACE INTO counter VALUES ('dropped', ?)", (self.dropped,))
            self._connection.execute("COMMIT")
        except BaseException:
            self.rows, self.bytes, self.dropped = before
            with contextlib.suppress(sqlite3.Error):  # the error that matters is on its way already
                self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _delete(self, rows: Iterable[int]) -> int:
        count = 0
        for row in rows:
            found = self._connection.execute("SELECT size FROM outbox WHERE id = ?", (row,)).fetchone()
            if found:
                self._connection.execute("DELETE FROM outbox WHERE id = ?", (row,))
                self.bytes -= int(found[0])
                count += 1
        self.rows -= count
        return count

    def _make_room(self, keep: Collection[int], sent: int) -> None:
        """Merge drift windows, then drop the oldest plain rows, until there is room."""
        target = int(self._max_bytes * ROOM_AFTER_CLEARING)
        self._merge(self.bytes - target, sent)
        if self.bytes <= self._max_bytes:
            return
        drop, left = [], self.bytes
        for row, size in self._connection.execute(
            "SELECT id, size FROM outbox WHERE priority = ? ORDER BY id", (PLAIN,)
        ).fetchall():
            if left <= target:
                break
            if row not in keep:
                drop.append(row)
                left -= size
        lost = self._delete(drop)
        self.dropped += lost
        log.warning("the outbox is full: dropped the %d oldest messages that are no alerts", lost)

    def _merge(self, excess: int, sent: int) -> None:
        """Merge windows that were never sent, until ``excess`` bytes came free or nothing is left to merge."""
        found, lengths = [], {}
        query = "SELECT id, stream, payload, content_type FROM outbox WHERE kind = 'report' AND id > ? ORDER BY id"
        for row, stream, payload, content_type in self._connection.execute(query, (sent,)).fetchall():
            lengths[row] = len(payload)
            try:
                found.append((row, stream, decode(payload, Report, content_type), len(payload)))
            except MessageError as error:
                log.warning("a drift window in the outbox is not merged: %s", error)
        enough = self.bytes - excess
        for reports in windows.by_stream(found).values():
            changed, swallowed = windows.plan(reports, self.bytes - enough)
            for row, report in changed.items():
                payload = encode(report)
                grown = len(payload) - lengths[row]
                self._connection.execute(
                    "UPDATE outbox SET payload = ?, content_type = ?, size = size + ? WHERE id = ?",
                    (payload, JSON, grown, row),
                )
                self.bytes += grown
            self._delete(swallowed)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 256")
        connection.execute(f"PRAGMA journal_size_limit = {1 << 20}")
        _check(connection)
        connection.executescript(TABLES)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def _writable(directory: Path) -> bool:
    """Whether a small file can be written here: a full disk and a damaged file give the same errors."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0" * LEAST_FREE_BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True


def _check(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in {0, SCHEMA_VERSION}:
        raise sqlite3.DatabaseError(f"format {version}; this version reads {SCHEMA_VERSION}")
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(str(found))
