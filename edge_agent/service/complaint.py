"""What is wrong, told once, and not again for every sample."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger("edge_agent.service")

COMPLAINT_SECONDS = 10.0
CALM_SECONDS = 60.0


class Complaint:
    """Logs what is wrong once; another text, as of bad samples that are bad in many ways, not before ten seconds."""

    def __init__(self) -> None:
        self._told, self._next = "", 0.0

    def tell(self, what: str, text: str) -> None:
        """Log ``text`` if ``what`` is wrong is news."""
        if what != self._told and time.monotonic() >= self._next:
            self._told, self._next = what, time.monotonic() + COMPLAINT_SECONDS
            log.warning("%s", text)


class Trouble:
    """Whether something that is broken is news: once, until it has been well for ``CALM_SECONDS``. A program that ends
    and is started again every second is one trouble, not one a second.

    >>> now = [0.0]
    >>> trouble = Trouble(lambda: now[0])
    >>> trouble.news("unplugged"), trouble.news(""), trouble.news("unplugged")
    (True, False, False)
    >>> trouble.news(""), now.__setitem__(0, 61.0), trouble.news(""), trouble.news("unplugged")
    (False, None, False, True)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told = False
        self._well_since: float | None = None

    def news(self, text: str) -> bool:
        """Whether ``text`` (empty: all is well) is worth an event."""
        now = self._clock()
        if not text:
            if self._well_since is None:
                self._well_since = now
            if now - self._well_since >= CALM_SECONDS:
                self._told = False
            return False
        self._well_since = None
        told, self._told = self._told, True
        return not told
