"""Samples of files that somebody puts into a folder.

A file is complete when it was renamed into place (its time of change is that of the rename, after its last write) or
when size and times have stood still for a while. It is taken once: remembered by name, size and time of writing, across
restarts, or moved into another folder. Hidden files and ``*.tmp``, ``*.part`` are files in the making.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from edge_agent.sources import Sample
from edge_agent.sources.config import DirectorySource
from edge_agent.sources.replay import rows
from edge_agent.sources.supervised import Supervised
from shared.errors import UNREADABLE, MissingExtraError, SanderlingError
from shared.files import write_atomic
from shared.manifest import SampleSpec

log = logging.getLogger("edge_agent.source")

MEMORY = "directory-source.json"
ROWS_AT_ONCE = 64
UNFINISHED = (".tmp", ".part", ".partial", ".crdownload")
FOUND_MAX = 10_000
RENAMED_SECONDS = 0.001
SAVE_SECONDS = 2.0


class Stamp(NamedTuple):
    """What tells one file from a later one of the same name."""

    size: int
    written: int  # nanoseconds since 1970
    changed: int


class _Memory(Struct):
    path: str
    taken: dict[str, tuple[int, int]]


def complete(stamp: Stamp, before: Stamp | None, still: float, settle: float) -> bool:
    """Whether a file is whole: it was renamed after its last write, or has stood ``still`` seconds unchanged.

    >>> complete(Stamp(5, 0, 0), None, 0.0, 1.0), complete(Stamp(5, 0, 2_000_000), None, 0.0, 1.0)
    (False, True)
    >>> complete(Stamp(5, 0, 0), Stamp(5, 0, 0), 1.5, 1.0), complete(Stamp(6, 0, 0), Stamp(5, 0, 0), 1.5, 1.0)
    (True, False)
    """
    if stamp.changed - stamp.written > RENAMED_SECONDS * 1e9:
        return True
    return before == stamp and still >= settle


class Directory(Supervised):
    """Watches one folder. ``memory`` is where it remembers what it has taken."""

    def __init__(
        self,
        config: DirectorySource,
        signature: Sequence[SampleSpec],
        memory: Path | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(config.path, clock=clock, sleep=sleep)
        self._config = config
        self._path = Path(config.path)
        self._signature = tuple(signature)
        self._memory = memory / MEMORY if memory is not None and not config.done else None
        self._taken = self._remembered()
        self._seen: dict[str, tuple[Stamp, float]] = {}
        self._waiting: list[tuple[Path, Stamp]] = []
        self._current: tuple[Path, Stamp, Iterator[Sample | None]] | None = None
        self._next_look = self._next_save = 0.0
        self._unsaved = False

    def read(self, seconds: float) -> list[Sample]:
        """See :class:`Supervised`."""
        if self._current is None and not self._waiting:
            self._look(seconds)
        samples: list[Sample] = []
        while len(samples) < ROWS_AT_ONCE and (self._current or self._waiting):
            samples += self._some(ROWS_AT_ONCE - len(samples))
        self._save()
        return samples

    def close(self) -> None:
        """See :class:`Supervised`. A file that was begun is read again next time: its samples come once more rather
        than never."""
        self._current, self._waiting = None, []
        self._save(now=True)

    def _look(self, seconds: float) -> None:
        """Find complete files, oldest first."""
        wait = self._next_look - self._clock()
        if wait > 0:
            self._sleep(min(wait, seconds))
            if wait > seconds:
                return
        self._next_look = self._clock() + self._config.every_seconds
        found: dict[str, Stamp] = {}
        for path in self._path.glob(self._config.pattern):
            if path.name.startswith(".") or path.suffix in UNFINISHED or not path.is_file():
                continue
            try:
                stat = path.stat()
            except FileNotFoundError:  # taken away this very moment
                continue
            found[path.name] = Stamp(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if not found:
            os.scandir(
                self._path
            ).close()  # the search is silent about a folder that is gone or closed to us; this is not
        self.well()
        self._forget(found)
        fresh = {name: stamp for name, stamp in found.items() if self._taken.get(name) != stamp[:2]}
        now = self._clock()
        for name, stamp in fresh.items():
            before, since = self._seen.get(name, (None, now))
            if before != stamp:
                since = now
            self._seen[name] = (stamp, since)
            if complete(stamp, before, now - since, self._config.settle_seconds):
                self._waiting.append((self._path / name, stamp))
        self._waiting.sort(key=lambda one: (one[1].written, one[0].name))
        del self._waiting[FOUND_MAX:]

    def _forget(self, found: dict[str, Stamp]) -> None:
        """Of files that are gone nothing needs to be remembered."""
        gone = self._taken.keys() - found.keys()
        for name in gone:
            del self._taken[name]
        self._unsaved = self._unsaved or bool(gone)
        self._seen = {name: seen for name, seen in self._seen.items() if name in found}

    def _some(self, most: int) -> list[Sample]:
        if self._current is None:
            path, stamp = self._waiting.pop(0)
            self._current = (path, stamp, self._rows(path))
        path, stamp, found = self._current
        samples = []
        try:
            for row in found:
                if row is not None:
                    samples.append(row)
                if len(samples) >= most:
                    return samples
        except (SanderlingError, OSError) as error:
            if isinstance(error, MissingExtraError):
                raise
            if path.exists():  # else somebody took it away between the look and now
                self.spoilt(str(error))
                log.warning("source %s: %s cannot be read, it is left out: %s", self.name, path.name, error)
        self._current = None
        self._done(path, stamp)
        return samples

    def _rows(self, path: Path) -> Iterator[Sample | None]:
        config = self._config
        return rows(path, self._signature, 0, self._spoilt, config.pixels, config.resize, path.name)

    def _spoilt(self, _row: int, error: str) -> None:
        self.spoilt(error)

    def _done(self, path: Path, stamp: Stamp) -> None:
        if self._config.done:
            try:
                self._move(path)
            except FileNotFoundError:
                return
            except OSError as error:
                log.error("%s cannot be moved to %s: %s", path, self._config.done, error.strerror)  # noqa: TRY400
            else:
                self._seen.pop(path.name, None)
                return
        self._taken[path.name] = stamp[:2]
        self._unsaved = True

    def _move(self, path: Path) -> None:
        folder = Path(self._config.done)
        folder.mkdir(parents=True, exist_ok=True)
        target, n = folder / path.name, 1
        while target.exists():  # never over an earlier file of that name
            target, n = folder / f"{path.stem}.{n}{path.suffix}", n + 1
        path.rename(target)

    def _remembered(self) -> dict[str, tuple[int, int]]:
        if self._memory is None or not self._memory.exists():
            return {}
        try:
            memory = msgspec.json.decode(self._memory.read_bytes(), type=_Memory)
        except (OSError, *UNREADABLE) as error:
            log.warning("%s cannot be read, files may be answered again: %s", self._memory, error)
            return {}
        return memory.taken if memory.path == str(self._path) else {}

    def _save(self, *, now: bool = False) -> None:
        if self._memory is None or not self._unsaved or (not now and self._clock() < self._next_save):
            return
        self._next_save = self._clock() + SAVE_SECONDS
        try:
            write_atomic(self._memory, msgspec.json.encode(_Memory(str(self._path), self._taken)))
            self._unsaved = False
        except OSError as error:
            log.error("%s cannot be written: %s", self._memory, error.strerror)  # noqa: TRY400  (told in full)
