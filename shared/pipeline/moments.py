"""Moments: Calendar makes of seconds since 1970 what repeats itself with the day, the week and the year.

Dates are found in whole numbers (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil and its
inverse), by the same lines for one moment and for many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from shared.pipeline.base import Array, ArrayOperation, Floats, check_numbers, refuse
from shared.pipeline.tables import Column

DAY = 86_400
FAR = 3e11
"""Seconds from 1970 beyond which a number is no moment: some 9,500 years."""
Cycle = Literal["hour", "weekday", "monthday", "yearday", "month"]
LENGTH: dict[str, float] = {"hour": 24.0, "weekday": 7.0, "monthday": 31.0, "yearday": 365.25, "month": 12.0}
FIRST: dict[str, float] = {"hour": 0.0, "weekday": 0.0, "monthday": 1.0, "yearday": 1.0, "month": 1.0}


class Calendar(ArrayOperation, frozen=True, tag="calendar"):
    """The column of moments (seconds since 1970, float64) is dropped, and the place of each moment in some ``cycles``
    appended as sines and cosines of ``harmonics`` frequencies, so that midnight is near to midnight: ``hour`` of the
    day, ``weekday`` (Monday is 0), ``monthday``, ``yearday``, ``month``. Without harmonics it is the number itself.
    ``weekend``: a further column, 1 on Saturday and Sunday. ``offset``: hours that local time is ahead of UTC. A
    missing moment gives zeros.

    >>> Calendar(column=0, cycles=("hour",), weekend=True)(np.array([[6 * 3600.0, 5.0]])).round(3)
    array([[5., 1., 0., 0.]], dtype=float32)
    """

    column: Column
    cycles: Annotated[tuple[Cycle, ...], Meta(max_length=5)] = ("hour", "weekday", "yearday")
    harmonics: Annotated[int, Meta(ge=0, le=16)] = 1
    weekend: bool = False
    offset: Annotated[float, Meta(ge=-24, le=24)] = 0.0

    def __post_init__(self) -> None:
        if len(set(self.cycles)) != len(self.cycles) or not (self.cycles or self.weekend):
            raise ValueError("calendar: cycles must differ, and there must be one, or the weekend")

    def names(self) -> tuple[str, ...]:
        """Of the columns that are appended.

        >>> Calendar(column=0, cycles=("hour",), weekend=True).names()
        ('hour.sin', 'hour.cos', 'weekend')
        """
        found: list[str] = []
        for cycle in self.cycles:
            found += [cycle] if not self.harmonics else []
            for k in range(1, self.harmonics + 1):
                found += [f"{cycle}.{wave}{k if self.harmonics > 1 else ''}" for wave in ("sin", "cos")]
        return (*found, *(("weekend",) if self.weekend else ()))

    def __call__(self, batch: Array) -> Floats:
        """(n, ..., c) numbers -> (n, ..., c - 1 + appended) float32."""
        self._check(batch)
        at = self.column
        moments = batch[..., at].astype(np.float64)
        with np.errstate(invalid="ignore"):
            known = np.abs(moments) <= FAR
        seconds = np.where(known, moments, 0.0) + self.offset * 3600
        out = np.zeros((*batch.shape[:-1], batch.shape[-1] - 1 + len(self.names())), np.float32)
        out[..., :at] = batch[..., :at]
        out[..., at : batch.shape[-1] - 1] = batch[..., at + 1 :]
        made = self._made([np.asarray(values) for values in self._numbers(np.floor(seconds).astype(np.int64), seconds)])
        out[..., batch.shape[-1] - 1 :] = np.where(known[..., None], made, 0.0)
        return out

    def into(self, target: Array, source: Array) -> Callable[[Array], None]:
        """The same, written into ``target``, for batches like ``source``: of one row, dates are found in Python."""
        self._check(source)
        at, width, offset = self.column, source.shape[-1], self.offset * 3600
        if source.ndim != 2:

            def write(batch: Array) -> None:
                target[...] = self(batch)

            return write
        made = target[0, width - 1 :]

        def run(batch: Array) -> None:
            target[:, :at] = batch[:, :at]
            target[:, at : width - 1] = batch[:, at + 1 :]
            moment = float(batch[0, at])
            if abs(moment) <= FAR:
                seconds = moment + offset
                made[:] = self._made(np.array(self._numbers(int(seconds // 1), seconds)))
            else:
                made[:] = 0.0

        return run

    def _numbers(self, whole: Any, seconds: Any) -> list[Any]:
        """For each cycle the place in it, and for the weekend 0.0 or 1.0: numbers, or arrays like ``seconds``."""
        days = whole // DAY
        weekday = (days + 3) % 7  # 1970 began on a Thursday
        found = {"hour": (seconds - days * DAY) / 3600, "weekday": weekday * 1.0}
        if not {"monthday", "yearday", "month"}.isdisjoint(self.cycles):
            found |= _date(days)
        numbers = [found[cycle] for cycle in self.cycles]
        return [*numbers, (weekday >= 5) * 1.0] if self.weekend else numbers

    def _made(self, numbers: Any) -> Array:
        """(..., appended) of numbers (cycles and weekend, ...)."""
        stacked = np.stack(numbers, axis=-1) if isinstance(numbers, list) else numbers
        count = len(self.cycles)
        if not self.harmonics:
            return stacked
        first = np.array([FIRST[cycle] for cycle in self.cycles])
        length = np.array([LENGTH[cycle] for cycle in self.cycles])
        turns = (stacked[..., :count] - first) / length
        angles = turns[..., None] * (2 * np.pi * np.arange(1, self.harmonics + 1))
        waves = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
        waves = waves.reshape(*stacked.shape[:-1], 2 * count * self.harmonics)
        return np.concatenate([waves, stacked[..., count:]], axis=-1)

    def _check(self, batch: Array) -> None:
        check_numbers(self, batch)
        if batch.ndim < 2 or batch.shape[-1] <= self.column:
            raise refuse(self, f"(n, ..., c) with moments in column {self.column}", batch)


def _date(days: Any) -> dict[str, Any]:
    """Day of the month (1 to 31), day of the year (1 to 366) and month (1 to 12) of days since 1970."""
    shifted = days + 719_468  # since 1 March of the year 0: a leap day is the last of its year
    era = shifted // 146_097
    of_era = shifted - era * 146_097
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    march = (5 * of_year + 2) // 153
    late = march >= 10  # January and February
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    yearday = late * (of_year - 305) + (1 - late) * (of_year + 60 + leap)
    monthday = of_year - (153 * march + 2) // 5 + 1
    return {"monthday": monthday * 1.0, "yearday": yearday * 1.0, "month": ((march + 2) % 12 + 1) * 1.0}
