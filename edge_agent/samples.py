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

    They lie in one array with a slot each: kept one by one among the memory of everything else, they leave holes all
    over the heap. A sample of another shape or dtype than the last begins the store anew.

    >>> store = SampleStore(max_bytes=1024)
    >>> for i in range(100):
    ...     store.offer(str(i), np.zeros(256, np.uint8), "zero", 0.9, float(i))
    >>> [sample.id for sample in store.collect(10)]
    ['98', '99']
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._slots: NDArray[Any] = np.empty((0, 0))
        self._kept: deque[tuple[str, str, float, float]] = deque()
        self._next = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """Of what is kept."""
        return len(self._kept) * _size(self._slots[0]) if self._kept else 0

    def offer(self, id: str, sample: NDArray[Any], label: str, score: float, time: float) -> None:  # noqa: A002  (the field's name)
        """Keep a copy of ``sample``. One larger than the whole store is not kept."""
        room = self.max_bytes // _size(sample)
        if not room:
            return
        with self._lock:
            if self._slots.shape[1:] != sample.shape or self._slots.dtype != sample.dtype:
                self._slots = np.empty((room, *sample.shape), sample.dtype)  # a page of it is used when it is written
                self._kept = deque(maxlen=room)
                self._next = 0
            self._slots[self._next] = sample
            self._next = (self._next + 1) % room
            self._kept.append((id, label, score, time))

    def collect(self, count: int, since: float = 0.0) -> list[StoredSample]:
        """Up to ``count`` samples not older than ``since``, oldest first, spread evenly over that time.

        Evenly, because the newest alone may show one scene only.
        """
        with self._lock:
            oldest = self._next - len(self._kept)
            kept = list(self._kept)
            found = [i for i, (_, _, _, when) in enumerate(kept) if when >= since]
            if count < len(found):
                found = [found[i] for i in spread(len(found), count)]
            chosen = []
            for i in found:
                name, label, score, when = kept[i]
                chosen.append(
                    StoredSample(name, self._slots[(oldest + i) % len(self._slots)].copy(), label, score, when)
                )
            return chosen


def spread(length: int, count: int) -> list[int]:
    """``count`` positions of ``length`` >= count, evenly, with the first and the last.

    >>> spread(100, 5), spread(3, 1), spread(3, 0)
    ([0, 25, 50, 74, 99], [0], [])
    """
    return [round(position) for position in np.linspace(0, length - 1, max(count, 0)).tolist()]


def _size(sample: NDArray[Any]) -> int:
    return sample.nbytes + OVERHEAD_BYTES
