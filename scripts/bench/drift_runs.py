"""One run of one cell of the drift benchmark: detectors on streams, river's detectors on the same streams.

A run is a function of its seed and gives one number: false alarms, samples to an alarm (infinity: none), or 1 and 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import drift_streams as streams
import numpy as np
from drift_streams import Rows

from shared.drift import DriftDetector, ReferenceProfile

Draw = Callable[[np.random.Generator, int], Rows]
Change = tuple[float, float]
"""Shift in sigma and factor of the variance."""
BLOCK = 256
LAG = 400
"""Reference samples that a detector without a reference is given before the stream, if it is a slow one."""


def split(cell: str, seed: int, draw: Draw, n: int, samples: int) -> tuple[Rows, Rows]:
    """Reference (n, F) and the stream (samples, F) that follows it."""
    rows = draw(streams.generator(cell, seed), n + samples)
    return rows[:n], rows[n:]


def changed(rows: Rows, change: Change) -> Rows:
    """``rows`` whose first column is shifted and spread."""
    shift, variance = change
    found = rows.copy()
    found[:, 0] = found[:, 0] * math.sqrt(variance) + shift
    return found


def count_alarms(detector: DriftDetector, rows: Rows) -> int:
    """Alarms over ``rows``, each acknowledged at the very window that raised it."""
    count = at = 0
    seen = detector.status.samples
    while at < len(rows):
        before = detector.to_bytes()
        block = rows[at : at + 1000]
        if detector.feed(block):
            end = (detector.status.at or 0) - seen
            detector = DriftDetector.from_bytes(detector.profile, before)
            detector.feed(rows[at:end])
            detector.acknowledge()
            count, at = count + 1, end
        else:
            at += len(block)
    return count


def samples_to_alarm(detector: DriftDetector, rows: Rows) -> float:
    """Samples of ``rows`` until the alarm."""
    before = detector.status.samples
    for at in range(0, len(rows), BLOCK):
        if detector.feed(rows[at : at + BLOCK]):
            return (detector.status.at or 0) - before
    return math.inf


def false_alarms(
    seed: int,
    *,
    cell: str,
    draw: Draw,
    n: int,
    window: int,
    kinds: tuple[str, ...] | None = None,
    time_ordered: bool = False,
    samples: int = 10_000,
) -> float:
    """False alarms over ``samples`` at A = 10,000."""
    reference, stream = split(cell, seed, draw, n, samples)
    profile = ReferenceProfile.fit(reference, kinds=kinds, time_ordered=time_ordered, seed=seed)
    return count_alarms(DriftDetector(profile, 10_000, window, seed=~seed), stream)


def delay(
    seed: int,
    *,
    cell: str,
    draw: Draw,
    change: Change,
    window: int,
    n: int = 2000,
    quiet: int = 0,
    limit: int = 5000,
    time_ordered: bool = False,
) -> float:
    """Samples to the alarm after the first column changed, at A = 10,000. An alarm before is acknowledged."""
    reference, stream = split(cell, seed, draw, n, quiet + limit)
    profile = ReferenceProfile.fit(reference, time_ordered=time_ordered, seed=seed)
    detector = DriftDetector(profile, 10_000, window, seed=~seed)
    if quiet and detector.feed(stream[:quiet]):
        detector.acknowledge()
    return samples_to_alarm(detector, changed(stream[quiet:], change))


def wandering(cell: str, seed: int, draw: Draw, samples: int, beyond: float) -> tuple[Rows, Rows, Rows]:
    """Reference, ``samples`` of wander, and what follows: a level of ``beyond`` of the reference's standard deviations
    above its mean."""
    reference, stream = split(cell, seed, draw, 2000, samples)
    after = streams.normal(streams.generator(cell + "/after", seed), 2000)
    return reference, stream, after + reference.mean() + beyond * reference.std()


def wander(
    seed: int,
    *,
    cell: str,
    draw: Draw,
    tolerance: float,
    beyond: float,
    after: bool,
    every: float,
    samples: int = 10_000,
) -> float:
    """1 if ``samples`` of benign wander raise an alarm; or, ``after``, the samples to the alarm after the shift."""
    reference, stream, shifted = wandering(cell, seed, draw, samples, beyond)
    detector = DriftDetector(ReferenceProfile.fit(reference, seed=seed), every, 32, tolerance=tolerance, seed=~seed)
    alarm = detector.feed(stream)
    if not after:
        return float(alarm)
    if alarm:
        detector.acknowledge()
    return samples_to_alarm(detector, shifted)


def slow(seed: int, *, cell: str, rate: float = 1e-5) -> float:
    """Sigmas that a level which rises by ``rate`` a sample has come to at the alarm, at A = 1,000,000."""
    rng = streams.generator(cell, seed)
    profile = ReferenceProfile.fit(rng.normal(size=2000), seed=seed)
    detector = DriftDetector(profile, 1_000_000, 32, seed=~seed)
    block = 4096
    for at in range(0, 60_000, block):
        if detector.feed(rng.normal(size=block) + rate * np.arange(at, at + block)):
            return rate * (detector.status.at or 0)
    return math.inf


def slow_in_time(seed: int, *, cell: str, limit: float = 0.25) -> float:
    """1 if :func:`slow` is below ``limit``."""
    return float(slow(seed, cell=cell) < limit)


class Peer:
    """river's detector ``name``, one for each column, defaults; an alarm of any is one, and what alarms starts anew
    by itself."""

    def __init__(self, name: str, features: int, seed: int) -> None:
        from river import drift

        if name == "KSWIN":
            self.detectors: list[Any] = [drift.KSWIN(seed=seed + k) for k in range(features)]
        else:
            self.detectors = [getattr(drift, name)() for _ in range(features)]
        self.lag = LAG if name == "KSWIN" else None

    def learn(self, reference: Rows) -> None:
        """Let the detectors see the reference first."""
        for _ in self.alarms(reference[-self.lag :] if self.lag else reference):
            pass

    def alarms(self, rows: Rows) -> Iterator[int]:
        """The samples of ``rows``, from 1, at which one alarms; missing and infinite values are left out."""
        for at, row in enumerate(rows.tolist(), 1):
            hit = False
            for detector, value in zip(self.detectors, row, strict=True):
                if math.isfinite(value):
                    detector.update(value)
                    hit = hit or detector.drift_detected
            if hit:
                yield at


def peer_false_alarms(seed: int, *, peer: str, cell: str, draw: Draw, n: int, samples: int = 10_000) -> float:
    """:func:`false_alarms` of a peer."""
    reference, stream = split(cell, seed, draw, n, samples)
    detector = Peer(peer, stream.shape[1], seed)
    detector.learn(reference)
    return sum(1 for _ in detector.alarms(stream))


def peer_delay(
    seed: int, *, peer: str, cell: str, draw: Draw, change: Change, n: int = 2000, quiet: int = 0, limit: int = 5000
) -> float:
    """:func:`delay` of a peer."""
    reference, stream = split(cell, seed, draw, n, quiet + limit)
    detector = Peer(peer, stream.shape[1], seed)
    detector.learn(np.concatenate((reference, stream[:quiet])))
    return next(detector.alarms(changed(stream[quiet:], change)), math.inf)


def peer_wander(
    seed: int, *, peer: str, cell: str, draw: Draw, beyond: float, after: bool, samples: int = 10_000
) -> float:
    """:func:`wander` of a peer; before the shift, its number of alarms."""
    reference, stream, shifted = wandering(cell, seed, draw, samples, beyond)
    detector = Peer(peer, 1, seed)
    detector.learn(reference)
    count = sum(1 for _ in detector.alarms(stream))
    return next(detector.alarms(shifted), math.inf) if after else count
