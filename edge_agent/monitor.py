"""Drift and health of one engine, at the price of a few copies a sample.

A sample is copied into a ring; when ``window`` of them are there, the block is summarized (:class:`WatchSpec`), counted
and weighed (:class:`DriftDetector`) in one go. Threads that answer meanwhile fill the other ring.

Invariants, held by ``tests/edge_agent/test_monitor.py``:

1. Every sample is counted once, whatever the number of threads; those of an unfinished block are counted later, and
   are lost only when the process ends.
2. ``take`` hands out the counts since the last ``take``; sums over takes equal the counts of one long window.
3. An alarm needs both evidence and a practical effect, and stays until ``acknowledge``.
4. ``restore(to_bytes())`` continues as if nothing had happened; bytes of another profile are refused.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift import DriftDetector, DriftStatus, ReferenceProfile, WatchSpec, WindowCounts
from shared.errors import ProfileError
from shared.manifest import DriftPolicy, SampleSpec

FORMAT = 1
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
    """Room for one window of samples."""

    def __init__(self, window: int, sample: SampleSpec, classes: int) -> None:
        self.filled = 0
        self.samples: NDArray[Any] = np.empty((window, *sample.shape), sample.dtype)
        self.scores = np.empty((window, classes), np.float32)
        self.embedding: NDArray[np.float32] | None = None  # its size is known from the first sample
        self.score = [0.0] * window
        self.latency = [0.0] * window


class Monitor:
    """Watches one engine. All methods may be called by any thread."""

    def __init__(
        self,
        profile: ReferenceProfile,
        watch: WatchSpec,
        policy: DriftPolicy,
        sample: SampleSpec,
        classes: int,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Watch samples like ``sample`` and scores of ``classes`` classes against ``profile``.

        Raises:
            ProfileError: ``profile`` and ``watch`` don't belong together.
        """
        names = (*watch.input_names, *watch.output_names)
        if tuple(profile.names) != names:
            raise ProfileError(f"the profile watches {', '.join(profile.names)}, but the release {', '.join(names)}")
        self._profile, self._watch, self._policy, self._clock = profile, watch, policy, clock
        self._window = policy.window
        self._detector = self._new_detector()
        self._alarm = False
        self._fill = _Block(policy.window, sample, classes)
        self._spare = _Block(policy.window, sample, classes)
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
            if embedding is not None:
                if block.embedding is None:
                    block.embedding = np.empty((self._window, embedding.size), np.float32)
                block.embedding[i] = embedding.reshape(-1)
            block.score[i] = score
            block.latency[i] = latency_us
            block.filled = i + 1
            if block.filled < self._window:
                return
            # the ring stays locked until the spare is free: with two full blocks, counting is the bottleneck anyway
            self._count_lock.acquire()
            self._fill, self._spare = self._spare, block
            self._fill.filled = 0
        try:
            self._count(block)
        finally:
            self._count_lock.release()

    def error(self) -> None:
        """A sample that could not be answered: it counts for data quality, not for the distributions."""
        with self._count_lock:
            self._errors += 1

    def _count(self, block: _Block) -> None:
        """Fold a full block in. The caller holds the count lock."""
        inputs = self._watch.inputs(block.samples)
        outputs = self._watch.outputs(block.scores, block.embedding)
        status = self._detector.update(np.concatenate([inputs, outputs], axis=1))
        self._alarm = self._alarm or (status.alarm and self._matters(status))
        self._samples += self._window
        self._score_sum += sum(score for score in block.score if math.isfinite(score))
        self._latencies = (self._latencies + block.latency)[-LATENCIES:]

    @property
    def status(self) -> DriftStatus:
        """The detector's own word, which knows evidence only; ``report().alarm`` also asks for a practical effect."""
        with self._count_lock:
            return self._detector.status

    @property
    def alarm(self) -> bool:
        """Whether an alarm stands, evidence and practical effect both: cheap enough to ask after every sample."""
        return self._alarm

    @property
    def profile(self) -> ReferenceProfile:
        """What this stream is compared with."""
        return self._profile

    def report(self) -> MonitorReport:
        """The window since the last ``take``, which goes on."""
        with self._count_lock:
            return self._report(self._detector.counts)

    def take(self) -> MonitorReport:
        """The window since the last ``take``, which ends here. Evidence goes on."""
        with self._count_lock:
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
        with self._count_lock:
            self._detector.acknowledge(keep=keep)
            self._alarm = False

    def to_bytes(self) -> bytes:
        """Everything but the unfinished block."""
        with self._count_lock:
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
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
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
