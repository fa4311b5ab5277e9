"""Drift and health of one engine, at the price of a copy a sample.

What is watched of a sample and its answer is copied (:mod:`shared.drift.capture`); when enough have come, they are
summarized, counted and weighed (:class:`DriftDetector`) in one go, by whichever thread came last. In blocks of 1,024 a
sample costs a tenth of what it costs in windows of 32; but a whole window is counted at once when nothing was for a
moment, so that an alarm never waits for a block to fill.

Invariants, held by ``tests/edge_agent/test_monitor.py``:

1. Every sample is counted once, whatever the number of threads, and before anything is told, taken or saved.
2. ``take`` hands out the counts since the last ``take``; sums over takes equal the counts of one long window.
3. An alarm needs both evidence and a practical effect, and stays until ``acknowledge``.
4. ``restore(to_bytes())`` continues as if nothing had happened; bytes of another profile are refused.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any

import msgspec
from msgspec import Struct

from edge_agent.tally import MonitorReport, Tallied, Tally
from shared.drift import DriftDetector, DriftStatus, ReferenceProfile, WatchSpec, WindowCounts
from shared.drift.capture import Captured, Recorder
from shared.errors import UNREADABLE, ProfileError
from shared.manifest import DriftPolicy, SampleSpec

__all__ = ["Monitor", "MonitorReport"]

FORMAT = 1
BLOCK = 1024
"""Samples counted in one go; fewer of large ones, more where the policy's window is longer."""
BLOCK_BYTES = 2 << 20
PATIENCE = 0.25
"""Seconds since the last count after which a window is counted at once: no alarm waits longer for a block to fill."""


class _Saved(Struct):
    format: int
    profile: str
    detector: bytes
    alarm: bool
    samples: int
    errors: int
    seconds: float
    score_sum: float
    latencies: list[float]


class Monitor:
    """Watches one engine. All methods may be called by any thread."""

    def __init__(
        self,
        profile: ReferenceProfile,
        watch: WatchSpec,
        policy: DriftPolicy,
        sample: SampleSpec | Sequence[SampleSpec],
        classes: int = 0,
        embedding: int = 0,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Watch samples like ``sample`` (all of a model's inputs, if it has several) and their answers against
        ``profile``: for a classifier scores of ``classes`` classes and embeddings of ``embedding`` numbers (0: the
        model has none, or it isn't known).

        Raises:
            ProfileError: ``profile``, ``watch`` and the model don't belong together.
        """
        signature = (sample,) if isinstance(sample, SampleSpec) else tuple(sample)
        if profile.names != watch.names:
            raise ProfileError(f"the profile watches {', '.join(profile.names)}, but the release {_listed(watch)}")
        _check_fit(watch, signature[0], classes, embedding)
        self._profile, self._watch, self._policy, self._clock = profile, watch, policy, clock
        self._window = policy.window
        self._detector = self._new_detector()
        self._alarm = False
        self._recorder = Recorder(watch, _dtypes(watch, signature))
        self._capture = self._recorder.capture
        most = max(policy.window, BLOCK // policy.window * policy.window)
        self._size = max(1, min(most, BLOCK_BYTES // max(1, self._recorder.nbytes)))
        self._due = min(self._window, self._size)
        self._counted_at = -math.inf
        self._kept: deque[tuple[Captured, float, float]] = deque()
        self._count_lock = threading.Lock()
        self._tally = Tally(clock)

    def _new_detector(self) -> DriftDetector:
        policy = self._policy
        return DriftDetector(
            self._profile,
            false_alarm_every=policy.false_alarm_every,
            window=policy.window,
            tolerance=policy.tolerance,
            replaced=policy.replaced,
        )

    def observe(self, sample: Any, row: Mapping[str, Any], latency_us: float) -> None:
        """One answered sample, an array or several by the inputs' names, and the pipeline's fields of its answer.

        What isn't like what the watch was made for counts as missing; nothing is raised.
        """
        kept = self._kept
        kept.append((self._capture(sample, row), row.get("score", math.nan), latency_us))
        if len(kept) >= self._due:
            self._look()

    def _look(self) -> None:
        """Count what was kept if it is time to. Of several threads one does; the others go on, or wait if they get
        ahead of it by more than a block."""
        if self._count_lock.acquire(blocking=len(self._kept) >= 2 * self._size):
            try:
                filled = len(self._kept)
                if filled >= self._size or (filled >= self._due and self._clock() - self._counted_at >= PATIENCE):
                    self._count()
                elif filled >= self._due:
                    self._due = min(filled - filled % self._window + self._window, self._size)
            finally:
                self._count_lock.release()

    @contextlib.contextmanager
    def _up_to_date(self) -> Iterator[None]:
        """Hold the count lock, every sample so far counted."""
        with self._count_lock:
            self._count()
            yield

    def error(self, count: int = 1) -> None:
        """Samples that could not be answered: they count for data quality, not for the distributions."""
        with self._count_lock:
            self._tally.errors += count

    def _count(self) -> None:
        """Fold in what was kept. The caller holds the count lock; other threads may add to it meanwhile."""
        take = self._kept.popleft
        for begin in range(0, filled := len(self._kept), self._size):
            block = [take() for _ in range(min(self._size, filled - begin))]
            captured, scores, latencies = zip(*block, strict=True)
            if self._detector.feed(self._recorder.fold(captured)) and not self._alarm:
                self._alarm = self._matters(self._detector.status)
            self._tally.add(scores, latencies)
        self._due = min(self._window, self._size)
        self._counted_at = self._clock()

    @property
    def status(self) -> DriftStatus:
        """The detector's own word, which knows evidence only; ``report().alarm`` also asks for a practical effect."""
        with self._up_to_date():
            return self._detector.status

    @property
    def alarm(self) -> bool:
        """Whether an alarm stands, evidence and practical effect both, as of the last count: cheap enough to ask after
        every sample."""
        return self._alarm

    @property
    def profile(self) -> ReferenceProfile:
        """What this stream is compared with."""
        return self._profile

    def report(self) -> MonitorReport:
        """The window since the last ``take``, which goes on."""
        with self._up_to_date():
            return self._report(self._detector.counts)

    def take(self) -> MonitorReport:
        """The window since the last ``take``, which ends here. Evidence goes on."""
        with self._up_to_date():
            report = self._report(self._detector.take_counts())
            self._tally.begin()
            return report

    def _report(self, counts: WindowCounts) -> MonitorReport:
        status, alarm = self._detector.status, self._alarm
        return MonitorReport(
            counts=counts,
            evidence=status.evidence,
            effects={name: float(effect.mean_shift) for name, effect in status.effects.items()},
            alarm=alarm,
            at=status.at if alarm else None,
            features=status.features if alarm else (),
            profile=self._profile.digest,
            evidences=status.evidences,
            **self._tally.figures(),
        )

    def _matters(self, status: DriftStatus) -> bool:
        """Whether some effect is large enough to act on: evidence alone only says that the change is real."""
        return any(effect.psi >= self._policy.minimum_effect for effect in status.effects.values())

    def acknowledge(self, *, keep: bool = True) -> None:
        """End an alarm: a false one (``keep``: what was seen stays in the reference's favour), or a changed world."""
        with self._up_to_date():
            self._detector.acknowledge(keep=keep)
            self._alarm = False

    def to_bytes(self) -> bytes:
        """Everything that was seen."""
        with self._up_to_date():
            tally = self._tally.save()
            saved = _Saved(
                format=FORMAT,
                profile=self._profile.digest,
                detector=self._detector.to_bytes(),
                alarm=self._alarm,
                samples=tally.samples,
                errors=tally.errors,
                seconds=tally.seconds,
                score_sum=tally.score_sum,
                latencies=tally.latencies,
            )
        return msgspec.msgpack.encode(saved)

    def restore(self, data: bytes) -> None:
        """Go on where ``to_bytes`` was called; the time in between does not count.

        Raises:
            ProfileError: ``data`` is damaged, or of another profile (another release, variant or baseline).
        """
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
        except UNREADABLE as error:
            raise ProfileError(f"saved monitor cannot be read: {error}") from error
        if saved.format != FORMAT or saved.profile != self._profile.digest:
            raise ProfileError(
                f"saved monitor is format {saved.format} of profile {saved.profile}; "
                f"expected format {FORMAT} of profile {self._profile.digest}"
            )
        detector = DriftDetector.from_bytes(self._profile, saved.detector)
        policy = self._policy
        tolerance = detector.tolerance
        wanted = (float(policy.false_alarm_every), policy.window, policy.tolerance, policy.replaced)
        found = (detector.false_alarm_every, detector.window, tolerance.delta, tolerance.replaced)
        if found != wanted:
            raise ProfileError(f"saved monitor follows another drift policy: {found} instead of {wanted}")
        with self._count_lock:
            self._detector, self._alarm = detector, saved.alarm
            self._tally.load(Tallied(saved.samples, saved.errors, saved.seconds, saved.score_sum, saved.latencies))


def _listed(watch: WatchSpec) -> str:
    return ", ".join(watch.names)


def _dtypes(watch: WatchSpec, signature: Sequence[SampleSpec]) -> list[str]:
    """Of the watched inputs; the first is the model's first, whatever its name."""
    dtypes = {spec.name: spec.dtype for spec in signature}
    others = [part.input for part in watch.parts[1:]]
    unknown = [name for name in others if name not in dtypes]
    if unknown:
        raise ProfileError(f"the profile watches input {', '.join(unknown)}, which the model doesn't have")
    return [signature[0].dtype, *(dtypes[name] for name in others)]


def _check_fit(watch: WatchSpec, sample: SampleSpec, classes: int, embedding: int) -> None:
    shape, of_classes = tuple(sample.shape), watch.of_classes
    if of_classes is None:
        if shape != watch.shape:
            raise ProfileError(f"the profile is of samples {watch.shape}, but the model has samples {shape}")
        return
    width = len(of_classes.center)
    wanted = (of_classes.classes, width)
    found = (classes or wanted[0], (embedding or width) if width else 0)
    if shape != watch.shape or wanted != found:
        raise ProfileError(
            f"the profile is of samples {watch.shape}, {wanted[0]} classes and an embedding of {wanted[1]}, but "
            f"the model has samples {shape}, {found[0]} classes and an embedding of {found[1]}"
        )
