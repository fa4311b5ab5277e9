"""The queue of requests: pure bookkeeping. No clock, thread or I/O; ``now`` is passed in, seconds on any clock.

Invariants, held by ``tests/edge_agent/scheduler/test_queue.py`` for every sequence of calls:

1. Every request that was offered leaves exactly once: in a batch, beside the request whose answer it shares, refused
   with an error, or cancelled.
2. Requests leave in the order in which they came, but for those that expire, are dropped or cancelled.
3. At most ``size`` requests wait, those that share an answer included; with ``overflow = "block"`` more stand outside
   (``blocked``), in their order, and come in as room is made.
4. A request whose deadline cannot be met is refused and never part of a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from enum import Enum
from typing import Any

import numpy as np

from edge_agent.scheduler.config import Overflow
from shared.errors import DeadlineError, OverloadError, SanderlingError


class State(Enum):
    """Where a request is."""

    NEW = "new"
    BLOCKED = "blocked"  # no room yet
    WAITING = "waiting"
    JOINED = "joined"  # shares the answer of an identical one
    RUNNING = "running"
    GONE = "gone"  # it has its outcome


class Request:
    """One sample that wants an answer. ``caller`` is whatever tells the one who asked; the queue never looks at it.

    ``deadline`` is a time on the queue's clock, infinite for none. ``key`` is equal for identical samples.
    """

    __slots__ = ("caller", "deadline", "id", "joined", "key", "sample", "state")

    def __init__(
        self,
        sample: Any,
        id: str | None = None,  # noqa: A002  (the field's name)
        deadline: float = float("inf"),
        key: Hashable = None,
        caller: Any = None,
    ) -> None:
        self.sample = sample
        self.id = id
        self.deadline = deadline
        self.key = key
        self.caller = caller
        self.joined: list[Request] | None = None
        self.state = State.NEW


Refused = list[tuple[Request, SanderlingError]]
"""Requests that leave with an error."""


def form_of(sample: Any) -> Hashable:
    """What two samples must have in common to be stacked into a batch without a change to either.

    ``None`` where that is unknown (lists, texts, objects): such a sample runs alone.
    """
    if type(sample) is np.ndarray:
        return sample.dtype, sample.shape
    if isinstance(sample, dict):
        forms = tuple((name, form_of(values)) for name, values in sorted(sample.items()))
        return None if any(form is None for _, form in forms) else forms
    return None


class RequestQueue:
    """See the module. ``size``: how many may wait; ``overflow``: what happens to one more."""

    def __init__(self, size: int, overflow: Overflow) -> None:
        self.waiting: deque[Request] = deque()
        self.blocked: deque[Request] = deque()
        self._size = size
        self._overflow = overflow
        self._joined = 0
        self._timed = False  # whether any request that waits may have a deadline
        self._first: dict[Hashable, Request] = {}  # key -> the request whose answer is shared

    def __len__(self) -> int:
        """Requests that wait, those that share an answer included; not those that are blocked."""
        return len(self.waiting) + self._joined

    @property
    def plain(self) -> bool:
        """Whether nothing that waits has a deadline or shares an answer: whoever is first may just be taken out."""
        return not (self._timed or self._first or self.blocked)

    def offer(self, request: Request, now: float, *, row_seconds: float = 0.0, run_seconds: float = 0.0) -> Refused:
        """Take ``request`` in. Returns who leaves because of it: the request itself, or the one that made room.

        ``row_seconds`` is what each request ahead costs, ``run_seconds`` what an answer takes; 0 where unknown.
        """
        if request.deadline != float("inf"):
            self._timed = True
            ready = now + row_seconds * len(self.waiting) + run_seconds
            if ready > request.deadline or request.deadline <= now:
                request.state = State.GONE
                return [(request, too_late(request, now, ready - now))]
        if len(self.waiting) + self._joined < self._size:
            self._admit(request)
            return []
        if self._overflow == "block":
            request.state = State.BLOCKED
            self.blocked.append(request)
            return []
        if self._overflow == "drop_oldest" and self.waiting:
            oldest = self.waiting[0]
            self.cancel(oldest)
            self._admit(request)
            return [(oldest, OverloadError(f"dropped for a newer one: {self._size} requests were waiting"))]
        request.state = State.GONE
        return [(request, OverloadError(f"{self._size} requests are waiting already; try again later"))]

    def take(self, now: float, limit: int, *, run_seconds: float = 0.0) -> tuple[list[Request], Refused]:
        """The next batch, at most ``limit`` requests that can be stacked, and those that are too late by now."""
        refused = self.expire(now, run_seconds=run_seconds)
        batch: list[Request] = []
        waiting = self.waiting
        form: Hashable = None
        while waiting and len(batch) < limit:
            request = waiting[0]
            if limit > 1:
                own = form_of(request.sample)
                if batch and (own is None or own != form):
                    break
                form = own
            waiting.popleft()
            request.state = State.RUNNING
            batch.append(request)
            if limit > 1 and form is None:
                break
        if self.blocked:
            self._fill()
        return batch, refused

    def finish(self, request: Request) -> Sequence[Request]:
        """``request`` has its outcome: it and those that share it leave. Returns the latter."""
        request.state = State.GONE
        joined = request.joined
        if request.key is not None and self._first.get(request.key) is request:
            del self._first[request.key]
        if not joined:
            return ()
        request.joined = None
        self._joined -= len(joined)
        for other in joined:
            other.state = State.GONE
        self._fill()
        return joined

    def cancel(self, request: Request) -> bool:
        """Take ``request`` out. ``False``: it runs, or is gone already."""
        if request.state is State.WAITING:
            self._remove(request)
        elif request.state is State.BLOCKED:
            self.blocked.remove(request)
        elif request.state is State.JOINED:
            joined = self._first[request.key].joined
            assert joined is not None
            joined.remove(request)
            self._joined -= 1
        else:
            return False
        request.state = State.GONE
        self._fill()
        return True

    def expire(self, now: float, *, run_seconds: float = 0.0) -> Refused:
        """Those whose deadline cannot be met any more leave."""
        if not self._timed:
            return []
        everyone = self.everyone()
        late = [r for r in everyone if r.deadline <= now or r.deadline < now + run_seconds]
        for request in late:
            self.cancel(request)
        self._timed = any(r.deadline != float("inf") for r in everyone)
        return [(request, too_late(request, now, run_seconds)) for request in late]

    def everyone(self) -> list[Request]:
        """All that do not run: who waits, who shares an answer, who is blocked."""
        return [*self.waiting, *(r for first in self._first.values() for r in first.joined or ()), *self.blocked]

    def clear(self) -> list[Request]:
        """Everyone that does not run leaves."""
        everyone = self.everyone()
        for request in everyone:
            request.state = State.GONE
        for first in self._first.values():
            first.joined = None
        self.waiting.clear()
        self.blocked.clear()
        self._first.clear()
        self._joined = 0
        return everyone

    def _admit(self, request: Request) -> None:
        key = request.key
        if key is not None:
            first = self._first.get(key)
            if first is not None:
                if first.joined is None:
                    first.joined = []
                first.joined.append(request)
                request.state = State.JOINED
                self._joined += 1
                return
            self._first[key] = request
        request.state = State.WAITING
        self.waiting.append(request)

    def _remove(self, request: Request) -> None:
        """Out of the line; the first of those that share its answer takes its place."""
        joined, key = request.joined, request.key
        request.joined = None
        if not joined:
            self.waiting.remove(request)
            if key is not None:
                del self._first[key]
            return
        heir = joined.pop(0)
        heir.joined = joined
        heir.state = State.WAITING
        self._joined -= 1
        self._first[key] = heir
        self.waiting[self.waiting.index(request)] = heir

    def _fill(self) -> None:
        while self.blocked and len(self) < self._size:
            self._admit(self.blocked.popleft())


def too_late(request: Request, now: float, needed: float) -> DeadlineError:
    """Why ``request`` is refused at ``now``, when an answer takes ``needed`` seconds."""
    left = request.deadline - now
    if left <= 0:
        return DeadlineError("the deadline passed before the engine was free")
    return DeadlineError(f"{left * 1000:.3g} ms are left, but an answer takes about {needed * 1000:.3g} ms")
