"""A bounded store of the newest samples, kept in case the controller wants to have some labelled."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

OVERHEAD_BYTES = 256
"""What an entry costs besides its array: objects, id, label."""


class StoredSample(Struct, frozen=True, eq=False):
    """A sample and what was answered. ``time`` is seconds since 1970 by the device's clock."""

    id: str
    sample: NDArray[Any]
    label: str
    score: float
    time: float


class _Kept(Struct, frozen=True, eq=False):
    """One sample: in a slot, or (``own``) by itself."""

    id: str
    label: str
    score: float
    time: float
    size: int
    slot: int
    own: NDArray[Any] | None = None


class SampleStore:
    """The newest samples within ``max_bytes``; older ones go first. In memory: a restart starts anew.

    Samples like the first one lie in one array with a slot each: kept one by one among the memory of everything else,
    they leave holes all over the heap. Samples of another shape or dtype are kept by themselves.

    >>> store = SampleStore(max_bytes=1024)
    >>> for i in range(100):
    ...     store.offer(str(i), np.zeros(256, np.uint8), "zero", 0.9, float(i))
    >>> [sample.id for sample in store.collect(2)]
    ['98', '99']
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._slots: NDArray[Any] = np.empty((0, 0))
        self._next = 0
        self._kept: deque[_Kept] = deque()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def offer(self, id: str, sample: NDArray[Any], label: str, score: float, time: float) -> None:  # noqa: A002  (the field's name)
        """Keep a copy of ``sample``. One larger than the whole store is not kept."""
        size = sample.nbytes + OVERHEAD_BYTES
        if size > self.max_bytes:
            return
        with self._lock:
            while self.bytes + size > self.max_bytes:
                self.bytes -= self._kept.popleft().size
            fits = self._slots.shape[1:] == sample.shape and self._slots.dtype == sample.dtype
            if not fits and not self._kept:
                # a page of it is used when it is written
                self._slots, fits = np.empty((self.max_bytes // size, *sample.shape), sample.dtype), True
                self._next = 0
            if fits:  # the oldest go first, so the next slot is free whenever there are bytes for it
                self._slots[self._next] = sample
                self._kept.append(_Kept(id, label, score, time, size, self._next))
                self._next = (self._next + 1) % len(self._slots)
            else:
                self._kept.append(_Kept(id, label, score, time, size, -1, sample.copy()))
            self.bytes += size

    def collect(self, count: int, since: float = 0.0) -> list[StoredSample]:
        """Up to ``count`` samples not older than ``since``, oldest first, spread evenly over that time.

        Evenly, because the newest alone may show one scene only.
        """
        with self._lock:
            found = [kept for kept in self._kept if kept.time >= since]
            if count < len(found):
                found = [found[i] for i in spread(len(found), count)]
            return [
                StoredSample(k.id, self._slots[k.slot].copy() if k.own is None else k.own, k.label, k.score, k.time)
                for k in found
            ]


def spread(length: int, count: int) -> list[int]:
    """``count`` positions of ``length`` >= count, evenly, with the first and the last.

    >>> spread(100, 5), spread(3, 1), spread(3, 0)
    ([0, 25, 50, 74, 99], [0], [])
    """
    return [round(position) for position in np.linspace(0, length - 1, max(count, 0)).tolist()]
