"""What a comparison found, as numbers: changes, the columns that moved, the promise and its limits."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.drift.cells import Odd
from cloud_trainer.drift.history import belongs
from cloud_trainer.drift.limits import doubt_of, limits_of, notes_of, unpromised
from cloud_trainer.drift.reference import Reference
from cloud_trainer.drift.times import DATES, Axis
from cloud_trainer.drift.watching import Change, Watched
from shared.drift import DriftDetector, Effect, ReferenceProfile, WindowCounts, effects
from shared.drift.bins import CATEGORY
from shared.drift.evidence import CONFIDENCE, CONFIDENCE_SMALL, SMALL
from shared.drift.profile import MISSING_SUFFIX
from shared.drift.status import ratio

TELLING = 1e11
ROUNDING = 1e-9
"""Evidence beyond this is not told apart; how far something moved then is."""
_NORMAL = NormalDist()


class Place(Struct, frozen=True):
    """A place in the data: so many rows from its start, and the time of that row (None without a time column)."""

    row: int
    time: str | None = None


class Moved(Struct, frozen=True):
    """How one watched scalar moved. ``evidence``: the most that it gave by itself, over the alarm threshold; ``psi``,
    ``js`` (nats), ``w1`` and ``mean_shift`` (robust sigmas; of categories the share that moved) as in
    :class:`~shared.drift.Effect`; ``before``, ``after``: means in the data's own unit, None for categories;
    ``missing_before``, ``missing_after``: shares; ``level``: what could be promised for it."""

    name: str
    kind: str
    evidence: float
    psi: float
    js: float
    w1: float
    mean_shift: float
    before: float | None
    after: float | None
    missing_before: float
    missing_after: float
    level: str

    @property
    def alone(self) -> bool:
        """Whether it would have raised the alarm by itself."""
        return self.evidence >= 1

    @property
    def promised(self) -> bool:
        """Whether the promise is made for it."""
        return not unpromised(self.level)

    @property
    def size(self) -> float:
        """How far it moved, in sigmas or what is worth as much (see :func:`signed_size`)."""
        missing = self.missing_after - self.missing_before
        return max(abs(signed_size(self.w1, 1.0, self.kind)), abs(signed_size(abs(missing), 1.0, CATEGORY)))


class Found(Struct, frozen=True, eq=False):
    """A change. ``start``: estimated; ``alarm``: where the alarm rose; ``last``: its last alarm; ``features``: tracks
    that spoke loudest; ``columns``: all scalars, the loudest first, measured on ``measured`` rows from ``start`` on."""

    start: Place
    alarm: Place
    last: Place
    alarms: int
    features: tuple[str, ...]
    measured: int
    columns: tuple[Moved, ...]


class Promise(Struct, frozen=True):
    """``false_alarm_every``: A in rows; ``asked``: as the user said it; ``chance``: of a false alarm in the rows of
    this run, at most, N / A; ``eta``: what comes to that for the confidence bound of the reference; ``window``,
    ``tolerance``, ``replaced`` as given."""

    false_alarm_every: float
    asked: str
    chance: float
    eta: float
    window: int
    tolerance: float
    replaced: float


class Findings(Struct, frozen=True, eq=False):
    """Everything that a report says but the pictures. ``columns`` are those of the first change, or of all rows where
    nothing changed; ``later``: others that spoke loud enough alone further on; ``doubt``: why the alarm is not sure,
    "" if it is; ``limits``: what could not be promised; ``notes``: what else to know of the files."""

    reference: str
    data: str
    reference_rows: int
    rows: int
    begin: Place
    end: Place
    alarm: bool
    evidence: float
    highest: Place
    changes: tuple[Found, ...]
    columns: tuple[Moved, ...]
    later: tuple[str, ...]
    doubt: str
    promise: Promise
    limits: tuple[str, ...]
    notes: tuple[str, ...]


def place_of(watched: Watched, axis: Axis, row: int) -> Place:
    """``row`` with its time, read off the history."""
    if not axis.name:
        return Place(row)
    ends = np.array([0, *(p.end for p in watched.points)])
    times = np.array([watched.first_time, *(p.time for p in watched.points)])
    time = float(np.interp(row, ends, times))
    return Place(row, axis.text(float(np.round(time)) if axis.kind == DATES else time))


def moved(
    profile: ReferenceProfile, counts: WindowCounts, evidence: dict[str, float], level: dict[str, str] | None = None
) -> tuple[Moved, ...]:
    """All scalars of ``profile``, the loudest first, as ``counts`` show them. ``evidence``: track -> its part;
    ``level``: what could be promised, if not what ``profile`` says."""
    sizes = effects(profile, counts)
    table, level = counts.to_mapping(), level or profile.level
    found = [
        _moved(profile, k, sizes, table, sum(v for t, v in evidence.items() if belongs(t, name)), level[name])
        for k, name in enumerate(profile.names)
    ]
    return tuple(sorted(found, key=lambda one: (-min(one.evidence, TELLING), -one.size)))


def signed_size(w1: float, mean_shift: float, kind: str) -> float:
    """How far a scalar moved, in sigmas, with the sign of its mean's shift. A share that moved (categories, missing
    values) counts as the shift of a normal value that moves as much of it: 2 Φ(δ/2) - 1 = share.

    >>> round(signed_size(0.5, -0.4, "value"), 2), round(signed_size(0.197, 0.197, "category"), 2)
    (-0.5, 0.5)
    """
    if kind == CATEGORY:
        share = min(max(w1, 0.0), 0.99)
        return math.copysign(2 * _NORMAL.inv_cdf((1 + share) / 2), mean_shift or 1.0)
    return math.copysign(w1, mean_shift or 1.0)


def _moved(
    profile: ReferenceProfile,
    k: int,
    sizes: dict[str, Effect],
    table: dict[str, list[int]],
    evidence: float,
    level: str,
) -> Moved:
    name, column = profile.names[k], profile.columns[k]
    effect = sizes[name]
    before = after = None
    if profile.kinds[k] != CATEGORY and column.unit > 0:
        before = float(column.gaps @ column.centers / column.gaps.sum())
        after = before + effect.mean_shift * column.unit
    flags = table.get(name + MISSING_SUFFIX, [1, 0])
    return Moved(
        name=name,
        kind=profile.kinds[k],
        evidence=min(evidence, ratio(math.inf)),
        psi=effect.psi,
        js=effect.js,
        w1=effect.w1,
        mean_shift=effect.mean_shift,
        before=before,
        after=after,
        missing_before=column.missing / max(column.missing + column.present, 1),
        missing_after=flags[1] / max(sum(flags[:2]), 1),
        level=level,
    )


def find(
    reference: Reference,
    detector: DriftDetector,
    watched: Watched,
    axis: Axis,
    *,
    data: str,
    asked: str,
    odd: dict[str, Odd],
    notes: tuple[str, ...] = (),
) -> Findings:
    """Draw the conclusions of a run."""
    profile, level = reference.shown, detector.profile.level
    changes = tuple(_found(profile, level, watched, change, axis) for change in watched.changes)
    peaks = _parts(watched.tracks, np.max([point.tracks for point in watched.points], axis=0))
    columns = changes[0].columns if changes else moved(profile, watched.counts, peaks, level)
    quiet = {one.name for one in columns if not one.alone} if len(changes) == 1 else set()
    later = tuple(n for n in profile.names if n in quiet and any(v >= 1 for t, v in peaks.items() if belongs(t, n)))
    every = detector.false_alarm_every
    smallest = min(column.present for column in profile.columns)
    promise = Promise(
        false_alarm_every=every,
        asked=asked,
        chance=min(watched.rows / every, 1.0),
        eta=CONFIDENCE_SMALL if smallest < SMALL else CONFIDENCE,
        window=detector.window,
        tolerance=detector.tolerance.delta,
        replaced=detector.tolerance.replaced,
    )
    return Findings(
        reference=reference.path,
        data=data,
        reference_rows=reference.used or max(c.present + c.missing for c in profile.columns),
        rows=watched.rows,
        begin=place_of(watched, axis, 0),
        end=place_of(watched, axis, watched.rows),
        alarm=bool(changes),
        evidence=ratio(watched.highest + ROUNDING),
        highest=place_of(watched, axis, watched.highest_row),
        changes=changes,
        columns=columns,
        later=later,
        doubt=doubt_of(reference, [one.name for one in columns if one.alone]),
        promise=promise,
        limits=tuple(limits_of(reference, watched.rows, every)),
        notes=(*notes, *notes_of(reference, watched.infinite, odd)),
    )


def _parts(tracks: tuple[str, ...], logs: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(tracks, map(ratio, (logs + ROUNDING).tolist()), strict=True))


def _found(profile: ReferenceProfile, level: dict[str, str], watched: Watched, change: Change, axis: Axis) -> Found:
    return Found(
        start=place_of(watched, axis, change.start),
        alarm=place_of(watched, axis, change.at),
        last=place_of(watched, axis, change.last),
        alarms=change.alarms,
        features=change.features,
        measured=change.counts.samples,
        columns=moved(profile, change.counts, _parts(watched.tracks, change.loudest), level),
    )
