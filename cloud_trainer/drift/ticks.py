"""Round places on the horizontal axis of a drift report: numbers, or dates and times."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from msgspec import Struct

from cloud_trainer.drift.times import DATES, DAY, Axis
from cloud_trainer.svg import nice_ticks

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STEPS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, DAY, 2 * DAY, 7 * DAY, 14 * DAY)
_MONTH_STEPS = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600)


class Tick(Struct, frozen=True):
    """A place on an axis and what stands there."""

    at: float
    text: str


def axis_ticks(axis: Axis, low: float, high: float, most: int) -> list[Tick]:
    """Round places on a horizontal axis."""
    if axis.kind == DATES:
        return _date_ticks(low, high, most)
    return [Tick(at, axis.text(at)) for at in nice_ticks(low, high, most)]


def _date_ticks(low: float, high: float, most: int) -> list[Tick]:
    for step in _STEPS:
        first = math.ceil(low / step)
        if math.floor(high / step) - first + 1 <= most:
            found = [datetime.fromtimestamp(i * step, UTC) for i in range(first, math.floor(high / step) + 1)]
            if step >= DAY:
                return [Tick(d.timestamp(), f"{d.day} {MONTHS[d.month - 1]}") for d in found]
            return [Tick(d.timestamp(), d.strftime("%H:%M" if step >= 60 else "%H:%M:%S")) for d in found]
    begin, end = datetime.fromtimestamp(low, UTC), datetime.fromtimestamp(high, UTC)
    begin_month, end_month = begin.year * 12 + begin.month - 1, end.year * 12 + end.month - 1
    for step in _MONTH_STEPS:
        months = [m for m in range(begin_month, end_month + 1) if m % step == 0 and _month(m) >= low]
        if len(months) <= most:
            return [Tick(_month(m), str(m // 12) if step >= 12 else f"{MONTHS[m % 12]} {m // 12}") for m in months]
    return []


def _month(month: int) -> float:
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()
