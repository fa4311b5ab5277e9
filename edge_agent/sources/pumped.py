"""A source that waits for its samples in a thread of its own: cameras, brokers, Python functions."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator

from edge_agent.retry import Backoff, Retry
from edge_agent.sources import Sample

log = logging.getLogger("edge_agent.source")

JOIN_SECONDS = 1.0


class Pumped(ABC):
    """``produce`` is the subclass's and runs in the thread. What it raises is trouble: told once, and it is
    called again.

    At most ``capacity`` samples wait: then the oldest makes way (``newest_wins``), or ``produce`` waits.
    """

    def __init__(
        self, name: str, *, capacity: int, newest_wins: bool, policy: Backoff | None = None, retry: Retry | None = None
    ) -> None:
        self.bad = 0
        self.last_error = ""
        self.trouble = ""
        self.ended = False
        self.name = name
        self.stopping = threading.Event()
        self._capacity = capacity
        self._newest_wins = newest_wins
        self._retry = retry or Retry(policy or Backoff())
        self._waiting: deque[Sample] = deque()
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._run, name=f"source {name}", daemon=True)

    @abstractmethod
    def produce(self) -> Iterator[Sample | None]:
        """Samples, until there are no more, or None to say only that all is well. It must come back to its ``yield``
        now and then, and lets go of what it holds in ``finally``."""

    def poll(self, seconds: float) -> list[Sample]:
        """See :class:`edge_agent.sources.Source`. The first call starts the thread."""
        if self._thread.ident is None:
            self._thread.start()
        with self._changed:
            if not self._waiting and not self._over:
                self._changed.wait(seconds)
            elif not self._waiting:
                self.ended = True
                self.stopping.wait(seconds)
            samples = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        return samples

    def stop(self) -> None:
        """See :class:`edge_agent.sources.Source`. A driver that hangs is left behind."""
        self.stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(JOIN_SECONDS)
            if self._thread.is_alive():
                log.warning("source %s does not end; left behind", self.name)

    def spoilt(self, error: str) -> None:
        """A sample could not be read; the source goes on."""
        self.bad += 1
        self.last_error = error

    def put(self, sample: Sample) -> None:
        """Hand a sample over; may wait for room."""
        with self._changed:
            while len(self._waiting) >= self._capacity and not self.stopping.is_set():
                if self._newest_wins:
                    self._waiting.popleft()
                else:
                    self._changed.wait()
            self._waiting.append(sample)
            self._changed.notify_all()

    def well(self) -> None:
        """All is well (again)."""
        if self.trouble:
            log.info("source %s: goes on", self.name)
            self.trouble = self.last_error = ""

    def broke(self, error: str) -> None:
        """Nothing comes for now; waits for the next try."""
        delay = self._retry.failed()
        if error != self.trouble:
            log.warning("source %s: %s; trying again in %.3g s", self.name, error, delay)
        self.trouble = self.last_error = error
        self.stopping.wait(delay)

    def _run(self) -> None:
        while not self.stopping.is_set():
            self._retry.begun()
            try:
                self._pump()
            except (Exception, SystemExit) as error:  # a driver or a user's function may raise anything
                text = str(error) or type(error).__name__
                self.broke(text if isinstance(error, OSError) else f"{type(error).__name__}: {text}")
            else:
                break
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _pump(self) -> None:
        produced = self.produce()
        try:
            for sample in produced:
                if self.stopping.is_set():
                    return
                if sample is not None:
                    self.put(sample)
                self.well()
        finally:
            close = getattr(produced, "close", None)
            if close is not None:
                close()
