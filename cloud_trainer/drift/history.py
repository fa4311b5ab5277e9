"""What happened along a stream, in bounded memory: evidence by track, and counts, which add.

Points get coarser as the stream gets longer: when there are too many, neighbours are merged. The latest stretch is also
kept as fine as it was seen, so that where a change began can be told closely when an alarm rises.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift import WindowCounts

Floats = NDArray[np.float64]

POINTS = 1024
LEAST_POINTS = 64
COUNTS_BYTES = 64 << 20
PRIOR = 16.0
"""Samples' worth of the reference that smooth what was found after a change."""
FLOOR = -60.0
"""Log evidence of nothing at all."""


class Point(Struct, frozen=True, eq=False):
    """Rows ``begin`` to ``end``. ``time``: of the last one. ``evidence``: log of U / A after it, ``highest`` the
    largest within; ``tracks`` (T,): log of each track's part of it; ``counts`` of the rows."""

    begin: int
    end: int
    time: float
    evidence: float
    highest: float
    tracks: Floats
    counts: WindowCounts


class Look(NamedTuple):
    """What was known after ``row`` rows: logs of the tracks' evidence (T,), and all counts so far (T, K)."""

    row: int
    tracks: Floats
    table: NDArray[np.int32]


class Beginning(NamedTuple):
    """Where a change may have begun. ``track``: in the counts; ``share`` (K,) of the reference's bins; ``rows``
    (n + 1,) places, and ``table`` (n, K) the counts between them; ``at``: which place it was by the evidence."""

    track: int
    share: Floats
    rows: list[int]
    table: Floats
    at: int

    @property
    def row(self) -> int:
        """By the evidence, when the alarm rose."""
        return self.rows[self.at]

    def refined(self, counts: WindowCounts) -> int:
        """By the likelihood, now that there are ``counts`` of what came after."""
        found = counts.table[self.track, : len(self.share)].astype(np.float64)
        after = (found + PRIOR * self.share) / (found.sum() + PRIOR)
        return self.rows[_least((self.table @ np.log(after / self.share)).tolist())]


class History:
    """Points of a stream, at most ``most``, each of ``step`` rows (the last one perhaps of fewer)."""

    def __init__(self, step: int, counts_bytes: int) -> None:
        self.step = step
        self.points: list[Point] = []
        self.most = int(np.clip(COUNTS_BYTES // max(counts_bytes, 1), LEAST_POINTS, POINTS)) // 2 * 2
        self._fine: deque[Look] = deque(maxlen=self.most // 2)
        self._highest = -math.inf
        self._recorded: NDArray[np.int32] | int = 0

    def saw(self, row: int, evidence: float, tracks: Floats, counts: WindowCounts) -> None:
        """Take note of what was known after ``row`` rows. ``counts``: since the last point."""
        self._highest = max(self._highest, evidence)
        self._fine.append(Look(row, tracks, self._recorded + counts.table.astype(np.int32)))

    def add(self, row: int, time: float, evidence: float, tracks: Floats, counts: WindowCounts) -> Point:
        """Add a point that ends at ``row``; merges neighbours when there are too many."""
        begin = self.points[-1].end if self.points else 0
        point = Point(begin, row, time, evidence, max(evidence, self._highest), tracks, counts)
        self._highest = -math.inf
        self._recorded = self._recorded + counts.table.astype(np.int32)
        self.points.append(point)
        if len(self.points) == self.most:
            self.points = [_merged(a, b) for a, b in zip(self.points[::2], self.points[1::2], strict=True)]
            self.step *= 2
        return point

    def began(self, track: int, shown: int, gaps: Floats, weight: float, since: int) -> Beginning:
        """Where ``track`` last was like the reference, for an alarm that just rose.

        Where its evidence was last at its floor: the e-values of its windows, from how its part of the evidence grew
        (R <- (R + π) e), multiply to a likelihood ratio, which is least there (Page's estimate, of the mixture of all
        bets).

        Args:
            track: its place.
            shown: its place in the counts.
            gaps: (K,) the reference's weights of its bins.
            weight: what a row adds to its part of the evidence while nothing speaks: its prior weight over A.
            since: the row from which to look.
        """
        rows, logs_, steps = self._series(track, shown, len(gaps), since)
        grown = [
            after - float(np.logaddexp(before, math.log(weight * (end - begin))))
            for begin, end, before, after in zip([since, *rows], rows, [-math.inf, *logs_], logs_, strict=False)
        ]
        table = np.array(steps).reshape(len(rows), len(gaps))
        return Beginning(shown, gaps / gaps.sum(), [since, *rows], table, _least(grown))

    def _series(self, track: int, shown: int, bins: int, since: int) -> tuple[list[int], list[float], list[Floats]]:
        """Rows after ``since`` at which something is known, the log of the track's evidence there, and its counts
        between."""
        first = self._fine[0] if self._fine else None
        rows, logs_, steps = [], [], []
        for point in self.points:
            if since < point.end and (first is None or point.end <= first.row):
                rows.append(point.end)
                logs_.append(float(point.tracks[track]))
                steps.append(point.counts.table[shown, :bins].astype(np.float64))
        known = rows[-1] if rows else since
        before = first
        for look in self._fine:
            if look.row > known and before is not None:
                rows.append(look.row)
                logs_.append(float(look.tracks[track]))
                steps.append((look.table - before.table)[shown, :bins].astype(np.float64))
            before = look
        return rows, logs_, steps

    def since(self, row: int) -> WindowCounts | None:
        """Counts of the points from about ``row`` on."""
        found = [p.counts for p in self.points if p.begin >= row - (p.end - p.begin) / 2]
        return sum(found[1:], found[0]) if found else None


def _least(steps: Sequence[float]) -> int:
    """After how many steps their sum is least, the last such place."""
    sums = np.concatenate(([0.0], np.cumsum(steps)))
    return len(sums) - 1 - int(np.argmin(sums[::-1]))


def _merged(a: Point, b: Point) -> Point:
    return Point(a.begin, b.end, b.time, b.evidence, max(a.highest, b.highest), b.tracks, a.counts + b.counts)


def grouped(points: Sequence[Point], most: int) -> list[Point]:
    """At most ``most`` points of about as many rows each."""
    if len(points) <= most:
        return list(points)
    edges = np.unique(np.linspace(0, len(points), most + 1).round().astype(int))
    found = []
    for low, high in itertools.pairwise(edges.tolist()):
        merged = points[low]
        for point in points[low + 1 : high]:
            merged = _merged(merged, point)
        found.append(merged)
    return found


def belongs(track: str, scalar: str) -> bool:
    """Whether ``track`` is one of ``scalar``: its own, its missing flag, or another derived one.

    >>> belongs("temp.missing", "temp"), belongs("temperature", "temp")
    (True, False)
    """
    return track == scalar or track.startswith(f"{scalar}.")


def logs(parts: Mapping[str, float]) -> Floats:
    """Logs (T,) of each track's part of the evidence, FLOOR where there is none."""
    values = np.fromiter(parts.values(), np.float64, len(parts))
    found: Floats = np.log(np.maximum(values, math.exp(FLOOR)))
    return found
