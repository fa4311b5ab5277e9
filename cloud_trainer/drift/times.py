"""Times of rows: ISO timestamps or plain numbers, and durations like ``90d``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.errors import UsageError

Floats = NDArray[np.float64]
DAY = 86_400.0
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": DAY, "w": 7 * DAY}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|w)")
DATES, NUMBERS = "dates", "numbers"


class Axis(Struct, frozen=True):
    """What the horizontal axis counts. ``name``: the time column, "" for rows. ``kind``: "dates" (UTC seconds since
    1970), "numbers", or "" for rows."""

    name: str = ""
    kind: str = ""

    def text(self, value: float) -> str:
        """One place on the axis, for people.

        >>> Axis("day", DATES).text(1308009600.0), Axis("day", DATES).text(1308013230.0)
        ('2011-06-14', '2011-06-14 01:00:30')
        """
        if self.kind != DATES:
            return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"
        moment = datetime.fromtimestamp(value, UTC)
        if value % DAY == 0:
            return moment.strftime("%Y-%m-%d")
        return moment.strftime("%Y-%m-%d %H:%M" if value % 60 == 0 else "%Y-%m-%d %H:%M:%S")


def duration(text: str) -> float | None:
    """Seconds of a duration; None if it is none.

    >>> duration("90d"), duration("1.5h"), duration("10000")
    (7776000.0, 5400.0, None)
    """
    found = _DURATION.fullmatch(text.strip())
    return float(found[1]) * UNITS[found[2]] if found else None


def is_timestamp(cell: str) -> bool:
    """Whether ``cell`` is an ISO 8601 date or timestamp, and no plain number.

    >>> is_timestamp("2011-06-14T12:00Z"), is_timestamp("20110614"), is_timestamp("noon")
    (True, False, False)
    """
    try:
        float(cell)
    except ValueError:
        pass
    else:
        return False
    try:
        datetime.fromisoformat(cell)
    except ValueError:
        return False
    return True


def _seconds(cell: str) -> float:
    moment = datetime.fromisoformat(cell)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def read_times(column: NDArray[Any] | Sequence[Any], name: str, place: Callable[[int], str]) -> tuple[Floats, str]:
    """Times (n,) of a column's cells and which kind they are. Timestamps without a zone are UTC.

    Args:
        column: numbers, ``datetime64``, or texts.
        name: of the column, for errors.
        place: where cell ``i`` stands, for errors.

    Raises:
        UsageError: a cell is empty or no time; it names place and value.
    """
    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        seconds = column.astype("datetime64[us]").astype(np.int64) / 1e6
        return _checked(np.where(np.isnat(column), np.nan, seconds), name, place, column), DATES
    if isinstance(column, np.ndarray) and column.dtype.kind in "biuf":
        return _checked(column.astype(np.float64), name, place, column), NUMBERS
    texts = [str(cell).strip() if cell is not None else "" for cell in column]
    try:
        return _checked(np.array([float(text) for text in texts]), name, place, texts), NUMBERS
    except ValueError:
        pass
    found = np.empty(len(texts))
    for i, text in enumerate(texts):
        try:
            found[i] = _seconds(text)
        except ValueError:
            raise UsageError(
                f"{place(i)}: time column {name!r} has {text[:40]!r}; expected an ISO timestamp or a number"
            ) from None
    return found, DATES


def _checked(times: Floats, name: str, place: Callable[[int], str], cells: Sequence[Any] | NDArray[Any]) -> Floats:
    wrong = ~np.isfinite(times)
    if wrong.any():
        i = int(np.argmax(wrong))
        shown = "" if np.isnan(times[i]) else str(cells[i])
        raise UsageError(f"{place(i)}: time column {name!r} has {shown!r}; expected an ISO timestamp or a number")
    return times


def epoch_unit(times: Floats) -> float | None:
    """Seconds that one unit of plain numbers is worth, if they look like seconds or milliseconds since 1970 (1990 to
    2100); None if they are anything else."""
    if not len(times):
        return None
    low, high = float(times.min()), float(times.max())
    for unit in (1.0, 1e-3):
        if low * unit >= 6.3e8 and high * unit <= 4.1e9:
            return unit
    return None
