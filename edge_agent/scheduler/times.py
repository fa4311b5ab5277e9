"""What a call costs, learned while it runs: does batching pay for this model, here?

On one core a batch gains 8× for a tiny MLP, whose calls are overhead, and 1.07× for a CNN, whose calls are
arithmetic: there a batch only makes the first caller wait for the last. Nobody needs to know which one a model is.
"""

from __future__ import annotations

SLOWER, FASTER = 0.1, 0.3
"""Weights of a new measurement: noise only ever adds time, so a fast one says more. The first count fully (1/n), and
the very first of all warms up and is not kept."""
ENOUGH = 5
"""Measurements, the first included, before a size takes part in decisions."""
OUTLIER = 3.0
"""A measurement counts as at most so many times the estimate: a call that was preempted says little."""
WORTH = 0.9
"""A batch pays when a row of it costs at most this part of a single call: less gain is not worth the longer wait."""
EXPLORE_EVERY, EXPLORE = 256, 4
"""In so many decisions, so many go to what is not used now: a model's neighbours and clock rates change."""
SHORT_SECONDS = 2e-3
"""A call that takes less may run in a thread that has other things to do."""
PLAN_FOR = 32
"""Decisions for which a comparison of the sizes holds, unless a batch is measured before."""
STALE_SECONDS = 1.0
"""An estimate as old as this refuses nobody: else a device that was slow once would refuse everybody for ever."""


COLD_BATCHES = 2
"""Batches of an engine whose time says nothing about those that follow."""


class _Estimate:
    """Exponentially weighted mean of one duration; 0 until known."""

    __slots__ = ("count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        known, count = self.seconds, self.count
        self.count = count + 1
        if count < 2:
            self.seconds = seconds
            return
        step = min(seconds, OUTLIER * known) - known
        weight = 1 / count if count < 4 else SLOWER if step > 0 else FASTER
        self.seconds = known + weight * step

    @property
    def known(self) -> bool:
        return self.count >= ENOUGH


class ServiceTimes:
    """Durations of single calls and, per row, of batches, by size class (2, 3 to 4, 5 to 8, ...).

    Called by whoever holds the engine; all times in seconds.
    """

    def __init__(self) -> None:
        self._single = _Estimate()
        self._batches: dict[int, _Estimate] = {}
        self._cold = COLD_BATCHES
        self._decisions = 0
        self._plan: dict[int, int] = {}  # size class of what waits -> the best class for it, 0 for one by one
        self.short = False
        """Whether a single call is known to take less than two milliseconds."""
        self._measured = float("-inf")

    def add(self, rows: int, seconds: float, now: float) -> None:
        """A call with ``rows`` samples took ``seconds`` and ended at ``now``."""
        self._measured = now
        if rows == 1:
            single = self._single
            single.add(seconds)
            self.short = single.count > 1 and single.seconds < SHORT_SECONDS
        elif self._cold:  # a backend may open what it needs for batches, and again if the first was not the only one
            self._cold -= 1
        else:
            self._batches.setdefault(_class(rows), _Estimate()).add(seconds / rows)
            self._plan.clear()

    def run_seconds(self, now: float) -> float:
        """What one sample alone takes; 0 where that is unknown or was measured too long ago to refuse anybody."""
        single = self._single
        return single.seconds if single.known and now - self._measured < STALE_SECONDS else 0.0

    def row_seconds(self, now: float) -> float:
        """What each sample costs the engine at its best batch size; 0 as above."""
        if not self._single.known or now - self._measured >= STALE_SECONDS:
            return 0.0
        return min([self._single.seconds, *(e.seconds for e in self._batches.values() if e.known)])

    @property
    def single(self) -> float | None:
        """Seconds of a single call, ``None`` until it was measured a few times."""
        return self._single.seconds if self._single.known else None

    @property
    def gain(self) -> float | None:
        """How many times cheaper a row is in the best batch than alone; ``None`` until both are known."""
        rows = [e.seconds for e in self._batches.values() if e.known]
        if not rows or not self._single.known:
            return None
        return self._single.seconds / max(min(rows), 1e-12)

    @property
    def pays(self) -> bool:
        """Whether batching pays, as far as is known: yes until it was measured."""
        gain = self.gain
        return gain is None or gain * WORTH >= 1

    def rows(self, waiting: int, limit: int) -> int:
        """How many of ``waiting`` samples to run in one call, at least 1 and at most ``limit``.

        Sizes that were hardly measured are tried first; now and then what is not used is tried again.
        """
        most = min(waiting, limit)
        if most < 2:
            return 1
        top = _class(most)
        self._decisions += 1
        if self._decisions % PLAN_FOR == 0:
            self._plan.clear()
        best = self._plan.get(top)
        if best is None:
            best = self._plan[top] = self._best(top)
        if self._decisions % EXPLORE_EVERY >= EXPLORE_EVERY - EXPLORE:
            return 1 if best and self._decisions // EXPLORE_EVERY % 2 else most
        return min(most, 1 << best) if best else 1

    def _best(self, top: int) -> int:
        """The size class to use when class ``top`` waits; 0 for single calls."""
        sizes, single = self._batches, self._single
        if top not in sizes or not sizes[top].known:
            return top
        if not single.known:
            return 0
        best = min((size for size in sizes if size <= top), key=lambda size: sizes[size].seconds)
        return best if sizes[best].seconds <= WORTH * single.seconds else 0


class ChunkSize:
    """How many rows of bulk work take about ``seconds``: doubles at most from one chunk to the next."""

    def __init__(self, seconds: float, most: int = 65_536) -> None:
        self._seconds = seconds
        self._most = most
        self._row = _Estimate()
        self.rows = 1

    def add(self, rows: int, seconds: float) -> None:
        """A chunk of ``rows`` took ``seconds``."""
        self._row.add(seconds / rows)
        wanted = int(self._seconds / max(self._row.seconds, 1e-9))
        self.rows = max(1, min(wanted, 2 * self.rows, self._most))


def _class(rows: int) -> int:
    """1 for 2 rows, 2 for 3 to 4, 3 for 5 to 8, ..."""
    return (rows - 1).bit_length()
