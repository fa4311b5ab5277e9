"""Work that goes on where it was killed.

Invariants, held by ``tests/edge_agent/bulk/test_journal.py``:

1. ``OUT`` appears whole or not at all. Until then ``OUT.partial`` holds what is done, in segments, and ``OUT.journal``
   one line for each: how many rows, where it ends, its CRC-32.
2. A segment counts when its journal line is whole and its bytes have that checksum. So neither a kill nor a power cut
   that wrote one of the files and not the other can lose, repeat or garble a row, and no segment waits for the disk.
3. A journal belongs to one job; another job does not touch it unless it is told to.
4. One process at a time writes a file.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import IO

import msgspec
from msgspec import Struct

from shared.errors import UNREADABLE, UsageError
from shared.files import fsync_directory, reason

FORMAT = 1
SYNC_S = 5.0
"""A power cut costs at most this much work; a kill costs none that is in the journal."""


class Identity(Struct, frozen=True):
    """What makes a job this one: digests of model and inputs, the variant, which shard, and what shapes the output."""

    model: str
    variant: str
    inputs: str
    shard: str
    options: str


class _Head(Struct, frozen=True):
    format: int
    identity: Identity


class Mark(Struct, frozen=True):
    """One segment: rows it answers, how many of them are bad, the partial file's size after it, its CRC-32."""

    rows: int
    bad: int
    bytes: int
    crc: int


class Journal:
    """The partial file of ``out`` and its journal, open for appending.

    ``rows`` and ``bad`` tell what earlier runs have done.

    Raises:
        UsageError: the files cannot be written, belong to another job, or another process is at them.
    """

    def __init__(self, out: Path, identity: Identity, *, restart: bool = False) -> None:
        self.out, self.partial, self.path = out, beside(out, ".partial"), beside(out, ".journal")
        try:
            self._journal: IO[bytes] = self.path.open("a+b")
            self._lock()
            marks, size = self._recover(identity) if not restart else ([], 0)
            self._data: IO[bytes] = self.partial.open("r+b" if marks else "w+b")
            self._data.truncate(marks[-1].bytes if marks else 0)
            self._data.seek(0, os.SEEK_END)
            self._journal.truncate(size)
            self._journal.seek(0, os.SEEK_END)
            if not size:
                self._line(_Head(FORMAT, identity))
        except OSError as error:
            raise UsageError(f"--out {out}: {reason(error)}") from error
        self.marks = marks
        self.rows = sum(mark.rows for mark in marks)
        self.bad = sum(mark.bad for mark in marks)
        self._synced = monotonic()

    def append(self, data: bytes, rows: int, bad: int) -> None:
        """Add a segment."""
        self._data.write(data)
        self._data.flush()
        mark = Mark(rows, bad, self._data.tell(), zlib.crc32(data))
        self._line(mark)
        self.marks.append(mark)
        if monotonic() - self._synced > SYNC_S:
            self._sync()

    def finish(self, build: Callable[[IO[bytes], Path], None] | None = None) -> None:
        """Make ``out``: the segments as they are, or what ``build`` makes of the partial file at a path beside it."""
        self._sync()
        if build is None:
            self.partial.replace(self.out)
        else:
            joining = beside(self.out, ".joining")
            try:
                build(self._data, joining)
                with joining.open("rb") as file:
                    os.fsync(file.fileno())
                joining.replace(self.out)
            except BaseException:
                joining.unlink(missing_ok=True)
                raise
        fsync_directory(self.out.parent)
        self.partial.unlink(missing_ok=True)
        self.path.unlink()
        self.close()

    def close(self) -> None:
        """Close the files; those of a job that has done nothing yet are removed."""
        if not self._data.closed and not any(mark.rows for mark in self.marks) and self.path.exists():
            self.partial.unlink(missing_ok=True)
            self.path.unlink()
        self._data.close()
        self._journal.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._journal.close()
            raise UsageError(f"--out {self.out}: another process is writing it") from error

    def _recover(self, identity: Identity) -> tuple[list[Mark], int]:
        """Segments that are whole, and how much of the journal tells of them."""
        self._journal.seek(0)
        lines = self._journal.read().split(b"\n")[:-1]  # what follows the last newline was torn
        if not lines or not self.partial.exists():
            return [], 0
        try:
            head = msgspec.json.decode(lines[0], type=_Head)
        except UNREADABLE:
            return [], 0
        self._same(head, identity)
        marks, size, at = [], len(lines[0]) + 1, 0
        with self.partial.open("rb") as data:
            for line in lines[1:]:
                mark = _read_mark(line)
                if mark is None or mark.bytes < at:
                    break
                segment = data.read(mark.bytes - at)
                if len(segment) != mark.bytes - at or zlib.crc32(segment) != mark.crc:
                    break
                marks.append(mark)
                size, at = size + len(line) + 1, mark.bytes
        return marks, size

    def _same(self, head: _Head, identity: Identity) -> None:
        names = Identity.__struct_fields__
        other = [name for name in names if getattr(head.identity, name) != getattr(identity, name)]
        if head.format != FORMAT or other:
            self._journal.close()
            raise UsageError(
                f"{self.partial} was begun by another job ({', '.join(other) or 'format'} differ); "
                "repeat that command to go on, or give --restart to begin anew"
            )

    def _line(self, value: Struct) -> None:
        self._journal.write(msgspec.json.encode(value) + b"\n")
        self._journal.flush()

    def _sync(self) -> None:
        os.fsync(self._data.fileno())
        os.fsync(self._journal.fileno())
        self._synced = monotonic()


def beside(out: Path, suffix: str) -> Path:
    """``out`` with ``suffix`` after its name."""
    return out.with_name(out.name + suffix)


def begun(out: Path) -> Identity | None:
    """The job that a journal beside ``out`` belongs to, if there is one."""
    try:
        with beside(out, ".journal").open("rb") as file:
            return msgspec.json.decode(file.readline(1 << 16), type=_Head).identity
    except (OSError, *UNREADABLE):
        return None


def _read_mark(line: bytes) -> Mark | None:
    try:
        return msgspec.json.decode(line, type=Mark)
    except UNREADABLE:
        return None
