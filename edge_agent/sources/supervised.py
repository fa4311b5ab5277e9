"""A source that is opened, breaks, and is opened again: what files, folders and cameras have in common."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from edge_agent.retry import Backoff, Retry
from edge_agent.sources import Sample
from shared.errors import MissingExtraError, SanderlingError

log = logging.getLogger("edge_agent.source")


class Supervised:
    """``open``, ``read`` and ``close`` are the subclass's; whatever they raise is trouble, told once, and tried
    again."""

    def __init__(
        self,
        name: str,
        *,
        policy: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        retry: Retry | None = None,
    ) -> None:
        self.bad = 0
        self.last_error = ""
        self.trouble = ""
        self.ended = False
        self.name = name
        self._opened = False
        self._clock = clock
        self._sleep = sleep
        self._retry = retry or Retry(policy or Backoff(), clock=clock)

    def open(self) -> None:
        """Get ready to read."""

    def read(self, seconds: float) -> list[Sample]:
        """What is there, waiting up to ``seconds``."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what ``open`` has taken, also when that had failed half-way."""

    def poll(self, seconds: float) -> list[Sample]:
        """See :class:`edge_agent.sources.Source`."""
        if self.ended:
            self._sleep(seconds)
            return []
        try:
            if not self._opened:
                wait = self._retry.wait()
                if wait > 0:
                    self._sleep(min(wait, seconds))
                    return []
                self._retry.begun()
                self.open()
                self._opened = True
            samples = self.read(seconds)
        except MissingExtraError:
            raise  # no trying again helps
        except (SanderlingError, OSError) as error:
            self._broke(str(error))
            return []
        except Exception as error:  # a driver may raise anything
            self._broke(f"{type(error).__name__}: {error}")
            return []
        if samples:
            self.well()
        return samples

    def well(self) -> None:
        """Samples come: what was wrong is over."""
        if self.trouble:
            log.info("source %s: goes on", self.name)
            self.trouble = self.last_error = ""

    def spoilt(self, error: str) -> None:
        """A sample, or a file of them, could not be read; the source goes on."""
        self.bad += 1
        self.last_error = error

    def stop(self) -> None:
        """See :class:`edge_agent.sources.Source`."""
        self._opened = False
        self.close()

    def _broke(self, error: str) -> None:
        self.stop()
        delay = self._retry.failed()
        if error != self.trouble:
            log.warning("source %s: %s; trying again in %.3g s", self.name, error, delay)
        self.trouble = self.last_error = error
