"""A bounded store of the newest samples, kept in case the controller wants to have some labelled."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

log = logging.getLogger(__name__)

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
        self._slots: NDArray[Any] | None = None
        self._used = 0  # slots that were ever written, and so are in memory
        self._free: list[int] = []  # of these, those without a sample
        self._apart = 0  # bytes of samples that are kept by themselves
        self._kept: deque[_Kept] = deque()
        self._lock = threading.Lock()
        self._told = False

    def __len__(self) -> int:
        return len(self._kept)

    def offer(self, id: str, sample: NDArray[Any], label: str, score: float, time: float) -> None:  # noqa: A002  (the field's name)
        """Keep a copy of ``sample``. One larger than the whole store is not kept, which the log says once."""
        size = sample.nbytes + OVERHEAD_BYTES
        if size > self.max_bytes:
            if not self._told:
                log.warning("samples of %d bytes are not kept: [samples] max_bytes is %d", size, self.max_bytes)
            self._told = True
            return
        with self._lock:
            while not self._room(sample, size):
                self._forget_oldest()
            if self._slots is None and not self._kept:
                self._slots = np.empty((self.max_bytes // size, *sample.shape), sample.dtype)  # used page by page
            if self._slots is not None and self._fits(sample):
                if not self._free:
                    self._free.append(self._used)
                    self._used += 1
                slot = self._free.pop()
                self._slots[slot] = sample
                self._kept.append(_Kept(id, label, score, time, size, slot))
            else:
                self._kept.append(_Kept(id, label, score, time, size, -1, sample.copy()))
                self._apart += size
            self.bytes += size

    def _fits(self, sample: NDArray[Any]) -> bool:
        slots = self._slots
        return slots is not None and slots.shape[1:] == sample.shape and slots.dtype == sample.dtype

    def _room(self, sample: NDArray[Any], size: int) -> bool:
        """Whether there are bytes for one more; slots that were used once stay in memory, full or not."""
        if self._slots is None:
            return self._apart + size <= self.max_bytes
        if self._free and self._fits(sample):
            return True
        each: int = self._slots[0].nbytes + OVERHEAD_BYTES
        return self._used * each + self._apart + size <= self.max_bytes

    def _forget_oldest(self) -> None:
        oldest = self._kept.popleft()
        self.bytes -= oldest.size
        if oldest.own is not None:
            self._apart -= oldest.size
            return
        self._free.append(oldest.slot)
        if len(self._free) == self._used:
            self._slots, self._used, self._free = None, 0, []

    def collect(self, count: int, since: float = 0.0) -> list[StoredSample]:
        """Up to ``count`` samples not older than ``since``, oldest first, spread evenly over that time.

        Evenly, because the newest alone may show one scene only.
        """
        with self._lock:
            found = [kept for kept in self._kept if kept.time >= since]
            if count < len(found):
                found = [found[i] for i in spread(len(found), count)]
            return [StoredSample(k.id, self._sample(k), k.label, k.score, k.time) for k in found]

    def _sample(self, kept: _Kept) -> NDArray[Any]:
        if kept.own is not None:
            return kept.own
        assert self._slots is not None
        copy: NDArray[Any] = self._slots[kept.slot].copy()
        return copy


def spread(length: int, count: int) -> list[int]:
    """``count`` positions of ``length`` >= count, evenly, with the first and the last.

    >>> spread(100, 5), spread(3, 1), spread(3, 0)
    ([0, 25, 50, 74, 99], [0], [])
    """
    return [round(position) for position in np.linspace(0, length - 1, max(count, 0)).tolist()]
