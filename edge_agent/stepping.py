"""When the chosen variant is too slow for what the device can do now: step down to a cheaper one, and back up later.

A hot device throttles its clock, a neighbour takes a core, and answers that were in time yesterday come late. The
policy is pure: it gets numbers and a time, and names the variant to run. Two things keep it from flapping: both
directions need the cause to last, up much longer than down; and every step up that did not hold doubles the wait
before the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from shared.messages import SelectionRow

CHEAPER = 0.9
"""A variant is a step down only if it takes at most this part of the time of the one above it."""

Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class SteppingConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """When to step down and up.

    It is bad while the device throttles, more than ``miss_share`` of the answers of the last ``down_seconds`` missed
    their deadline (of at least ``least_answers``), or p99 is above ``p99_ms``. It goes down one step after
    ``down_seconds`` of that, and up one after ``up_seconds`` without; that wait doubles, up to ``up_seconds_most``,
    each time a step up did not hold. No variant is run whose quality is more than ``step_quality_drop`` below that of
    the chosen one.
    """

    step_quality_drop: Annotated[float, Meta(ge=0, le=1)] = 0.05
    miss_share: Annotated[float, Meta(ge=0, lt=1)] = 0.05
    least_answers: Annotated[int, Meta(ge=1)] = 20
    p99_ms: Annotated[float, Meta(gt=0)] | None = None
    down_seconds: Seconds = 10.0
    up_seconds: Seconds = 300.0
    up_seconds_most: Seconds = 14_400.0


def ladder(rows: Sequence[SelectionRow], chosen: str, quality_drop: float) -> list[SelectionRow]:
    """The variants to step through: ``chosen`` first, each next one clearly cheaper, the best of those that are.

    ``rows`` is the measured table. What was not measured is no step; nor is one of unknown quality, unless the chosen
    one's is unknown too. Empty if ``chosen`` is not in the table; it is alone where it was not measured.
    """
    top = next((row for row in rows if row.variant == chosen), None)
    if top is None or top.p50_us is None:
        return [] if top is None else [top]
    least = None if top.quality is None else top.quality - quality_drop - 1e-9
    steps = [top]
    speed = top.p50_us
    fit = [(row, row.p50_us) for row in rows if row.p50_us is not None and _good_enough(row, least)]
    # best quality first: a variant that is slower and worse than another is never a step
    for row, p50 in sorted(fit, key=lambda pair: (-_quality(pair[0]), pair[1])):
        if p50 <= CHEAPER * speed:
            steps.append(row)
            speed = p50
    return steps


def _good_enough(row: SelectionRow, least: float | None) -> bool:
    return least is None or (row.quality is not None and row.quality >= least)


def _quality(row: SelectionRow) -> float:
    return -1.0 if row.quality is None else row.quality


class Stepper:
    """Names the variant to run, from what was seen.

    ::

        stepper = Stepper(engine.selection, config, engine.variant.id)
        ...
        wanted = stepper.observe(now, p99_us, misses, answers, throttled)     # every second or so
        if wanted is not None:
            try: switch to it
            except SanderlingError: stepper.failed(wanted)                    # stay, and don't ask for it again

    ``rows`` and ``chosen`` are the selection's table and choice; a new selection needs a new stepper.
    """

    def __init__(self, rows: Sequence[SelectionRow], config: SteppingConfig, chosen: str) -> None:
        self.config = config
        self._steps = ladder(rows, chosen, config.step_quality_drop)
        self._at = 0
        self._from = 0  # where the last step was taken from
        self._last: float | None = None
        self._window: deque[tuple[float, int, int]] = deque()
        self._bad = 0.0  # seconds that it has been bad, less those that it has been good since
        self._calm = 0.0
        self._wait = config.up_seconds
        self._since_up: float | None = None  # seconds since a step up that is still on trial

    @property
    def variant(self) -> str:
        """The variant that should run; empty if there is no table."""
        return self._steps[self._at].variant if self._steps else ""

    @property
    def steps(self) -> tuple[str, ...]:
        """Ids of the variants to step through, the chosen one first."""
        return tuple(row.variant for row in self._steps)

    @property
    def lowered(self) -> bool:
        """Whether another than the chosen variant runs."""
        return self._at > 0

    @property
    def wait_seconds(self) -> float:
        """How long it must be calm before the next step up."""
        return self._wait

    def observe(self, now: float, p99_us: float, misses: int, answers: int, throttled: bool) -> str | None:
        """What was seen since the last call: returns the variant to switch to, ``None`` to stay.

        ``now`` is monotonic, in seconds; ``answers`` counts requests that were answered or too late, ``misses`` those
        that were too late; ``p99_us`` is that of the latest answers. Time without answers proves nothing.
        """
        window = self.config.down_seconds
        passed = 0.0 if self._last is None else min(max(now - self._last, 0.0), window)
        self._last = now
        self._window.append((now, misses, answers))
        while self._window and self._window[0][0] < now - window:
            self._window.popleft()
        if self._since_up is not None:
            self._trial(passed)
        if self._is_bad(p99_us, misses, answers, throttled):
            self._calm = 0.0
            self._bad += passed
        elif answers:
            self._calm += passed
            self._bad = max(self._bad - passed, 0.0)
        if self._bad >= window and self._at + 1 < len(self._steps):
            return self._down()
        if self._at and self._calm >= self._wait and self._fits_above(p99_us):
            return self._up()
        return None

    def failed(self, variant: str) -> None:
        """The switch to ``variant`` did not work: what ran before still runs, and ``variant`` is no step any more."""
        if not self._steps or variant != self.variant or self._from == self._at:
            return
        before = self._steps[self._from].variant
        del self._steps[self._at]
        self._at = self._from = next(i for i, row in enumerate(self._steps) if row.variant == before)
        self._since_up = None

    def _is_bad(self, p99_us: float, misses: int, answers: int, throttled: bool) -> bool:
        config = self.config
        if throttled:
            return True
        if answers and config.p99_ms is not None and p99_us > config.p99_ms * 1000:
            return True
        if misses <= config.miss_share * answers:  # a burst that is over
            return False
        total = sum(answers for _, _, answers in self._window)
        missed = sum(misses for _, misses, _ in self._window)
        return total >= config.least_answers and missed > config.miss_share * total

    def _fits_above(self, p99_us: float) -> bool:
        """Whether the variant above is expected to keep the limit: its tail grows as its median does."""
        above, here = self._steps[self._at - 1].p50_us, self._steps[self._at].p50_us
        if self.config.p99_ms is None or not above or not here:
            return True
        return p99_us * above / here <= self.config.p99_ms * 1000

    def _trial(self, passed: float) -> None:
        assert self._since_up is not None
        self._since_up += passed
        if self._since_up > self._wait:  # the step up has held
            self._since_up = None
            self._wait = self.config.up_seconds

    def _down(self) -> str:
        if self._since_up is not None:
            self._wait = max(min(2 * self._wait, self.config.up_seconds_most), self.config.up_seconds)
        return self._move(self._at + 1)

    def _up(self) -> str:
        name = self._move(self._at - 1)
        self._since_up = 0.0
        return name

    def _move(self, to: int) -> str:
        self._from, self._at = self._at, to
        self._bad = self._calm = 0.0
        self._since_up = None
        self._window.clear()  # it is about another variant
        return self.variant
