"""The thread that turns a desired release into an engine that is ready to run.

Fetch (verified, into the free slot) → load → self-test → select → commit → hand over. What runs keeps running until
the main loop swaps engines between two inferences; a release that fails on the way is discarded and refused. A
repository that is away is tried again, later each time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from edge_agent.updates.slots import Installed
from shared.errors import LinkError, SanderlingError
from shared.manifest import Manifest, Variant

if TYPE_CHECKING:
    from edge_agent.engine import Engine

log = logging.getLogger("edge_agent.update")

RETRY_FIRST_SECONDS = 2.0
RETRY_MOST_SECONDS = 300.0


class Updates(Protocol):
    """What is needed of :class:`edge_agent.updates.Updater`."""

    def current(self) -> Installed | None:
        """What is installed."""
        ...

    def fetch(self, version: int, wanted: Callable[[Manifest], Sequence[Variant]]) -> Installed:
        """Download and verify."""
        ...

    def commit(self, installed: Installed) -> None:
        """Make it the one that runs after a restart."""
        ...

    def discard(self, installed: Installed) -> None:
        """Forget it."""
        ...


class Ready(Struct, frozen=True):
    """An engine to swap in. ``command`` is the id of the command that asked for it, if one did."""

    engine: Engine
    installed: Installed
    command: str = ""


class Failed(Struct, frozen=True):
    """A release was not taken. ``retry`` is the number of seconds until the next try, None when it is refused."""

    version: int
    error: str
    retry: float | None
    command: str = ""


class _Job(Struct, frozen=True):
    version: int  # 0: select again among the variants of what runs
    command: str = ""
    tries: int = 0


def retry_delay(tries: int) -> float:
    """Seconds before the next try after ``tries`` failures.

    >>> [retry_delay(n) for n in (1, 2, 3, 50)]
    [2.0, 4.0, 8.0, 300.0]
    """
    return min(RETRY_MOST_SECONDS, RETRY_FIRST_SECONDS * 2.0 ** min(tries - 1, 30))


class UpdateWorker:
    """Runs one job at a time; of several desired releases only the latest counts.

    ``load`` makes a tested engine of a release directory (its second argument: measure again); ``wanted`` names the
    variants to download. ``done`` is called in this thread with each outcome; after a :class:`Ready` the worker waits
    for :meth:`swapped`.
    """

    def __init__(
        self,
        updates: Updates,
        load: Callable[[Path, bool], Engine],
        wanted: Callable[[Manifest], Sequence[Variant]],
        done: Callable[[Ready | Failed], None],
    ) -> None:
        self.doing = ""
        """What it is busy with, for people."""
        self._updates = updates
        self._load = load
        self._wanted = wanted
        self._done = done
        self._running = 0
        self._jobs: dict[str, _Job] = {}  # "desired" and "select": one of each may wait
        self._not_before = 0.0
        self._stopping = False
        self._swapped = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)

    def start(self, running: int) -> None:
        """Begin; ``running`` is the version of the engine that runs, 0 for none."""
        self._running = running
        self._thread.start()

    def want(self, version: int) -> None:
        """Release ``version`` is desired."""
        with self._changed:
            self._jobs["desired"] = _Job(version)
            self._not_before = 0.0
            self._changed.notify()

    def select(self, command: str) -> bool:
        """Measure the variants of what runs again; False when that is to be done already, for another command."""
        with self._changed:
            if "select" in self._jobs:
                return False
            self._jobs["select"] = _Job(0, command)
            self._changed.notify()
            return True

    def swapped(self, version: int) -> None:
        """The main loop runs the engine that it was given."""
        self._running = version
        self._swapped.set()

    def stop(self, seconds: float) -> bool:
        """End; a download or measurement that is under way is left behind, and the answer is False."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._swapped.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._stopping:
                if "select" in self._jobs:
                    return self._jobs.pop("select")
                left = self._not_before - time.monotonic()
                if "desired" in self._jobs and left <= 0:
                    return self._jobs.pop("desired")
                self._changed.wait(left if "desired" in self._jobs else None)
            return None

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                ready = self._select_again(job) if job.version == 0 else self._take(job)
            except LinkError as error:
                self._try_again(job, error)
            except SanderlingError as error:
                self._done(Failed(job.version, str(error), None, job.command))
            except Exception as error:  # whatever a new release does must not end the updates for good
                log.exception("release %d failed in an unexpected way", job.version)
                self._done(Failed(job.version, f"{type(error).__name__}: {error}", None, job.command))
            else:
                if ready is not None and not self._stopping:
                    self._swapped.clear()
                    self._done(ready)
                    self._swapped.wait()
            self.doing = ""

    def _take(self, job: _Job) -> Ready | None:
        if job.version == self._running:
            return None
        log.info("fetching release %d", job.version)
        self.doing = f"fetching release {job.version}"
        installed = self._updates.fetch(job.version, self._wanted)
        try:
            self.doing = f"testing and measuring release {job.version}"
            engine = self._load(installed.path, False)
            try:
                self._updates.commit(installed)
            except Exception:
                engine.close()
                raise
        except Exception:
            self._updates.discard(installed)
            raise
        return Ready(engine, installed)

    def _select_again(self, job: _Job) -> Ready:
        installed = self._updates.current()
        if installed is None:
            raise LinkError("no release is installed yet")
        self.doing = "measuring the variants again"
        return Ready(self._load(installed.path, True), installed, job.command)

    def _try_again(self, job: _Job, error: LinkError) -> None:
        if job.version == 0:
            self._done(Failed(0, str(error), None, job.command))
            return
        delay = retry_delay(job.tries + 1)
        with self._changed:
            if "desired" not in self._jobs:  # else something newer is desired
                self._jobs["desired"] = _Job(job.version, tries=job.tries + 1)
                self._not_before = time.monotonic() + delay
        self._done(Failed(job.version, str(error), delay))
