"""How many samples are due by now, at a steady rate."""

from __future__ import annotations

import time
from collections.abc import Callable

BEHIND_MAX_SECONDS = 1.0  # a pause longer than this (sleep, a slow disk) is not caught up


class Pace:
    """A steady ``rate_hz``; the first sample is due at once.

    >>> now = [0.0]
    >>> pace = Pace(10.0, clock=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
    >>> pace.due(0.05), pace.due(0.05), pace.due(0.05), now
    (1, 0, 1, [0.1])
    """

    def __init__(
        self,
        rate_hz: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._period = 1.0 / rate_hz
        self._clock = clock
        self._sleep = sleep
        self._next = clock()

    def due(self, seconds: float) -> int:
        """The number of samples that are due, after waiting up to ``seconds`` for the first of them."""
        now = self._clock()
        if now < self._next:
            self._sleep(min(seconds, self._next - now))
            now = self._clock()
        if now - self._next > BEHIND_MAX_SECONDS:
            self._next = now
        count = 0
        while self._next <= now:
            count += 1
            self._next += self._period
        return count
