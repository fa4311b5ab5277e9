"""Counters and latencies of one engine."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from shared.quantiles import quantiles

KEPT = 1024
"""Latencies kept for the percentiles; the median of 1,024 is within 2 % of its true rank."""


class Health:
    """What one engine has done since it was loaded. Writers hold the engine's lock, but for ``latencies``, to which
    any thread may append; readers need none."""

    def __init__(self) -> None:
        self.samples = 0
        self.errors = 0
        self.truths = 0
        self.correct = 0
        self.values = 0
        self.absolute_error = 0.0
        self.last_error = ""
        self.latencies: deque[float] = deque(maxlen=KEPT)
        """Microseconds of the latest answers."""

    def add(self, latency_us: float) -> None:
        """One answer, in microseconds."""
        self.samples += 1
        self.latencies.append(latency_us)

    def fail(self, error: Exception, samples: int = 1) -> None:
        """Samples without an answer."""
        self.errors += samples
        self.last_error = str(error)

    def truth(self, *, correct: bool) -> None:
        """The truth about one answer became known."""
        self.truths += 1
        self.correct += correct

    def truth_value(self, *, error: float) -> None:
        """The true number of one answer became known; ``error`` is how far off the answer was."""
        self.values += 1
        self.absolute_error += error

    @property
    def mean_absolute_error(self) -> float | None:
        """Of the answers whose true number is known; ``None`` before the first."""
        return self.absolute_error / self.values if self.values else None

    @property
    def accuracy(self) -> float | None:
        """Share of answers that were right, of those whose truth is known; ``None`` before the first."""
        return self.correct / self.truths if self.truths else None

    def percentiles(self) -> tuple[float, float]:
        """p50 and p99 of the latest latencies, microseconds; zeros before the first answer."""
        kept = self.latencies.copy()
        if not kept:
            return 0.0, 0.0
        p50, p99 = quantiles(kept, (0.5, 0.99))
        return p50, p99


def rss_mib() -> float:
    """Resident memory of this process in MiB; 0.0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
