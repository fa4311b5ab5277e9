"""Durable store-and-forward: what a device has to say waits here until the broker has acknowledged it.

Invariants, held by ``tests/edge_agent/test_outbox.py``:

1. What ``flush`` has returned True for survives a killed process and a power cut (WAL, ``synchronous=FULL``).
2. A row leaves only when it was acknowledged, merged into its neighbour, or dropped for room; drops are counted.
3. ``(boot, stream, sequence)`` counts from 1 in each stream and is given when the row is committed, not before.
4. Rows are handed out in the order of their stream; urgent ones (events, replies) overtake the others.
5. The file holds at most ``max_bytes`` of plain rows beside those in flight; events are never dropped.
6. A row that may have reached the broker is never merged: its counts would count twice.

Rows are committed in groups, because each commit costs an fsync (one a row writes 19 times the payload to the disk,
groups of 50 write 3 times).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edge_agent.config import OutboxConfig
from edge_agent.outbox_file import PLAIN, URGENT, NewRow, OutboxFile, Row
from shared.errors import MessageError
from shared.messages import JSON, PAYLOAD_MAX_BYTES, UpMessage, encode
from shared.topics import parse

__all__ = ["IN_FLIGHT_MAX", "Outbox", "Row"]

log = logging.getLogger("edge_agent.outbox")

IN_FLIGHT_MAX = 20
PAYLOAD_LIMIT = PAYLOAD_MAX_BYTES - 1024  # the broker counts the topic and the properties too
URGENT_KINDS = frozenset({"event", "reply"})
RETRY_SECONDS = 1.0  # after a disk that would not take a group
PENDING_MAX = 10_000  # messages kept in memory while the disk takes nothing


class _Pending(NamedTuple):
    topic: str
    kind: str
    stream: str
    message: UpMessage
    content_type: str


class Outbox:
    """The queue, in one SQLite file. Every method may be called from any thread.

    ``boot`` is a name that no earlier start of this device used. ``wake`` is called when a group is complete or an
    urgent message came in: whoever runs the publishing thread then calls :meth:`commit`.

    Raises:
        StoreError: the file cannot be opened and not be replaced either (directory not writable, file in use).
    """

    def __init__(
        self, path: Path, config: OutboxConfig, *, boot: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.boot = boot
        self.wake: Callable[[], None] = lambda: None
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()  # the lists in memory; never held during I/O
        self._file_lock = threading.RLock()  # the file and what mirrors it; taken before ``_lock``
        self._pending: list[_Pending] = []
        self._pending_since: float | None = None
        self._acknowledged: list[int] = []
        self._acknowledged_since: float | None = None
        self._urgent = False
        self._sequences: dict[str, int] = {}
        self._handed: set[int] = set()
        self._cursor = {URGENT: 0, PLAIN: 0}
        self._lost = 0  # dropped, but not yet counted in the file
        self._failing = ""
        self._file = OutboxFile(path, config.max_bytes)
        # An earlier process may have sent the first rows without living to see, or to write down, the PUBACK.
        self._sent = self._file.last_of_first(IN_FLIGHT_MAX + config.group_rows)

    @property
    def rows(self) -> int:
        """Messages that wait, committed or not."""
        return max(0, self._file.rows - len(self._acknowledged)) + len(self._pending)

    @property
    def bytes(self) -> int:
        """Bytes of the committed messages."""
        return self._file.bytes

    @property
    def uncommitted(self) -> int:
        """Messages that are in memory only."""
        return len(self._pending)

    @property
    def dropped(self) -> int:
        """Messages dropped so far, over all starts with this file."""
        return self._file.dropped + self._lost

    @property
    def moved_aside(self) -> Path | None:
        """Where a file that could not be used went; None when all was well."""
        return self._file.moved_aside

    @property
    def failing(self) -> str:
        """Why the disk takes nothing right now; empty when it does."""
        return self._failing

    def put(self, topic: str, message: UpMessage, *, content_type: str = JSON, soon: bool = False) -> None:
        """Queue ``message``; it is numbered and written by a later :meth:`commit`, with ``soon`` the very next one.
        Never waits for the disk."""
        kind = parse(topic).kind
        urgent = soon or kind in URGENT_KINDS
        stream = kind if kind in URGENT_KINDS else topic.partition("/up/")[2]
        with self._lock:
            self._pending.append(_Pending(topic, kind, stream, message, content_type))
            if self._pending_since is None:
                self._pending_since = self._clock()
            self._urgent = self._urgent or urgent
            ready = self._urgent or len(self._pending) >= self._config.group_rows
        if ready:
            self.wake()

    def due_in(self) -> float | None:
        """Seconds until :meth:`commit` has something to do, 0 for now, None while nothing waits."""
        with self._lock:
            full = max(len(self._pending), len(self._acknowledged)) >= self._config.group_rows
            since = [s for s in (self._pending_since, self._acknowledged_since) if s is not None]
            if not since:
                return None
            if (self._urgent or full) and not self._failing:
                return 0.0
            delay = RETRY_SECONDS if self._failing else self._config.group_seconds
            return max(0.0, min(since) + delay - self._clock())

    def commit(self) -> None:
        """Write what is due, if anything is."""
        due = self.due_in()
        if due is not None and due <= 0:
            self.flush()

    def flush(self) -> bool:
        """Write everything now; False when the disk would not take it (it waits in memory and is tried again)."""
        with self._file_lock:
            with self._lock:
                pending, self._pending, self._pending_since, self._urgent = self._pending, [], None, False
                acknowledged, self._acknowledged, self._acknowledged_since = self._acknowledged, [], None
            if not pending and not acknowledged:
                return True
            try:
                self._write(pending, acknowledged)
            except sqlite3.Error as error:
                self._put_back(pending, acknowledged)
                self._fail(error)
                return False
            if self._failing:
                log.info("the outbox can be written again")
                self._failing = ""
            return True

    def take(self, limit: int) -> list[Row]:
        """Up to ``limit`` rows that were not handed out yet: urgent ones first, then in order."""
        taken: list[Row] = []
        with self._file_lock:
            try:
                for priority in (URGENT, PLAIN):
                    found = self._file.select(priority, self._cursor[priority], limit - len(taken), self._handed)
                    taken += found
                    self._handed.update(row.id for row in found)
                    if found:
                        self._cursor[priority] = found[-1].id
            except sqlite3.Error as error:
                self._fail(error)
        return taken

    def acknowledge(self, row: int) -> None:
        """The broker has taken ``row``: it leaves with the next commit."""
        with self._lock:
            self._acknowledged.append(row)
            if self._acknowledged_since is None:
                self._acknowledged_since = self._clock()

    def release(self, row: int) -> None:
        """The broker has refused ``row`` for now: hand it out again."""
        with self._file_lock:
            self._handed.discard(row)
            self._sent = max(self._sent, *self._cursor.values())
            for priority, last in self._cursor.items():
                self._cursor[priority] = min(last, row - 1)

    def discard(self, row: int) -> None:
        """The broker will never take ``row``: drop and count it."""
        with self._file_lock:
            self._lost += 1
        self.acknowledge(row)

    def close(self) -> None:
        """Write what waits and close the file."""
        with self._file_lock:
            self.flush()
            self._file.close()

    def _write(self, pending: list[_Pending], acknowledged: list[int]) -> None:
        sequences = dict(self._sequences)
        rows: list[NewRow] = []
        lost = self._lost
        for one in pending:
            try:
                rows.append(_numbered(one, self.boot, sequences))
            except MessageError as error:
                log.error("%s: dropped: %s", one.topic, error)  # noqa: TRY400  (the message is the whole story)
                lost += 1
        sent = max(self._sent, self._cursor[PLAIN])
        self._file.write(rows, acknowledged, keep=self._handed, sent=sent, dropped=lost)
        self._sequences, self._lost = sequences, 0
        self._handed.difference_update(acknowledged)

    def _put_back(self, pending: list[_Pending], acknowledged: list[int]) -> None:
        """Keep in memory what could not be written; when that gets too much, the oldest that is no event goes."""
        now = self._clock()
        with self._lock:
            self._pending[:0] = pending
            self._acknowledged[:0] = acknowledged
            self._pending_since = now if self._pending else None
            self._acknowledged_since = now if self._acknowledged else None
            excess = max(0, len(self._pending) - PENDING_MAX)
            lost = {id(one) for one in [one for one in self._pending if one.kind != "event"][:excess]}
            self._pending = [one for one in self._pending if id(one) not in lost]
        self._lost += len(lost)

    def _fail(self, error: sqlite3.Error) -> None:
        """Say it once; replace a file that turned out to be damaged. A full disk is no damage: it may pass."""
        if str(error) != self._failing:
            log.error("the outbox cannot be used, messages wait in memory: %s", error)
        self._failing = str(error)
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            self._file.replace(error)
            self._handed.clear()
            self._cursor = {URGENT: 0, PLAIN: 0}
            self._sent = 0
            with self._lock:
                self._acknowledged, self._acknowledged_since = [], None


def _numbered(one: _Pending, boot: str, sequences: dict[str, int]) -> NewRow:
    """The next number of its stream for ``one``, and its bytes."""
    message = one.message
    message.boot, message.stream, message.sequence = boot, one.stream, sequences.get(one.stream, 0) + 1
    payload = encode(message, one.content_type)
    if len(payload) > PAYLOAD_LIMIT:
        raise MessageError(f"{len(payload)} bytes; at most {PAYLOAD_LIMIT} fit into a message")
    sequences[one.stream] = message.sequence
    priority = URGENT if one.kind in URGENT_KINDS else PLAIN
    return NewRow(priority, one.kind, one.stream, one.topic, one.content_type, payload)
