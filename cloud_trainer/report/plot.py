"""A pair of axes to draw on: scales, grid, ticks and their names."""

from __future__ import annotations

import math
from collections.abc import Callable

from cloud_trainer.svg import GRID, MUTED, Canvas, linear, nice_ticks

WIDTH, WIDE = 460.0, 940.0
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Plot:
    """Axes over the range ``x`` (low, high) and ``y``; ``canvas`` is drawn on with ``at(x)`` and ``up(y)``."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        width: float = WIDTH,
        height: float = 240.0,
        left: float = 46.0,
        x_name: str = "",
        y_name: str = "",
        log_x: bool = False,
        log_y: bool = False,
        percent_x: bool = False,
        percent_y: bool = False,
        whole_x: bool = False,
    ) -> None:
        self.canvas = Canvas(width, height)
        self.left, self.right = left, width - 10
        self.top, self.bottom = 24.0 if y_name else 10.0, height - (38.0 if x_name else 22.0)
        self.at = _scale(x, self.left, self.right, log=log_x)
        self.up = _scale(y, self.bottom, self.top, log=log_y)
        for value, text in _ticks(y, max(2, int((self.bottom - self.top) / 34)), log=log_y, percent=percent_y):
            self.canvas.line(self.left, self.up(value), self.right, self.up(value), GRID)
            self.canvas.text(self.left - 6, self.up(value) + 4, text, anchor="end", size=11)
        most = max(2, int((self.right - self.left) / 62))
        for value, text in _ticks(x, most, log=log_x, percent=percent_x):
            if whole_x and value != round(value):
                continue
            self.canvas.line(self.at(value), self.bottom, self.at(value), self.bottom + 4, GRID)
            place = min(self.at(value), width - 3.6 * len(text))
            self.canvas.text(place, self.bottom + 16, text, anchor="middle", size=11)
        self.canvas.line(self.left, self.bottom, self.right, self.bottom, GRID)
        if y_name:
            self.canvas.text(2, 12, y_name, size=12)
        if x_name:
            self.canvas.text((self.left + self.right) / 2, height - 5, x_name, anchor="middle", size=12)

    def done(self, label: str) -> str:
        """The picture; ``label`` for those who cannot see it."""
        return self.canvas.done(label)

    def faint(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A dashed line of comparison, in the units of the axes."""
        self.canvas.line(self.at(x1), self.up(y1), self.at(x2), self.up(y2), MUTED, dash="4 4")


def padded(low: float, high: float, share: float = 0.05) -> tuple[float, float]:
    """A range with some room on both sides; never empty.

    >>> padded(0.0, 10.0, 0.1)
    (-1.0, 11.0)
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    room = share * (high - low) or max(abs(high), 1.0) * share
    return low - room, high + room


def _scale(range_: tuple[float, float], start: float, stop: float, *, log: bool) -> Callable[[float], float]:
    if not log:
        return linear(*range_, start, stop)
    inner = linear(math.log10(range_[0]), math.log10(range_[1]), start, stop)
    return lambda value: inner(math.log10(max(value, range_[0])))


def _ticks(range_: tuple[float, float], most: int, *, log: bool, percent: bool) -> list[tuple[float, str]]:
    low, high = range_
    if log:
        return _log_ticks(low, high, most)
    if percent:
        return [(at / 100, f"{at:g} %") for at in nice_ticks(100 * low, 100 * high, most)]
    return [(at, number(at)) for at in nice_ticks(low, high, most)]


def _log_ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**k for k in range(first, last + 1) for f in factors if low <= f * 10.0**k <= high]
        if len(found) <= most:
            return [(value, number(value)) for value in found]
    step = -(-len(found) // most)
    return [(value, number(value)) for value in found[::step]]


def number(value: float) -> str:
    """A tick's text.

    >>> number(1500.0), number(2e6), number(0.25), number(1e-6)
    ('1,500', '2 M', '0.25', '10⁻⁶')
    """
    size = abs(value)
    if size >= 1e4:
        for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if size >= limit:
                return f"{value / limit:g} {unit}"
    if size and size < 1e-3:
        power = math.floor(math.log10(size) + 1e-9)
        factor = round(value / 10.0**power, 3)
        return f"{'' if factor == 1 else f'{factor:g}·'}10{str(power).translate(SUPERSCRIPT)}"
    return f"{value:,g}" if size >= 1000 else f"{value:g}"
