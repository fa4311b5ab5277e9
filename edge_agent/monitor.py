"""Drift, performance and health of one engine, at the price of a copy a sample.

What is watched of a sample and its answer is copied (:mod:`shared.drift.capture`); when enough have come, they are
summarized, counted and weighed (:class:`DriftDetector`) in one go, by whichever thread came last. In blocks of 1,024 a
sample costs a tenth of what it costs in windows of 32; but a whole window is counted at once when nothing was for a
moment, so that an alarm never waits for a block to fill.

Three tests stand side by side, each with the policy's promise in its own unit: the watched scalars against the
reference (samples), samples without an answer against those of the reference (samples), and truths, where somebody
tells them, against how good the variant was on held-out data (truths).

Invariants, held by ``tests/edge_agent/test_monitor.py``:

1. Every sample is counted once, whatever the number of threads, and before anything is told, taken or saved.
2. ``take`` hands out the counts since the last ``take``; sums over takes equal the counts of one long window.
3. An alarm needs both evidence and a practical effect, and stays until ``acknowledge``, whichever test raised it.
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
import numpy as np
from msgspec import Struct

from edge_agent.monitor_fit import check_fit, dtypes_of
from edge_agent.tally import MonitorReport, Tallied, Tally
from shared.drift import DriftDetector, DriftStatus, ReferenceProfile, WatchSpec, WindowCounts
from shared.drift.capture import Captured, Recorder
from shared.drift.performance import HeldOut, KeptTruths, Truths
from shared.drift.profile import LEVEL_SUFFIX
from shared.drift.quality import Quality
from shared.drift.rejects import KeptRejects, Rejects
from shared.errors import UNREADABLE, ProfileError
from shared.manifest import DriftPolicy, SampleSpec

__all__ = ["Monitor", "MonitorReport"]

FORMAT = 1
BLOCK = 1024
"""Samples counted in one go; fewer of large ones, more where the policy's window is longer."""
BLOCK_BYTES = 2 << 20
PATIENCE = 0.25
"""Seconds since the last count after which a window is counted at once: no alarm waits longer for a block to fill."""
TOLD = 64
"""Truths that wait to be weighed, at most."""
REJECTED: Any = ("rejected",)
"""Stands for a sample without an answer among those that wait to be counted."""


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
    right_sum: float = 0.0
    scored: int = 0
    truths: KeptTruths | None = None
    rejects: KeptRejects | None = None


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
        held_out: HeldOut | None = None,
        rejected: int = 0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Watch samples like ``sample`` (all of a model's inputs, if it has several) and their answers against
        ``profile``: for a classifier scores of ``classes`` classes and embeddings of ``embedding`` numbers (0: the
        model has none, or it isn't known). ``held_out``: how good the variant was on the reference, for truths and for
        the accuracy that its confidence promises; ``rejected`` samples beside the reference's got no answer.

        Raises:
            ProfileError: ``profile``, ``watch`` and the model don't belong together.
        """
        signature = (sample,) if isinstance(sample, SampleSpec) else tuple(sample)
        if profile.names != watch.names:
            raise ProfileError(
                f"the profile watches {', '.join(profile.names)}, but the release {', '.join(watch.names)}"
            )
        check_fit(watch, signature[0], classes, embedding)
        self._profile, self._watch, self._policy, self._clock = profile, watch, policy, clock
        self._window = policy.window
        self._detector = self._new_detector()
        self._drifted = False
        self._held_out, self._rejected = held_out, rejected
        self._truths, self._rejects = self._new_tests()
        self._quality = Quality(profile)
        self._told: deque[bool | float] = deque()
        self._weighed_at = -math.inf
        self._marks = 0  # samples without an answer among those that wait
        self._recorder = Recorder(watch, dtypes_of(watch, signature))
        self._capture = self._recorder.capture
        most = max(policy.window, BLOCK // policy.window * policy.window)
        self._size = max(1, min(most, BLOCK_BYTES // max(1, self._recorder.nbytes)))
        self._due = min(self._window, self._size)
        self._counted_at = -math.inf
        self._kept: deque[tuple[Captured, float, float]] = deque()
        self._count_lock = threading.Lock()
        self._tally = Tally(clock, held_out.calibration if held_out is not None else None)

    def _new_tests(self) -> tuple[Truths, Rejects]:
        every, least = self._policy.false_alarm_every, self._policy.minimum_effect
        rows = self._profile.columns[0].present + self._profile.columns[0].missing
        return Truths(self._held_out, every, least), Rejects(self._rejected, rows + self._rejected, every, least)

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
            self._marks += count
            self._kept.extend([REJECTED] * count)
        if len(self._kept) >= self._due:
            self._look()

    def carry(self, other: Monitor) -> bool:
        """Go on with the same stream after a change of variant, before the first sample: with what is watched of the
        inputs and with the share of rejected samples. What is watched of the outputs begins anew, and so do truths,
        since their references are others. Whether an alarm that stood for the inputs still does.
        """
        with other._up_to_date(), self._count_lock:
            self._detector.carry(other._detector, self._watch.input_names)
            self._rejects.load(other._rejects.save())
            self._drifted = other._drifted
            return self._standing()

    def go_on_from(self, errors: int, truths: Truths) -> None:
        """Begin with a report window in which ``errors`` and ``truths`` were counted before there was a reference."""
        with self._count_lock:
            self._tally.errors += errors
            self._truths.load(truths.save())

    def truth(self, truth: bool | float) -> None:
        """The truth about an answer has become known: whether it was right, or how far off its number was."""
        self._told.append(truth)
        if len(self._told) >= TOLD:
            with self._count_lock:
                self._weigh()

    def _weigh(self) -> None:
        """Take in the truths that wait. The caller holds the count lock."""
        if self._told:
            self._truths.add([self._told.popleft() for _ in range(len(self._told))])
            self._weighed_at = self._clock()

    def _count(self) -> None:
        """Fold in what was kept. The caller holds the count lock; other threads may add to it meanwhile."""
        take = self._kept.popleft
        for begin in range(0, filled := len(self._kept), self._size):
            block = [take() for _ in range(min(self._size, filled - begin))]
            block = self._answered(block)
            if not block:
                continue
            captured, scores, latencies = zip(*block, strict=True)
            if self._detector.feed(self._recorder.fold(captured)) and not self._drifted:
                self._drifted = self._matters(self._detector.status)
            self._tally.add(scores, latencies)
        self._weigh()
        self._due = min(self._window, self._size)
        self._counted_at = self._clock()

    def _answered(self, block: list[Any]) -> list[Any]:
        """``block`` without the samples that got no answer; these are counted."""
        if not self._marks:
            self._rejects.add(len(block))
            return block
        rejected = np.array([one is REJECTED for one in block])
        self._rejects.add(rejected)
        found = int(rejected.sum())
        self._marks -= found
        self._tally.errors += found
        return [one for one in block if one is not REJECTED]

    @property
    def status(self) -> DriftStatus:
        """The detector's own word, which knows evidence only; ``report().alarm`` also asks for a practical effect."""
        with self._up_to_date():
            return self._detector.status

    @property
    def alarm(self) -> bool:
        """Whether an alarm stands, evidence and practical effect both, as of the last count: cheap enough to ask after
        every sample."""
        if self._told and self._clock() - self._weighed_at >= PATIENCE:
            with self._count_lock:
                self._weigh()
        return self._standing()

    def _standing(self) -> bool:
        return self._drifted or self._truths.alarm or self._rejects.alarm

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
            self._truths.begin()
            return report

    def _report(self, counts: WindowCounts) -> MonitorReport:
        status, drifted = self._detector.status, self._drifted
        missing, out_of_range = self._quality.of(counts)
        return MonitorReport(
            counts=counts,
            evidence=status.evidence,
            effects={name: float(effect.mean_shift) for name, effect in status.effects.items()},
            alarm=self._standing(),
            at=status.at if drifted else None,
            features=(*self._beside(), *(status.features if drifted else ())),
            profile=self._profile.digest,
            evidences=status.evidences,
            missing=missing,
            out_of_range=out_of_range,
            reject_evidence=self._rejects.evidence,
            **self._tally.figures(),
            **self._truths.figures(),
        )

    def _beside(self) -> Iterator[str]:
        """What has raised an alarm beside the detector."""
        if self._truths.alarm:
            yield self._truths.feature
        if self._rejects.alarm:
            yield "rejected"

    def _matters(self, status: DriftStatus) -> bool:
        """Whether some effect is large enough to act on: evidence alone only says that the change is real.

        Of a scalar with a memory the residuals hardly move when its level does, and its means are too few for a
        PSI: there the level's shift d counts, which moves a normal value's PSI by d².
        """
        least, effects = self._policy.minimum_effect, status.effects
        series = {name for name, memory in zip(self._profile.names, self._profile.memories, strict=True) if memory}
        return any(
            effect.psi >= least or (name in series and effect.mean_shift**2 >= least)
            for name, effect in effects.items()
            if not (name.endswith(LEVEL_SUFFIX) and name.removesuffix(LEVEL_SUFFIX) in series)
        )

    def acknowledge(self, *, keep: bool = True) -> None:
        """End an alarm: a false one (``keep``: what was seen stays in the reference's favour), or a changed world."""
        with self._up_to_date():
            self._detector.acknowledge(keep=keep)
            self._truths.acknowledge(keep=keep)
            self._rejects.acknowledge(keep=keep)
            self._drifted = False

    def to_bytes(self) -> bytes:
        """Everything that was seen."""
        with self._up_to_date():
            tally = self._tally.save()
            saved = _Saved(
                format=FORMAT,
                profile=self._profile.digest,
                detector=self._detector.to_bytes(),
                alarm=self._drifted,
                samples=tally.samples,
                errors=tally.errors,
                seconds=tally.seconds,
                score_sum=tally.score_sum,
                latencies=tally.latencies,
                right_sum=tally.right_sum,
                scored=tally.scored,
                truths=self._truths.save(),
                rejects=self._rejects.save(),
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
        truths, rejects = self._new_tests()
        if saved.truths is not None:
            truths.load(saved.truths)
        if saved.rejects is not None:
            rejects.load(saved.rejects)
        tally = Tallied(
            saved.samples,
            saved.errors,
            saved.seconds,
            saved.score_sum,
            saved.latencies,
            saved.right_sum,
            saved.scored,
        )
        with self._count_lock:
            self._detector, self._drifted = detector, saved.alarm
            self._truths, self._rejects = truths, rejects
            self._tally.load(tally)
