"""What a monitor says of a report window, and the part of it that needs no reference."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from shared.drift import WindowCounts
from shared.quantiles import quantiles

LATENCIES = 4096
"""Latencies of one report window kept for its percentiles; of more, the latest."""


class MonitorReport(Struct, frozen=True, eq=False):
    """One drift window. ``counts`` add up with those of other windows and devices of the same ``profile`` (digest).

    ``evidence`` is relative to the alarm: 1.0 is the threshold. ``effects`` are mean shifts in robust sigma by watched
    scalar in the last 512 to 1,024 samples. ``alarm`` latches; ``at`` is the sample, counted from the start of the
    watch, at which the evidence reached the threshold, and ``features`` are the tracks that carry most of it.
    ``evidences``: what each track adds to ``evidence``.
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


class Tallied(Struct):
    """A tally as it is saved."""

    samples: int
    errors: int
    seconds: float
    score_sum: float
    latencies: list[float]


class Tally:
    """Samples, errors, latencies and confidence of one report window. Its owner sees to threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.begin()

    def begin(self, seconds: float = 0.0) -> None:
        """Start a window that is ``seconds`` old."""
        self._started = self._clock() - seconds
        self.samples = self.errors = 0
        self._score_sum = 0.0
        self._latencies: deque[float] = deque(maxlen=LATENCIES)

    def add(self, scores: Sequence[Any], latencies: Sequence[float]) -> None:
        """Answers: the score (or None, or NaN) and the latency of each."""
        numbers = np.array(scores, dtype=np.float64)
        self.samples += len(scores)
        self._score_sum += float(numbers[np.isfinite(numbers)].sum())
        self._latencies.extend(latencies)

    def figures(self) -> dict[str, Any]:
        """Those fields of a report that it knows."""
        p50, p99 = quantiles(self._latencies, (0.5, 0.99)) if self._latencies else (0.0, 0.0)
        return {
            "samples": self.samples,
            "seconds": self._clock() - self._started,
            "errors": self.errors,
            "p50_us": p50,
            "p99_us": p99,
            "confidence": self._score_sum / self.samples if self.samples else 0.0,
        }

    def save(self) -> Tallied:
        """For :meth:`load`."""
        return Tallied(self.samples, self.errors, self._clock() - self._started, self._score_sum, list(self._latencies))

    def load(self, saved: Tallied) -> None:
        """Go on; the time in between does not count."""
        self.begin(saved.seconds)
        self.samples, self.errors, self._score_sum = saved.samples, saved.errors, saved.score_sum
        self._latencies.extend(saved.latencies)
