"""How fast samples are answered, from a counter that starts again with each engine."""

from __future__ import annotations

import time
from collections.abc import Callable

LEAST_SECONDS = 0.1
"""Over less than this a rate would be chance."""


class Rate:
    """Samples a second since it was asked last.

    >>> now = iter([0.0, 2.0, 4.0])
    >>> rate = Rate(lambda: next(now))
    >>> rate(60), rate(90)
    (30.0, 15.0)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples, self._since = 0, clock()
        self._last = 0.0

    def __call__(self, samples: int) -> float:
        """The rate, when ``samples`` is what the counter says now; less than the last time means a new engine."""
        now = self._clock()
        if samples < self._samples:
            self._samples = 0
        if now - self._since >= LEAST_SECONDS:
            self._last = (samples - self._samples) / (now - self._since)
            self._samples, self._since = samples, now
        return self._last
