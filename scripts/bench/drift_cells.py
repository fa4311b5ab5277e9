"""The cells of the drift benchmark: what is measured, its target, and who is measured beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import drift_costs as costs
import drift_fleet as fleet
import drift_intervals as intervals
import drift_runs as runs
import drift_streams as streams
from drift_intervals import Estimate
from drift_runs import Draw

Run = Callable[[int], float]
Summary = Callable[[list[float]], Estimate]


class Peer(NamedTuple):
    """One that is measured on the same streams, in one of ``every`` runs."""

    run: Run
    every: int = 1
    summary: Summary | None = None


class Cell(NamedTuple):
    """One figure. ``target`` is the most it may be, or the least where ``least``; None: for orientation. ``timed``
    cells are rounds of a clock, one after the other in this process."""

    name: str
    section: str
    label: str
    target: float | None
    run: Run
    summary: Summary
    peers: dict[str, Peer]
    least: bool = False
    timed: bool = False
    decimals: int = 0


STREAMS: dict[str, tuple[str, Draw, tuple[str, ...] | None]] = {
    "one": ("F = 1, normal", streams.normal, None),
    "independent": ("F = 16, independent", partial(streams.normal, features=16), None),
    "correlated": ("F = 16, correlated ρ = .9", streams.correlated, None),
    "functions": ("F = 16, functions of one another", streams.functions, None),
    "bernoulli": ("Bernoulli .5, .1, .01", streams.bernoulli, None),
    "poisson": ("Poisson .5, 3, 20", streams.poisson, None),
    "rounded": ("rounded to 1, .5, .1 σ", streams.rounded, None),
    "mixed": ("mixed: 5 % NaN, ±inf, constant, Cauchy, category", streams.mixed, streams.MIXED_KINDS),
}
CHANGES = {".25": (0.25, 1.0), ".5": (0.5, 1.0), "1": (1.0, 1.0), "var": (0.0, 1.5)}
CHANGE_LABELS = {".25": ".25 σ", ".5": ".5 σ", "1": "1 σ", "var": "variance × 1.5"}
AR = {
    "ar.3": (0.3,),
    "ar.6": (0.6,),
    "ar.9": (0.9,),
    "ar.97": (0.97,),
    "ar1.2-.4": (1.2, -0.4),
    "ar.5.3": (0.5, 0.3),
}
QUIET = 1024


def cells() -> list[Cell]:
    """All of them, in the order of the table."""
    return [*_false_alarms(), *_delays(), *_time_ordered(), *_wander(), *_slow(), *_costs(), *_bytes(), *_fleet()]


def _false_alarms() -> Iterator[Cell]:
    section = "False alarms per 10,000 samples, A = 10,000"
    for key, (label, draw, kinds) in STREAMS.items():
        for window in (1, 32):
            for n in (100, 500, 2000):
                name = f"alarms/{key}/{window}/{n}"
                peers: dict[str, Peer] = {}
                if window == 1 and n == 2000:
                    for peer in ("ADWIN", "PageHinkley", "KSWIN"):
                        if peer == "KSWIN" and key != "one":
                            continue
                        run = partial(runs.peer_false_alarms, peer=peer, cell=name, draw=draw, n=n)
                        peers[peer] = Peer(run, 10 if peer == "KSWIN" else 2)
                run = partial(runs.false_alarms, cell=name, draw=draw, n=n, window=window, kinds=kinds)
                yield Cell(
                    name,
                    section,
                    f"{label}; n = {n:,}, window {window}",
                    1.0,
                    run,
                    intervals.rate,
                    peers,
                    decimals=2,
                )


def _delays() -> Iterator[Cell]:
    section = f"Median delay in samples after {QUIET:,} quiet samples, n = 2,000, A = 10,000"
    tables = (
        (1, 1, (200, 63, 20, 170)),
        (1, 32, (224, 64, 32, 192)),
        (16, 1, (270, 85, 28, 270)),
    )
    for features, window, targets in tables:
        for (key, change), target in zip(CHANGES.items(), targets, strict=True):
            yield _delay(section, features, window, key, change, target, QUIET)
    section = "Median delay when the change is there from the first sample, for orientation"
    for key, change in CHANGES.items():
        yield _delay(section, 1, 1, key, change, None, 0)


def _delay(
    section: str, features: int, window: int, key: str, change: runs.Change, target: float | None, quiet: int
) -> Cell:
    name = f"delay/{features}/{window}/{key}" if quiet else f"first/{key}"
    of = {"cell": name, "draw": partial(streams.normal, features=features), "change": change, "quiet": quiet}
    peers = {}
    if window == 1:
        for peer in ("ADWIN", "PageHinkley", "KSWIN") if features == 1 else ("ADWIN", "PageHinkley"):
            peers[peer] = Peer(partial(runs.peer_delay, peer=peer, **of), 10 if peer == "KSWIN" else 1)
    label = f"F = {features}{', one drifts' if features > 1 else ''}, window {window}: {CHANGE_LABELS[key]}"
    return Cell(name, section, label, target, partial(runs.delay, window=window, **of), intervals.median, peers)


def _time_ordered() -> Iterator[Cell]:
    section = "time_ordered=True: false alarms per 10,000 samples, A = 10,000, window 32"
    for key, phi in AR.items():
        for n in (2000, 8000) if key == "ar.97" else (2000,):
            name, draw = f"time/alarms/{key}/{n}", partial(streams.autoregressive, phi=phi)
            run = partial(runs.false_alarms, cell=name, draw=draw, n=n, window=32, time_ordered=True)
            peers = {
                peer: Peer(partial(runs.peer_false_alarms, peer=peer, cell=name, draw=draw, n=n), 2)
                for peer in ("ADWIN", "PageHinkley")
            }
            order = ", ".join(f"{f:g}" for f in phi)
            label = f"AR({len(phi)}) {order}; n = {n:,}"
            yield Cell(name, section, label, 1.0, run, intervals.rate, peers, decimals=2)
    section = f"time_ordered=True: median delay after {QUIET:,} quiet samples, window 32"
    for key, target in (("ar.3", None), ("ar.9", 250)):
        name, draw = f"time/delay/{key}", partial(streams.autoregressive, phi=AR[key])
        run = partial(runs.delay, cell=name, draw=draw, change=CHANGES["1"], window=32, quiet=QUIET, time_ordered=True)
        yield Cell(name, section, f"1 σ at ρ = {AR[key][0]:g}", target, run, intervals.median, {})


def _wander() -> Iterator[Cell]:
    for every, of_target in ((10_000, True), (100_000, False)):
        for after in (False, True):
            section = (
                "Median delay in samples when the level then goes to δ + .5 σ above the reference's mean"
                if after
                else "Runs that alarm in 10,000 samples of benign wander within δ, window 32 (peers: alarms)"
            )
            section += f", A = {every:,}" if of_target else f", A = {every:,}, for orientation"
            for kind, draw in (("sine", streams.sine), ("walk", streams.walk)):
                for amplitude in (0.25, 0.5):
                    of = {"cell": f"wander/{kind}/{amplitude:g}", "draw": partial(draw, amplitude=amplitude)}
                    of |= {"beyond": 2 * amplitude + 0.5, "after": after}
                    adwin = Peer(partial(runs.peer_wander, peer="ADWIN", **of), 1, None if after else intervals.rate)
                    yield Cell(
                        f"wander/{'shift' if after else 'quiet'}/{every}/{kind}/{amplitude:g}",
                        section,
                        f"{kind} ± {amplitude:g} σ, δ = {2 * amplitude:g}",
                        (130 if after else 0.05) if of_target else None,
                        partial(runs.wander, tolerance=2 * amplitude, every=every, **of),
                        intervals.median if after else intervals.share,
                        {"ADWIN": adwin} if of_target else {},
                        decimals=0 if after else 3,
                    )


def _slow() -> Iterator[Cell]:
    section = "Slow drift: 10⁻⁵ σ a sample, A = 1,000,000, n = 2,000, window 32"
    run = partial(runs.slow_in_time, cell="slow")
    yield Cell(
        "slow/share", section, "runs with the alarm before .25 σ", 0.9, run, intervals.share, {}, True, decimals=3
    )
    run = partial(runs.slow, cell="slow")
    yield Cell("slow/level", section, "median level at the alarm, σ", None, run, intervals.median, {}, decimals=3)


def _costs() -> Iterator[Cell]:
    section = "Cost, µs a feature and sample, 16 features, window 128"
    name = "cost/window"
    peers = {key: Peer(run) for key, run in costs.peers(name, "ADWIN", "PageHinkley", "KLL").items()}
    for key, label, target, block, others in (
        (name, "one window a call", 0.10, costs.WINDOW, peers),
        ("cost/block", "4,096 rows a call", 0.10, 4096, {}),
    ):
        run = partial(costs.microseconds, cell=key, block=block)
        yield Cell(key, section, label, target, run, intervals.rounds, others, timed=True, decimals=3)
    run = partial(costs.microseconds, cell="time/cost", block=costs.WINDOW, time_ordered=True)
    label = "one window a call, time-ordered"
    yield Cell("time/cost", section, label, None, run, intervals.rounds, {}, timed=True, decimals=3)


def _bytes() -> Iterator[Cell]:
    section = "Bytes, 16 features"
    for samples, target, time_target in ((128, 400, 800), (10_000, None, None)):
        label = f"counts of {samples:,} samples on the wire"
        name = f"bytes/counts/{samples}"
        peers = {"KLL": Peer(partial(costs.peer_bytes, cell=name, samples=samples))}
        run = partial(costs.counts_bytes, cell=name, samples=samples)
        yield Cell(name, section, label, target, run, intervals.rounds, peers)
        run = partial(costs.counts_bytes, cell=name, samples=samples, time_ordered=True)
        yield Cell(f"time/{name}", section, f"{label}, time-ordered", time_target, run, intervals.rounds, {})
    for name, label, ordered, limit in (
        ("bytes/state", "detector state", False, 4096),
        ("time/bytes/state", "detector state, time-ordered", True, 8192),
    ):
        run = partial(costs.state_bytes, cell=name, time_ordered=ordered)
        yield Cell(name, section, label, limit, run, intervals.rounds, {})


def _fleet() -> Iterator[Cell]:
    section = "Fleet, 100 devices × 50 samples a report, A = 10,000 reports: median reports to the alarm"
    changes = (("all", fleet.DEVICES, 0.05, 3), ("ten", 10, 0.5, 2), ("one", 1, 1.0, 1))
    sides = (
        ("own", True, 2000, "references of their own, n = 2,000 each"),
        ("shared", False, 200_000, "one reference, n = 200,000"),
    )
    for side, own, n, whose in sides:
        for key, moved, shift, target in changes:
            name = f"fleet/{side}/{key}"
            run = partial(fleet.reports_to_alarm, cell=name, own=own, n=n, moved=moved, shift=shift)
            label = f"{key} + {shift:g} σ; {whose}"
            yield Cell(name, section, label, target, run, intervals.median, {})
    section = "Fleet: false alarms in 1,000 quiet reports (promised: 0.1)"
    run = partial(fleet.quiet_alarms, cell="fleet/quiet", n=2000)
    label = "one reference, n = 2,000"
    yield Cell("fleet/quiet", section, label, 0.1, run, intervals.rate, {}, decimals=3)
