"""Run a detector over blocks of rows: alarms, where each change began, what moved then, and the evidence all along."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.drift.history import Beginning, History, Point, belongs, logs
from cloud_trainer.drift.ordered import Block
from shared.drift import DriftDetector, ReferenceProfile, WindowCounts

LEAST_STEP = 8
FED = 256
"""Rows between two looks at the evidence, at most (or one window)."""
SHOWN_ROWS = 1024
"""What moved is measured on so many rows from where the change began, or up to the alarm if that took longer."""

Show = Callable[[float, str], None]


class Change(Struct):
    """A stretch of rows that differ from the reference.

    ``start``: estimated last row before it; ``at``: rows seen when the alarm rose; ``last``: rows seen at its last
    alarm; ``alarms``: how many; ``features``: tracks that spoke loudest when the first one rose; ``loudest`` (T,): log
    of the most that each track added to the evidence until what moved was measured; ``counts``: of the rows from
    ``counted_from`` on, which is about ``start``.
    """

    start: int
    at: int
    last: int
    alarms: int
    features: tuple[str, ...]
    loudest: NDArray[np.float64]
    counts: WindowCounts
    counted_from: int
    beginning: Beginning

    def refine(self) -> None:
        """Estimate the start again, from the counts that there are now."""
        self.start = min(self.beginning.refined(self.counts), max(self.at - 1, 0))

    @property
    def complete(self) -> bool:
        """Whether enough rows are counted to say what moved."""
        return self.counts.samples >= SHOWN_ROWS and self.counted_from + self.counts.samples >= self.at


class Watched(Struct, frozen=True, eq=False):
    """A whole stream. ``points``: of the history; ``changes``; ``rows``; ``highest``: log of the largest evidence, and
    at which row; ``first_time``: of the first row; ``tracks``: their names; ``counts``: of all rows; ``infinite`` (F,):
    infinities by scalar."""

    points: tuple[Point, ...]
    changes: tuple[Change, ...]
    rows: int
    highest: float
    highest_row: int
    first_time: float
    tracks: tuple[str, ...]
    counts: WindowCounts
    infinite: NDArray[np.int64]


class _Run:
    def __init__(self, detector: DriftDetector, counter: DriftDetector, *, all_alarms: bool) -> None:
        self.detector, self.counter, self.all_alarms = detector, counter, all_alarms
        self.shown = counter.profile
        self.window = detector.window
        self.tracks = tuple(detector.status.evidences)
        self.history = History(-(-LEAST_STEP // self.window) * self.window, counter.counts.table.nbytes)
        self.changes: list[Change] = []
        self.row = self.recorded = self.since = 0
        self.highest, self.highest_row = -math.inf, 0
        weights = detector.profile.weights
        self.weights = weights if len(weights) == len(self.tracks) else np.full(len(self.tracks), 1 / len(self.tracks))

    @property
    def fed(self) -> int:
        """Rows from one look to the next: as fine as the history is, within limits."""
        return min(self.history.step, max(FED // self.window, 1) * self.window)

    def feed(self, rows: NDArray[np.float64], time: float) -> None:
        """Take in rows up to the next look at most; ``time`` is the last one's."""
        self.detector.feed(rows)
        if self.counter is not self.detector:
            self.counter.feed(rows)
        self.row += len(rows)
        if self.row % self.fed == 0:
            self.look(time)

    def look(self, time: float) -> None:
        """Note the evidence, and what an alarm says."""
        status = self.detector.status
        tracks = logs(status.evidences)
        evidence = math.log(status.evidence) if status.evidence > 0 else float(logs({"": 0.0})[0])
        self.history.saw(self.row, evidence, tracks, self.counter.counts)
        if evidence > self.highest:
            self.highest, self.highest_row = evidence, self.row
        if self.changes and not self.all_alarms and not self.changes[-1].complete:
            np.maximum(self.changes[-1].loudest, tracks, out=self.changes[-1].loudest)
        if self.row - self.recorded >= self.history.step:
            self.record(time, evidence, tracks)
        if status.alarm and (self.all_alarms or not self.changes):
            self.alarm(status.at or self.row, status.features, tracks)

    def record(self, time: float, evidence: float, tracks: NDArray[np.float64]) -> None:
        """Add a point to the history; a change that is not complete gets its counts."""
        point = self.history.add(self.row, time, evidence, tracks, self.counter.take_counts())
        self.recorded = self.row
        if self.changes and not self.changes[-1].complete:
            self.changes[-1].counts += point.counts
            self.changes[-1].refine()

    def alarm(self, at: int, features: tuple[str, ...], tracks: NDArray[np.float64]) -> None:
        """A change, or one more alarm of the one before: where nothing was quiet for longer than it takes to notice."""
        loudest = int(np.argmax(tracks))
        weight = float(self.weights[loudest]) / self.detector.false_alarm_every
        own = shown_track(self.shown, self.tracks[loudest])
        beginning = self.history.began(loudest, own, gaps_of(self.shown, own), weight, self.since)
        start = min(beginning.row, max(at - 1, 0))
        goes_on = self.changes and start - self.since < at - start
        if goes_on:
            change = self.changes[-1]
            change.last, change.alarms = at, change.alarms + 1
            np.maximum(change.loudest, tracks, out=change.loudest)
        else:
            counts = self.history.since(start) or WindowCounts.zero(self.shown)
            begun = self.recorded - counts.samples
            self.changes.append(Change(start, at, at, 1, features, tracks.copy(), counts, begun, beginning))
        if self.all_alarms:
            self.since = self.row
            self.detector.acknowledge(keep=False)


def shown_track(profile: ReferenceProfile, track: str) -> int:
    """The place among the tracks of ``profile``, a plain one, of a track of the same scalars: a missing flag's is a
    flag's, any other's that of its scalar."""
    names = [name for name in profile.layout.names if belongs(track, name)]
    return profile.layout.names.index(max(names, key=len))


def gaps_of(profile: ReferenceProfile, track: int) -> NDArray[np.float64]:
    """Reference weights of the bins of one track of a plain profile: of a missing flag present and missing."""
    scalars = len(profile.columns)
    if track < scalars:
        return profile.columns[track].gaps
    column = profile.columns[track - scalars]
    return np.array([column.present, column.missing + 1.0])


def watch(
    blocks: Iterable[Block],
    detector: DriftDetector,
    show: Show,
    *,
    shown: ReferenceProfile | None = None,
    all_alarms: bool = False,
    total: int = 0,
) -> Watched:
    """Feed all ``blocks`` to ``detector``. ``shown``: the profile that counts are made for, if another than its own.

    Without ``all_alarms`` the first alarm stands and evidence goes on. With it the detector starts anew from the
    reference after each alarm, as on the first day (``acknowledge(keep=False)``), so that data which is as the
    reference again is silent again; alarms without a pause between them are one change.
    """
    counter = detector
    if shown is not None and shown is not detector.profile:
        counter = DriftDetector(shown, detector.false_alarm_every, detector.window, seed=2)  # for its counts alone
    run = _Run(detector, counter, all_alarms=all_alarms)
    counts = WindowCounts.zero(run.shown)
    infinite = np.zeros(len(detector.profile.names), np.int64)
    first = last = math.nan
    for rows, times, fraction in blocks:
        if times is not None and len(times):
            first = float(times[0]) if math.isnan(first) else first
            last = float(times[-1])
        infinite += np.isinf(rows).sum(0)
        at = 0
        while at < len(rows):
            stop = min(len(rows), at + run.fed - run.row % run.fed)
            run.feed(rows[at:stop], float(times[stop - 1]) if times is not None else math.nan)
            at = stop
        show(fraction, f"{run.row:,}{f' of {total:,}' if total else ''} rows")
    if run.row > run.recorded:
        status = detector.status
        run.record(last, math.log(max(status.evidence, 1e-26)), logs(status.evidences))
    for point in run.history.points:
        counts += point.counts
    return Watched(
        points=tuple(run.history.points),
        changes=tuple(run.changes),
        rows=run.row,
        highest=run.highest,
        highest_row=run.highest_row,
        first_time=first,
        tracks=run.tracks,
        counts=counts,
        infinite=infinite,
    )
