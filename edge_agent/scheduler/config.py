"""Limits of the scheduler. Every one has a safe default."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Overflow = Literal["reject", "block", "drop_oldest"]


class SchedulerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How requests wait for the engine, and how bulk work gives way to them.

    ``overflow`` says what happens when ``queue`` requests wait: ``reject`` refuses the new one, ``block`` lets its
    caller wait (up to its deadline), ``drop_oldest`` refuses the one that has waited longest (video: the newest frame
    counts).
    ``deadline_ms`` is for requests that bring none; ``None``: they wait as long as it takes.
    ``max_wait_us`` makes a request wait for company although the engine is idle: it costs every lone caller that time.
    ``coalesce``: requests with the same bytes as one that waits or runs share its answer. The engine then sees (and
    counts, and watches for drift) one sample, and knows the ``id`` of the first only.
    ``chunk_ms`` is how long one chunk of bulk work may hold the engine, and so what a real-time request may have to
    wait; ``bulk_share`` is the part of the engine's time that bulk work gets at least, however many requests wait.
    """

    max_batch: Annotated[int, Meta(ge=1, le=4096)] = 32
    max_wait_us: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    queue: Annotated[int, Meta(ge=1, le=1_000_000)] = 256
    overflow: Overflow = "reject"
    deadline_ms: Annotated[float, Meta(gt=0, le=3_600_000)] | None = None
    coalesce: bool = False
    chunk_ms: Annotated[float, Meta(ge=0.1, le=10_000)] = 5.0
    bulk_share: Annotated[float, Meta(gt=0, le=0.5)] = 0.05


DEFAULT = SchedulerConfig()
