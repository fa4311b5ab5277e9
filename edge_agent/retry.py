"""When to try again what has failed: later each time, with a part left to chance so that a fleet does not return in
step. The policy is pure; :class:`Retry` keeps count and looks at the clock."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from msgspec import Struct


class Backoff(Struct, frozen=True):
    """Seconds: ``first`` before the second try, doubling up to ``most``. Who worked for ``healthy`` starts over."""

    first: float = 0.5
    most: float = 60.0
    healthy: float = 10.0

    def delay(self, failures: int, fraction: float) -> float:
        """Seconds to wait after ``failures`` (from 1) in a row; the upper half is chance, ``fraction`` is in [0, 1).

        >>> [Backoff().delay(n, 0.0) for n in (1, 2, 3, 50)]
        [0.25, 0.5, 1.0, 30.0]
        """
        most = min(self.most, self.first * 2.0 ** min(failures - 1, 30))
        return float(most * (0.5 + 0.5 * fraction))


class Retry:
    """The tries of one thing: ``wait`` until zero, ``begun``, and ``failed`` when it has.

    >>> now = [0.0]
    >>> retry = Retry(Backoff(first=2.0), clock=lambda: now[0], chance=lambda: 0.0)
    >>> retry.begun(); retry.failed(), retry.wait()
    (1.0, 1.0)
    >>> now[0] = 1.0
    >>> retry.wait(); retry.begun(); retry.failed()
    0.0
    2.0
    """

    def __init__(
        self,
        policy: Backoff,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.failures = 0
        """In a row."""
        self._policy = policy
        self._clock = clock
        self._chance = chance
        self._not_before = self._since = clock()

    def wait(self) -> float:
        """Seconds until the next try; 0.0 when it is time."""
        return max(0.0, self._not_before - self._clock())

    def begun(self) -> None:
        """A try begins."""
        self._since = self._clock()

    def failed(self) -> float:
        """The try, or what had come of it, has failed; the seconds until the next one."""
        now = self._clock()
        self.failures = 1 if now - self._since >= self._policy.healthy else self.failures + 1
        delay = self._policy.delay(self.failures, self._chance())
        self._not_before = now + delay
        return delay

    def worked(self) -> None:
        """What was tried is done: the next failure is the first again."""
        self.failures = 0
