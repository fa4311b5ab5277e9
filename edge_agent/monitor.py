"""Drift and health of one engine, at the price of a few copies a sample.

A sample is copied into a block; a full block is summarized (:class:`WatchSpec`), counted and weighed
(:class:`DriftDetector`) in one go, a whole window already when nothing was counted for a moment: in blocks of 256 a
sample costs a third of what it costs in windows of 32. Threads that answer meanwhile fill the other block.

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
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift import DriftDetector, DriftStatus, ReferenceProfile, WatchSpec, WindowCounts
from shared.errors import UNREADABLE, ProfileError
from shared.manifest import DriftPolicy, SampleSpec

FORMAT = 1
BLOCK = 256
"""Samples counted in one go, at most; fewer of large ones, more where the policy's window is longer."""
BLOCK_BYTES = 4 << 20
PATIENCE = 0.25
"""Seconds since the last count after which a window is counted at once: no alarm waits longer for a block to fill."""
LATENCIES = 4096
"""Latencies of one report window kept for its percentiles; of more, the latest."""


class MonitorReport(Struct, frozen=True, eq=False):
    """One drift window. ``counts`` add up with those of other windows and devices of the same ``profile`` (digest).

    ``evidence`` is relative to the alarm: 1.0 is the threshold. ``effects`` are mean shifts in robust sigma by watched
    scalar in the last 512 to 1,024 samples. ``alarm`` latches; ``at`` is the sample, counted from the start of the
    watch, at which the evidence reached the threshold, and ``features`` are the tracks that carry most of it.
    """

    samples: int
    seconds: float
    counts: WindowCounts
    evidence: float
    effects: dict[str, float]
    alarm: bool
    at: int | None
    features: tuple[str, ...]
    errors: int
    p50_us: float
    p99_us: float
    confidence: float
    profile: str


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


class _Block:
    """Room for ``size`` samples."""

    def __init__(self, size: int, sample: SampleSpec, watch: WatchSpec) -> None:
        self.filled = 0
        self.samples: NDArray[Any] = np.empty((size, *sample.shape), sample.dtype)
        self.scores = np.empty((size, watch.classes), np.float32)
        self.embedding = np.empty((size, len(watch.center)), np.float32) if len(watch.center) else None
        self.score = [0.0] * size
        self.latency = [0.0] * size


class Monitor:
    """Watches one engine. All methods may be called by any thread."""

    def __init__(
        self,
        profile: ReferenceProfile,
        watch: WatchSpec,
        policy: DriftPolicy,
        sample: SampleSpec,
        classes: int,
        embedding: int,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Watch samples like ``sample``, scores of ``classes`` classes and embeddings of ``embedding`` numbers (0: the
        model has none) against ``profile``.

        Raises:
            ProfileError: ``profile``, ``watch`` and the model don't belong together.
        """
        names = (*watch.input_names, *watch.output_names)
        if tuple(profile.names) != names:
            raise ProfileError(f"the profile watches {', '.join(profile.names)}, but the release {', '.join(names)}")
        wanted, found = (watch.classes, len(watch.center)), (classes, embedding if len(watch.center) else 0)
        if tuple(sample.shape) != watch.shape or wanted != found:
            raise ProfileError(
                f"the profile is of samples {watch.shape}, {wanted[0]} classes and an embedding of {wanted[1]}, but "
                f"the model has samples {tuple(sample.shape)}, {found[0]} classes and an embedding of {found[1]}"
            )
        self._profile, self._watch, self._policy, self._clock = profile, watch, policy, clock
        self._window = policy.window
        self._detector = self._new_detector()
        self._alarm = False
        each = max(1, math.prod(sample.shape) * np.dtype(sample.dtype).itemsize)
        self._size = max(1, min(max(BLOCK, policy.window), BLOCK_BYTES // each))
        self._fill = _Block(self._size, sample, watch)
        self._spare = _Block(self._size, sample, watch)
        self._counted_at = -math.inf
        self._ring_lock = threading.Lock()
        self._count_lock = threading.Lock()
        self._begin()

    def _new_detector(self) -> DriftDetector:
        policy = self._policy
        return DriftDetector(
            self._profile,
            false_alarm_every=policy.false_alarm_every,
            window=policy.window,
            tolerance=policy.tolerance,
            replaced=policy.replaced,
        )

    def _begin(self, seconds: float = 0.0) -> None:
        """Start a report window that is ``seconds`` old."""
        self._started = self._clock() - seconds
        self._samples = 0
        self._errors = 0
        self._score_sum = 0.0
        self._latencies: list[float] = []

    def observe(
        self,
        sample: NDArray[Any],
        scores: NDArray[np.float32],
        embedding: NDArray[Any] | None,
        score: float,
        latency_us: float,
    ) -> None:
        """One answered sample: raw ``sample`` (*shape), ``scores`` (classes,), ``embedding`` (E,) or ``None``."""
        with self._ring_lock:
            block, i = self._fill, self._fill.filled
            block.samples[i] = sample
            block.scores[i] = scores
            if block.embedding is not None and embedding is not None:
                block.embedding[i] = embedding.reshape(-1)
            block.score[i] = score
            block.latency[i] = latency_us
            block.filled = filled = i + 1
            if filled < self._size and (filled % self._window or self._clock() - self._counted_at < PATIENCE):
                return
            self._turn()
        try:
            self._count(block)
        finally:
            self._count_lock.release()

    def _turn(self) -> _Block:
        """Swap the blocks and take the count lock. The caller holds the ring lock; it stays locked until the spare is
        free: with two full blocks, counting is the bottleneck anyway."""
        self._count_lock.acquire()
        block = self._fill
        self._fill, self._spare = self._spare, block
        self._fill.filled = 0
        return block

    @contextlib.contextmanager
    def _up_to_date(self) -> Iterator[None]:
        """Hold the count lock, every sample so far counted."""
        with self._ring_lock:
            block = self._turn()
        try:
            if block.filled:
                self._count(block)
            yield
        finally:
            self._count_lock.release()

    def error(self) -> None:
        """A sample that could not be answered: it counts for data quality, not for the distributions."""
        with self._count_lock:
            self._errors += 1

    def _count(self, block: _Block) -> None:
        """Fold a block in. The caller holds the count lock."""
        n = block.filled
        inputs = self._watch.inputs(block.samples[:n])
        outputs = self._watch.outputs(block.scores[:n], None if block.embedding is None else block.embedding[:n])
        status = self._detector.update(np.concatenate([inputs, outputs], axis=1))
        self._alarm = self._alarm or (status.alarm and self._matters(status))
        self._samples += n
        self._score_sum += sum(score for score in block.score[:n] if math.isfinite(score))
        self._latencies = (self._latencies + block.latency[:n])[-LATENCIES:]
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
            self._begin()
            return report

    def _report(self, counts: WindowCounts) -> MonitorReport:
        status, alarm = self._detector.status, self._alarm
        p50, p99 = np.percentile(self._latencies, (50, 99)) if self._latencies else (0.0, 0.0)
        return MonitorReport(
            samples=self._samples,
            seconds=self._clock() - self._started,
            counts=counts,
            evidence=status.evidence,
            effects={name: float(effect.mean_shift) for name, effect in status.effects.items()},
            alarm=alarm,
            at=status.at if alarm else None,
            features=status.features if alarm else (),
            errors=self._errors,
            p50_us=float(p50),
            p99_us=float(p99),
            confidence=self._score_sum / self._samples if self._samples else 0.0,
            profile=self._profile.digest,
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
            saved = _Saved(
                format=FORMAT,
                profile=self._profile.digest,
                detector=self._detector.to_bytes(),
                alarm=self._alarm,
                samples=self._samples,
                errors=self._errors,
                seconds=self._clock() - self._started,
                score_sum=self._score_sum,
                latencies=self._latencies,
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
            self._begin(saved.seconds)
            self._samples, self._errors = saved.samples, saved.errors
            self._score_sum, self._latencies = saved.score_sum, saved.latencies
