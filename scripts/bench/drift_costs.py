"""What watching costs in processor time, and how many bytes travel and are kept: 16 features in windows of 128."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from time import thread_time

import drift_streams as streams
import numpy as np
from drift_runs import Peer
from drift_streams import Rows

from shared.drift import DriftDetector, ReferenceProfile

FEATURES, WINDOW = 16, 128
TIMED = 400
"""Windows of one round."""


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """On one core, the last, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def draw(rng: np.random.Generator, n: int, *, time_ordered: bool) -> Rows:
    """Sixteen columns, autocorrelated where time has an order."""
    if not time_ordered:
        return streams.normal(rng, n, FEATURES)
    return np.concatenate([streams.autoregressive(rng, n, (0.5,)) for _ in range(FEATURES)], axis=1)


def detector(rng: np.random.Generator, *, time_ordered: bool = False) -> DriftDetector:
    """A detector that has not seen anything."""
    reference = draw(rng, 2000, time_ordered=time_ordered)
    return DriftDetector(ReferenceProfile.fit(reference, time_ordered=time_ordered), 10**9, WINDOW)


def _timed(feed: Callable[[Rows], object], rows: Rows, block: int) -> float:
    blocks = [rows[at : at + block] for at in range(0, len(rows), block)]
    feed(blocks[0])
    with pinned():
        start = thread_time()
        for one in blocks:
            feed(one)
        return (thread_time() - start) / rows.size * 1e6


def microseconds(seed: int, *, cell: str, block: int, time_ordered: bool = False) -> float:
    """Of one round, for each feature and sample, when ``block`` rows are given at a time."""
    rng = streams.generator(cell, seed)
    watching = detector(rng, time_ordered=time_ordered)
    return _timed(watching.feed, draw(rng, WINDOW * TIMED, time_ordered=time_ordered), block)


def peer_microseconds(seed: int, *, peer: str, cell: str) -> float:
    """The same of one of river's, sample by sample, or of ``KLL`` sketches, which take a column of a block."""
    rng = streams.generator(cell, seed)
    rows = streams.normal(rng, WINDOW * (TIMED if peer == "KLL" else 40), FEATURES)
    if peer == "KLL":
        return _timed(_sketch([_kll() for _ in range(FEATURES)]), rows, WINDOW)
    watching = Peer(peer, FEATURES, seed)

    def feed(block: list[list[float]]) -> None:
        for row in block:
            for one, value in zip(watching.detectors, row, strict=True):
                one.update(value)

    lists = rows.tolist()
    with pinned():
        start = thread_time()
        feed(lists)
        return (thread_time() - start) / rows.size * 1e6


def _kll() -> object:
    from datasketches import kll_doubles_sketch

    return kll_doubles_sketch(200)


def _sketch(sketches: list[object]) -> Callable[[Rows], None]:
    def feed(block: Rows) -> None:
        for sketch, column in zip(sketches, np.ascontiguousarray(block.T), strict=True):
            sketch.update(column)  # type: ignore[attr-defined]

    return feed


def counts_bytes(seed: int, *, cell: str, samples: int, time_ordered: bool = False) -> float:
    """Counts of ``samples`` samples on the wire."""
    rng = streams.generator(cell, seed)
    watching = detector(rng, time_ordered=time_ordered)
    watching.feed(draw(rng, samples, time_ordered=time_ordered))
    return len(watching.counts.to_bytes())


def peer_bytes(seed: int, *, cell: str, samples: int) -> float:
    """KLL sketches of the same samples."""
    rows = streams.normal(streams.generator(cell, seed), samples, FEATURES)
    sketches = [_kll() for _ in range(FEATURES)]
    _sketch(sketches)(rows)
    return sum(len(sketch.serialize()) for sketch in sketches)  # type: ignore[attr-defined]


def state_bytes(seed: int, *, cell: str, time_ordered: bool = False) -> float:
    """A detector's state after 10,000 samples and half a window."""
    rng = streams.generator(cell, seed)
    watching = detector(rng, time_ordered=time_ordered)
    watching.feed(draw(rng, 10_000 // WINDOW * WINDOW + WINDOW // 2, time_ordered=time_ordered))
    return len(watching.to_bytes())


def peers(cell: str, *names: str) -> dict[str, Callable[[int], float]]:
    """:func:`peer_microseconds` of several."""
    return {name: partial(peer_microseconds, peer=name, cell=cell) for name in names}
