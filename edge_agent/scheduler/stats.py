"""What a scheduler has done, for telemetry and ``/metrics``."""

from __future__ import annotations

from msgspec import Struct

from shared.errors import DeadlineError, OverloadError


class SchedulerStats(Struct, frozen=True):
    """Totals since the start, but for ``queued`` and ``running``, which are now.

    ``done`` counts answers, ``failed`` errors of the engine (bad samples among them), ``refused`` requests that got
    none, by reason: ``overload``, ``deadline``, ``cancelled``, ``closed``. ``batches`` are the engine's calls for more
    than one request, ``mean_batch`` how many they had. ``gain``: how many times cheaper a row is in a batch than
    alone, ``None`` until measured; ``single_us`` what it costs alone. ``bulk`` counts answers of the batch lane.
    """

    queued: int
    running: int
    done: int
    failed: int
    refused: dict[str, int]
    batches: int
    mean_batch: float
    coalesced: int
    bulk: int
    gain: float | None
    single_us: float | None

    def flat(self) -> dict[str, float]:
        """One number a name, as metrics want it: ``refused_overload``, ...; what is unknown is left out."""
        numbers = {
            "queued": self.queued,
            "running": self.running,
            "done": self.done,
            "failed": self.failed,
            **{f"refused_{reason}": count for reason, count in self.refused.items()},
            "batches": self.batches,
            "mean_batch": self.mean_batch,
            "coalesced": self.coalesced,
            "bulk": self.bulk,
            "gain": self.gain,
            "single_us": self.single_us,
        }
        return {name: float(value) for name, value in numbers.items() if value is not None}


class Counters:
    """The totals, while they grow. Written by who holds the scheduler's lock or the engine's turn."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.refused = {"overload": 0, "deadline": 0, "cancelled": 0, "closed": 0}
        self.batches = 0
        self.batched = 0
        self.coalesced = 0
        self.bulk = 0

    def outcome(self, outcome: object) -> None:
        """One request left with ``outcome``: an answer or an error."""
        if not isinstance(outcome, Exception):
            self.done += 1
        elif isinstance(outcome, OverloadError):
            self.refused["overload"] += 1
        elif isinstance(outcome, DeadlineError):
            self.refused["deadline"] += 1
        else:
            self.failed += 1

    def batch(self, rows: int) -> None:
        """One call for ``rows`` requests."""
        if rows > 1:
            self.batches += 1
            self.batched += rows

    def stats(self, *, queued: int, running: int, gain: float | None, single: float | None) -> SchedulerStats:
        """A picture of now; ``single`` in seconds."""
        return SchedulerStats(
            queued=queued,
            running=running,
            done=self.done,
            failed=self.failed,
            refused=dict(self.refused),
            batches=self.batches,
            mean_batch=self.batched / self.batches if self.batches else 0.0,
            coalesced=self.coalesced,
            bulk=self.bulk,
            gain=gain,
            single_us=None if single is None else single * 1e6,
        )
