"""Whose turn it is to run the engine. The turn is a lock that its holder gives to the next in line by hand.

Next is: who is urgent (a swap of the engine, a direct batch call), then a request, then bulk work; but bulk work that
has waited longer than ``patience`` goes before requests. What is free is taken by whoever comes first.

Who lines up does so under ``mutex`` and then tries the lock; who leaves looks at the lines under ``mutex`` before the
lock is released. So nobody is overlooked.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from edge_agent.scheduler.runner import Clock

Box = SimpleQueue[Any]
"""Where a waiting thread is told something."""

TURN: Any = object()
"""Put into the box of who is next: the engine is yours."""


class Turn:
    """See the module. ``waiting`` are the requests that wait; ``lead()`` gives the box of the one who would run them,
    ``None`` if none can now. Both are looked at under ``mutex``."""

    def __init__(
        self, mutex: threading.Lock, clock: Clock, patience: float, waiting: Sized, lead: Callable[[], Box | None]
    ) -> None:
        self._lock = threading.Lock()
        self._mutex = mutex
        self._clock = clock
        self._patience = patience
        self._waiting = waiting
        self._lead = lead
        self._urgent: deque[Box] = deque()
        self._bulk: deque[tuple[Box, float]] = deque()
        self.acquire = self._lock.acquire
        self.taken = self._lock.locked

    def leave(self) -> bool:
        """Holding the turn: give it up, to the next in line if there is one. Returns whether there was."""
        if self._waiting or self._urgent or self._bulk:
            return self.pass_on()
        self._lock.release()
        # somebody may have lined up between the look and the release, and found the turn taken
        return self.offer()

    def offer(self) -> bool:
        """After somebody lined up: if the turn is free, give it to the next. Returns whether it was given."""
        if (self._waiting or self._urgent or self._bulk) and self.acquire(False):
            return self.pass_on()
        return False

    def pass_on(self) -> bool:
        """Holding the turn: give it to the next in line, or set it free."""
        with self._mutex:
            box = self._next()
            if box is None:
                self._lock.release()
                return False
            box.put(TURN)
            return True

    def _next(self) -> Box | None:
        if self._urgent:
            return self._urgent.popleft()
        bulk = self._bulk
        if bulk and (not self._waiting or self._clock() - bulk[0][1] > self._patience):
            return bulk.popleft()[0]
        box = self._lead()
        if box is None and bulk:
            return bulk.popleft()[0]
        return box

    @contextmanager
    def alone(self, *, urgent: bool) -> Iterator[None]:
        """Have the turn for something that is no request."""
        if not self.acquire(False):
            self._line_up(urgent=urgent)
        try:
            yield
        finally:
            self.leave()

    def _line_up(self, *, urgent: bool) -> None:
        box: Box = SimpleQueue()
        place = (box, self._clock())
        with self._mutex:
            if urgent:
                self._urgent.append(box)
            else:
                self._bulk.append(place)
        self.offer()
        try:
            box.get()
        except BaseException:  # this thread is interrupted
            with self._mutex:
                if box in self._urgent:
                    self._urgent.remove(box)
                if place in self._bulk:
                    self._bulk.remove(place)
                given = not box.empty()
            if given:
                self.leave()
            raise
