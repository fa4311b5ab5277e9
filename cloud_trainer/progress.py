"""How long work tells how far it is: one callable, three ways to show it."""

from __future__ import annotations

import json
import sys
import time
from typing import Protocol, TextIO


class Progress(Protocol):
    """Called with the stage's name, how much of the whole is done (0 to 1), and a line for people."""

    def __call__(self, stage: str, fraction: float, text: str) -> None:
        """Show it."""


def silent(stage: str, fraction: float, text: str) -> None:
    """Shows nothing."""


class Lines:
    """``[ 42%  7.1s] student: epoch 3 of 12`` on stderr, one line a call."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._start = time.monotonic()

    def __call__(self, stage: str, fraction: float, text: str) -> None:
        """Print one line."""
        seconds = time.monotonic() - self._start
        print(f"[{fraction:4.0%} {seconds:5.1f}s] {stage}: {text}", file=self._stream, flush=True)


class JsonLines:
    """``{"stage": ..., "fraction": ..., "text": ...}`` on stderr, one document a line: what the controller reads."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr

    def __call__(self, stage: str, fraction: float, text: str) -> None:
        """Print one document."""
        line = json.dumps({"stage": stage, "fraction": round(fraction, 3), "text": text})
        print(line, file=self._stream, flush=True)


def within(progress: Progress, low: float, high: float) -> Progress:
    """A progress whose 0 to 1 is ``low`` to ``high`` of ``progress``."""

    def inner(stage: str, fraction: float, text: str) -> None:
        progress(stage, low + (high - low) * fraction, text)

    return inner
