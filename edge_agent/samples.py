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


class SampleStore:
    """The newest samples within ``max_bytes``; older ones go first. In memory: a restart starts anew.

    >>> store = SampleStore(max_bytes=1024)
    >>> for i in range(100):
    ...     store.offer(str(i), np.zeros(256, np.uint8), "zero", 0.9, float(i))
    >>> [sample.id for sample in store.collect(10)]
    ['98', '99']
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._kept: deque[StoredSample] = deque()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def offer(self, id: str, sample: NDArray[Any], label: str, score: float, time: float) -> None:  # noqa: A002  (the field's name)
        """Keep a copy of ``sample``. One larger than the whole store is not kept."""
        size = sample.nbytes + OVERHEAD_BYTES
        if size > self.max_bytes:
            return
        stored = StoredSample(id, sample.copy(), label, score, time)
        with self._lock:
            self._kept.append(stored)
            self.bytes += size
            while self.bytes > self.max_bytes:
                self.bytes -= self._kept.popleft().sample.nbytes + OVERHEAD_BYTES

    def collect(self, count: int, since: float = 0.0) -> list[StoredSample]:
        """Up to ``count`` samples not older than ``since``, oldest first, spread evenly over that time.

        Evenly, because the newest alone may show one scene only.
        """
        with self._lock:
            found = [stored for stored in self._kept if stored.time >= since]
        if count >= len(found):
            return found
        if count <= 0:
            return []
        chosen = np.unique(np.linspace(0, len(found) - 1, count).round().astype(int))
        return [found[i] for i in chosen]
