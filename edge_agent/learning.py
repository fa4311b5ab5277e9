"""A monitor for models that came without a reference: it learns one from the first answers, then watches for change.

What is learned is the world as it was while learning: if that was no typical day, typical days will look like a
change. With n answers learned, evidence is exact for a stream that is exchangeable with them, whatever n is, on
average over the references that could have been drawn: false alarms stay as rare as the policy says. n decides what
can be seen. Answers of a video or of a slow sensor depend on each other and are worth far fewer than their number: the
reference takes them as a series (:mod:`shared.drift.memory`) and says of which scalars the level could not be learned.
What the first minutes did not show, a later hour may show as a change.

Fitting the reference happens once, in the thread that brings the last answer to learn from, and takes some
milliseconds.

Invariants, held by ``tests/edge_agent/test_learning.py``:

1. Every answer is counted once: learned from, or watched.
2. Once ``ready``, it is a :class:`Monitor` of what ``Baseline.fit`` makes of the answers learned.
3. A baseline on disk is used for the very model file, pipeline and inputs that it was learned of, and for no others.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from edge_agent.baseline import Baseline, binding
from edge_agent.monitor import Monitor
from edge_agent.tally import MonitorReport, Tallied, Tally
from shared.drift import DriftStatus, ReferenceProfile, WatchSpec, WindowCounts
from shared.drift.arrays import Arrays, pack, take, unpack
from shared.drift.bins import Floats
from shared.drift.capture import Captured, Recorder
from shared.drift.performance import Truths
from shared.drift.profile import LEAST_ROWS, Layout
from shared.errors import UNREADABLE, ProfileError, UsageError
from shared.manifest import Manifest, Variant

log = logging.getLogger(__name__)

FORMAT = 1
MOST = 100_000
"""Answers learned from, at most: 64 scalars of each are 50 MB while learning."""
CHUNK = 256
"""Answers whose numbers are made in one go."""
CHUNK_BYTES = 1 << 19
NOT_PROMISED = "not promised"
"""In what a profile says of the level of a scalar that was too short to know."""
UNLEARNED = "learning"
"""Digest of the profile that isn't there yet."""


class _Saved(Struct):
    format: int
    binding: str
    baseline: bytes = b""
    monitor: bytes = b""
    learning: bytes = b""
    tally: Tallied | None = None
    rejected: int = 0


class Learning:
    """Learns from the first answers, then watches. All methods may be called by any thread.

    ``learned`` answers of the ``wanted`` ones so far; ``ready`` once it watches.
    """

    def __init__(
        self,
        manifest: Manifest,
        variant: Variant,
        *,
        learn: int = 2000,
        file: Path | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Learn from ``learn`` answers of ``variant``, or go on with the baseline in ``file`` if it is of this model;
        one that is not is replaced once another has been learned.

        Raises:
            UsageError: fewer than 50 answers to learn from, or more than 100,000.
        """
        if not LEAST_ROWS <= learn <= MOST:
            raise UsageError(f"a baseline is learned from {LEAST_ROWS} to {MOST} answers, not from {learn}")
        self.wanted = learn
        self._manifest, self._file, self._clock = manifest, file, clock
        self._binding = binding(manifest, variant)
        self._lock = threading.RLock()
        self._monitor: Monitor | None = None
        self._baseline: Baseline | None = None
        self._tally, self._truths = Tally(clock), Truths(None, manifest.drift.false_alarm_every)
        self._forget()
        if file is not None and file.exists():
            try:
                self._use(Baseline.load(file, self._binding))
            except ProfileError as error:
                log.warning("learning the drift baseline anew: %s", error)

    def _forget(self) -> None:
        """Nothing learned."""
        self._recorder: Recorder | None = None
        self._captured: list[Captured] = []
        self._rows: list[Floats] = []
        self._learned = self._rejected = 0

    @property
    def ready(self) -> bool:
        """Whether it has learned, and watches."""
        return self._monitor is not None

    @property
    def learned(self) -> int:
        """Answers that the baseline is made of, so far."""
        return self._learned

    @property
    def note(self) -> str:
        """What it is doing and what can be promised, for people."""
        policy = self._manifest.drift
        if self._monitor is None:
            return f"learning the baseline: {self._learned} of {self.wanted} answers; no alarm before that"
        level = self._monitor.profile.level
        doubtful = [f"{name} ({said})" for name, said in level.items() if NOT_PROMISED in said]
        return (
            f"baseline learned on this device from {self._learned} answers: on answers like those, one false alarm in "
            f"{policy.false_alarm_every} on average; what they did not show counts as change"
        ) + (f"; less sure of {', '.join(doubtful)}" if doubtful else "")

    @property
    def watch(self) -> WatchSpec | None:
        """What is watched; None before the first answer."""
        if self._baseline is not None:
            return self._baseline.watch
        return self._recorder.watch if self._recorder is not None else None

    @property
    def profile(self) -> ReferenceProfile:
        """What the stream is compared with; while learning an empty one of the digest ``learning``."""
        return self._monitor.profile if self._monitor is not None else _nothing()

    def observe(self, sample: Any, row: Mapping[str, Any], latency_us: float) -> None:
        """One answered sample, as :meth:`Monitor.observe` takes it."""
        if self._monitor is None:
            with self._lock:
                if self._monitor is None:
                    self._learn(sample, row, latency_us)
                    return
        self._monitor.observe(sample, row, latency_us)

    def _learn(self, sample: Any, row: Mapping[str, Any], latency_us: float) -> None:
        recorder = self._recorder
        if recorder is None:
            manifest = self._manifest
            recorder = self._choose(
                WatchSpec.choose(manifest.signature, row, manifest.task, pipeline=manifest.pipeline)
            )
        self._captured.append(recorder.capture(sample, row))
        self._tally.add((row.get("score"),), (latency_us,))
        self._learned += 1
        if len(self._captured) >= CHUNK or recorder.nbytes * len(self._captured) >= CHUNK_BYTES:
            self._fold(recorder)
        if self._learned >= self.wanted:
            self._finish(recorder)

    def _choose(self, watch: WatchSpec) -> Recorder:
        dtypes = {spec.name: spec.dtype for spec in self._manifest.signature}
        self._recorder = Recorder(watch, [dtypes[part.input] for part in watch.parts])
        return self._recorder

    def _fold(self, recorder: Recorder) -> None:
        if self._captured:
            self._rows.append(recorder.fold(self._captured))
            self._captured = []

    def _finish(self, recorder: Recorder) -> None:
        """Make the baseline, keep it, and watch."""
        self._fold(recorder)
        try:
            baseline = Baseline.fit(self._binding, recorder.watch, np.concatenate(self._rows), rejected=self._rejected)
        except ProfileError as error:
            log.warning("nothing was learned from %d answers, beginning again: %s", self._learned, error)
            self._forget()
            return
        if self._file is not None:
            try:
                baseline.save(self._file)
            except ProfileError as error:
                log.warning("the learned drift baseline is not kept: %s", error)
        self._use(baseline)

    def _monitor_of(self, baseline: Baseline) -> Monitor:
        manifest = self._manifest
        return Monitor(
            baseline.profile,
            baseline.watch,
            manifest.drift,
            manifest.signature,
            rejected=baseline.rejected,
            clock=self._clock,
        )

    def _use(self, baseline: Baseline, monitor: Monitor | None = None) -> None:
        monitor = monitor or self._monitor_of(baseline)
        self._forget()
        self._learned, self._baseline = baseline.learned, baseline
        monitor.go_on_from(self._tally.errors, self._truths)
        self._monitor = monitor

    def error(self, count: int = 1) -> None:
        """Samples that could not be answered."""
        with self._lock:
            if self._monitor is None:
                self._tally.errors += count
                self._rejected += count
                return
        self._monitor.error(count)

    def truth(self, truth: bool | float) -> None:
        """The truth about an answer, as :meth:`Monitor.truth` takes it: nobody knows how good the model should be, so
        that there is a rate and no alarm."""
        with self._lock:
            if self._monitor is None:
                self._truths.add([truth])
                return
        self._monitor.truth(truth)

    @property
    def status(self) -> DriftStatus | None:
        """The detector's own word; None while learning."""
        return self._monitor.status if self._monitor is not None else None

    @property
    def alarm(self) -> bool:
        """Whether an alarm stands; never while learning."""
        return self._monitor is not None and self._monitor.alarm

    def report(self) -> MonitorReport:
        """The window since the last ``take``, which goes on. While learning it has neither counts nor evidence."""
        with self._lock:
            if self._monitor is None:
                return self._report()
        return self._monitor.report()

    def take(self) -> MonitorReport:
        """The window since the last ``take``, which ends here. One in which learning ended begins with the first
        answer that was watched."""
        with self._lock:
            if self._monitor is None:
                report = self._report()
                self._tally.begin()
                self._truths.begin()
                return report
        return self._monitor.take()

    def _report(self) -> MonitorReport:
        return MonitorReport(
            counts=WindowCounts.zero(_nothing()),
            evidence=0.0,
            effects={},
            alarm=False,
            at=None,
            features=(),
            profile=UNLEARNED,
            **self._tally.figures(),
            **self._truths.figures(),
        )

    def acknowledge(self, *, keep: bool = True) -> None:
        """As :meth:`Monitor.acknowledge`; nothing while learning. What was learned stays."""
        if self._monitor is not None:
            self._monitor.acknowledge(keep=keep)

    def to_bytes(self) -> bytes:
        """Everything that was seen; the baseline with it where it has no file of its own."""
        with self._lock:
            if self._monitor is not None and self._baseline is not None:
                own = pack(self._baseline.to_arrays()) if self._file is None else b""
                saved = _Saved(FORMAT, self._binding, own, self._monitor.to_bytes())
            else:
                saved = _Saved(
                    FORMAT,
                    self._binding,
                    learning=self._progress(),
                    tally=self._tally.save(),
                    rejected=self._rejected,
                )
        return msgspec.msgpack.encode(saved)

    def _progress(self) -> bytes:
        """What was learned so far; nothing before the first answer."""
        recorder = self._recorder
        if recorder is None:
            return b""
        self._fold(recorder)
        arrays: Arrays = {f"watch/{name}": array for name, array in recorder.watch.to_arrays().items()}
        return pack({**arrays, "rows": np.concatenate(self._rows)})

    def restore(self, data: bytes) -> None:
        """Go on where ``to_bytes`` was called, with learning too.

        Raises:
            ProfileError: ``data`` is damaged, or of another model or baseline.
        """
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
        except UNREADABLE as error:
            raise ProfileError(f"saved monitor cannot be read: {error}") from error
        if saved.format != FORMAT or saved.binding != self._binding:
            raise ProfileError(f"saved monitor is format {saved.format} of another model, or of another format")
        with self._lock:
            if saved.monitor:
                self._restore_watching(saved)
            elif self._monitor is None:
                self._restore_learning(saved)

    def _restore_watching(self, saved: _Saved) -> None:
        monitor = self._monitor
        baseline = Baseline.from_arrays(unpack(saved.baseline), self._binding) if saved.baseline else None
        if baseline is not None:
            monitor = self._monitor_of(baseline)
        if monitor is None:
            raise ProfileError("saved monitor is of a learned baseline that isn't there any more")
        monitor.restore(saved.monitor)
        if baseline is not None:
            self._use(baseline, monitor)

    def _restore_learning(self, saved: _Saved) -> None:
        self._rejected = saved.rejected
        if saved.learning:
            arrays = unpack(saved.learning)
            rows = take(arrays, "rows", "f", 2)
            prefix = "watch/"
            found = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
            watch = WatchSpec.from_arrays(found)
            if rows.shape[1] != len(watch.names):
                raise ProfileError("saved monitor: what was learned is not what is watched")
            self._forget()
            recorder = self._choose(watch)
            self._rows, self._learned, self._rejected = [rows], len(rows), saved.rejected
            if self._learned >= self.wanted:
                self._finish(recorder)
                return
        if saved.tally is not None:
            self._tally.load(saved.tally)


def _nothing() -> ReferenceProfile:
    """A profile that watches nothing, of the digest ``UNLEARNED``."""
    profile = ReferenceProfile((), (), ())
    profile.__dict__.update(digest=UNLEARNED, layout=Layout(UNLEARNED, (), ()))
    return profile
