"""How far a job is."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TextIO

TERMINAL_S, LINES_S = 0.5, 5.0


class Progress:
    """Rows, rows/s and the time that is left, on standard error: one line that changes on a terminal, else a line every
    few seconds. ``total`` may be unknown."""

    def __init__(self, total: int | None, *, shown: bool, file: TextIO | None = None) -> None:
        self._total, self._shown, self._file = total, shown, file or sys.stderr
        self._terminal = self._file.isatty()
        self._began = self._told = monotonic()
        self._wrote = False

    def at(self, rows: int, before: int = 0) -> None:
        """``rows`` are done, ``before`` of them by an earlier run."""
        now = monotonic()
        if not self._shown or now - self._told < (TERMINAL_S if self._terminal else LINES_S):
            return
        self._told = now
        text = line(rows, before, self._total, now - self._began)
        print(f"\r\x1b[K{text}" if self._terminal else text, end="" if self._terminal else "\n", file=self._file)
        self._file.flush()
        self._wrote = True

    def close(self) -> None:
        """Leave the terminal's line."""
        if self._wrote and self._terminal:
            print("\r\x1b[K", end="", file=self._file, flush=True)


def line(rows: int, before: int, total: int | None, seconds: float) -> str:
    """What is shown.

    >>> line(300, 100, 1000, 2.0)
    '300 of 1000 rows (30 %), 100 rows/s, 7 s left'
    >>> line(300, 0, None, 2.0)
    '300 rows, 150 rows/s'
    """
    rate = (rows - before) / max(seconds, 1e-9)
    if not total:
        return f"{rows} rows, {rate:.0f} rows/s"
    left = duration((total - rows) / rate) if rate else "unknown time"
    return f"{rows} of {total} rows ({100 * rows // total} %), {rate:.0f} rows/s, {left} left"


def duration(seconds: float) -> str:
    """For people.

    >>> duration(7), duration(185), duration(7500)
    ('7 s', '3 min 5 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
