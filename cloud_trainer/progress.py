"""How long work tells how far it is: one callable, three ways to show it.

A stage of the name :data:`WARNING` is none of the work's: its text is what a person should know, and is always shown.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

WARNING = "warning"
PLAIN_SECONDS, JSON_SECONDS = 2.0, 0.25
"""From one line of a stage to the next, at least."""


class Progress(Protocol):
    """Called with the stage's name, how much of the whole is done (0 to 1), and a line for people."""

    def __call__(self, stage: str, fraction: float, text: str) -> None:
        """Show it."""


def silent(stage: str, fraction: float, text: str) -> None:
    """Shows nothing."""


class Lines:
    """``[ 42%  7.1s] student: epoch 3 of 12`` on stderr: on a terminal one line a stage, rewritten; elsewhere a line
    every two seconds and the last one of each stage. Close it at the end."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._start = clock()
        live = self._stream.isatty()
        self._show: _Live | _Sparse = _Live(self._stream) if live else _Sparse(self._stream, PLAIN_SECONDS, clock)

    def __call__(self, stage: str, fraction: float, text: str) -> None:
        """Show one line."""
        self._show(stage, f"[{fraction:4.0%} {self._clock() - self._start:5.1f}s] {stage}: {text}")

    def close(self) -> None:
        """Whatever is printed next begins on a line of its own."""
        self._show.end()


class JsonLines:
    """``{"stage": ..., "fraction": ..., "text": ...}`` on stderr, one document a line: what the controller reads. A few
    a second, and the last one of each stage. Close it at the end."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._show = _Sparse(stream or sys.stderr, JSON_SECONDS, clock)

    def __call__(self, stage: str, fraction: float, text: str) -> None:
        """Show one document."""
        self._show(stage, json.dumps({"stage": stage, "fraction": round(fraction, 3), "text": text}))

    def close(self) -> None:
        """Print what was held back."""
        self._show.end()


class _Live:
    """A terminal's last line, rewritten until the stage changes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stage = ""

    def __call__(self, stage: str, line: str) -> None:
        if stage != self._stage or stage == WARNING:
            self.end()
        self._stage = stage
        if stage != WARNING:  # a line longer than the terminal is wide could not be rewritten
            line = line[: shutil.get_terminal_size().columns - 1]
        self._stream.write(f"\r\x1b[K{line}")
        self._stream.flush()

    def end(self) -> None:
        if self._stage:
            self._stream.write("\n")
            self._stream.flush()
        self._stage = ""


class _Sparse:
    """Lines not more often than every ``seconds``; the last one of a stage, and warnings, are printed in any case."""

    def __init__(self, stream: TextIO, seconds: float, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._seconds = seconds
        self._clock = clock
        self._printed_at = float("-inf")
        self._stage = ""
        self._held = ""

    def __call__(self, stage: str, line: str) -> None:
        if stage != self._stage:
            self.end()
        self._stage, self._held = stage, line
        if stage == WARNING or self._clock() - self._printed_at >= self._seconds:
            self.end()

    def end(self) -> None:
        if self._held:
            print(self._held, file=self._stream, flush=True)
            self._printed_at = self._clock()
        self._held = ""


def within(progress: Progress, low: float, high: float) -> Progress:
    """A progress whose 0 to 1 is ``low`` to ``high`` of ``progress``."""

    def inner(stage: str, fraction: float, text: str) -> None:
        progress(stage, low + (high - low) * fraction, text)

    return inner
