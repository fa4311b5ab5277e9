"""What a monitor says of a report window, and the part of it that needs no reference."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from shared.drift import WindowCounts
from shared.drift.calibration import Calibration
from shared.quantiles import quantiles

LATENCIES = 4096
"""Latencies of one report window kept for its percentiles; of more, the latest."""


class MonitorReport(Struct, frozen=True, eq=False):
    """One drift window. ``counts`` add up with those of other windows and devices of the same ``profile`` (digest).

    ``evidence`` is relative to the alarm: 1.0 is the threshold. ``effects`` are mean shifts in robust sigma by watched
    scalar in the last 512 to 1,024 samples. ``alarm`` latches; ``at`` is the sample, counted from the start of the
    watch, at which the evidence reached the threshold, and ``features`` are the tracks that carry most of it, after
    ``accuracy`` or ``absolute_error`` where truths say that the model has become worse, and ``rejected`` where more
    samples than usual got no answer. ``evidences``: what each track adds to ``evidence``.

    ``missing`` and ``out_of_range``: shares of all watched numbers of this window that weren't there, or lay beyond
    everything the reference had; ``rejected``: share of samples without an answer (``errors``), ``reject_evidence``
    what that says. ``estimated_accuracy``: what the confidence says, without truth; None where the release has no
    calibration. ``accuracy`` and mean ``absolute_error`` are of this window's ``truths``, ``truth_evidence`` is for
    having become worse than ``reference_accuracy`` or ``reference_error``, those of held-out data: always 0 where the
    release does not know these.
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
    evidences: dict[str, float] = {}
    missing: float = 0.0
    out_of_range: float = 0.0
    rejected: float = 0.0
    reject_evidence: float = 0.0
    estimated_accuracy: float | None = None
    reference_accuracy: float | None = None
    reference_error: float | None = None
    truths: int = 0
    accuracy: float | None = None
    absolute_error: float | None = None
    truth_evidence: float = 0.0

    @property
    def loudest(self) -> float:
        """The largest of the three evidences."""
        return max(self.evidence, self.truth_evidence, self.reject_evidence)


class Tallied(Struct):
    """A tally as it is saved."""

    samples: int
    errors: int
    seconds: float
    score_sum: float
    latencies: list[float]
    right_sum: float = 0.0
    scored: int = 0


class Tally:
    """Samples, errors, latencies and confidence of one report window. Its owner sees to threads. ``calibration`` turns
    confidence into estimated accuracy."""

    def __init__(self, clock: Callable[[], float], calibration: Calibration | None = None) -> None:
        self._clock, self._calibration = clock, calibration
        self.begin()

    def begin(self, seconds: float = 0.0) -> None:
        """Start a window that is ``seconds`` old."""
        self._started = self._clock() - seconds
        self.samples = self.errors = 0
        self._score_sum = self._right_sum = 0.0
        self._scored = 0
        self._latencies: deque[float] = deque(maxlen=LATENCIES)

    def add(self, scores: Sequence[Any], latencies: Sequence[float]) -> None:
        """Answers: the score (or None, or NaN) and the latency of each."""
        numbers = np.array(scores, dtype=np.float64)
        self.samples += len(scores)
        there = numbers[np.isfinite(numbers)]
        self._score_sum += float(there.sum())
        if self._calibration is not None:
            self._right_sum += float(self._calibration.estimate(there).sum())
            self._scored += len(there)
        self._latencies.extend(latencies)

    def figures(self) -> dict[str, Any]:
        """Those fields of a report that it knows."""
        p50, p99 = quantiles(self._latencies, (0.5, 0.99)) if self._latencies else (0.0, 0.0)
        return {
            "samples": self.samples,
            "seconds": self._clock() - self._started,
            "errors": self.errors,
            "rejected": self.errors / (self.samples + self.errors) if self.errors else 0.0,
            "estimated_accuracy": self._right_sum / self._scored if self._scored else None,
            "p50_us": p50,
            "p99_us": p99,
            "confidence": self._score_sum / self.samples if self.samples else 0.0,
        }

    def save(self) -> Tallied:
        """For :meth:`load`."""
        return Tallied(
            self.samples,
            self.errors,
            self._clock() - self._started,
            self._score_sum,
            list(self._latencies),
            self._right_sum,
            self._scored,
        )

    def load(self, saved: Tallied) -> None:
        """Go on; the time in between does not count."""
        self.begin(saved.seconds)
        self.samples, self.errors, self._score_sum = saved.samples, saved.errors, saved.score_sum
        self._right_sum, self._scored = saved.right_sum, saved.scored
        self._latencies.extend(saved.latencies)
