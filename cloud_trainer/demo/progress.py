"""Shows what the demo is doing: a live line on a terminal, plain lines elsewhere. Everything goes to standard error."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PLAIN_SECONDS = 2.0
"""Without a terminal, details of a stage are printed at most this often."""


class Progress:
    """Stages, one after the other, with what is going on in the current one.

    ::

        progress.stage("training")           # ends the stage before
        progress.detail("teacher, 40 %")     # as often as you like
        progress.note("cam-1 went bad")      # a line that stays
        progress.end()
    """

    def __init__(self, stream: TextIO | None = None, *, clock: float | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self.started = time.monotonic() if clock is None else clock
        self._stage = ""
        self._stage_started = self.started
        self._detail = ""
        self._printed_at = 0.0
        self._frame = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def stage(self, name: str) -> None:
        """Begin a stage."""
        self._close()
        self._stage, self._detail, self._stage_started = name, "", time.monotonic()
        if not self._live:
            self._line(f"{name} ...")
        self.tick()

    def detail(self, text: str) -> None:
        """What is going on in this stage."""
        changed = text != self._detail
        self._detail = text
        if self._live:
            self.tick()
        elif changed and time.monotonic() - self._printed_at >= PLAIN_SECONDS:
            self._line(f"  {text}")

    def note(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        self._line(f"  {text}")
        self.tick()

    def tick(self) -> None:
        """Keep the live line alive."""
        if not self._live or not self._stage:
            return
        self._frame += 1
        width = shutil.get_terminal_size().columns - 1
        text = f"{FRAMES[self._frame % len(FRAMES)]} {self.elapsed:5.1f} s  {self._stage}"
        text += f": {self._detail}" if self._detail else ""
        self._stream.write("\r\x1b[K" + text[:width])
        self._stream.flush()

    def end(self, mark: str = "✓") -> None:
        """End the last stage."""
        self._close(mark)

    def _close(self, mark: str = "✓") -> None:
        if not self._stage:
            return
        self._clear()
        took = time.monotonic() - self._stage_started
        if self._live:
            self._line(f"{self._stage} ({took:.1f} s)", mark)
        else:
            self._line(f"{self._stage}: {'done' if mark == '✓' else 'stopped'} ({took:.1f} s)")
        self._stage = ""

    def _line(self, text: str, mark: str = " ") -> None:
        self._printed_at = time.monotonic()
        self._stream.write(f"{mark if self._live else ' '} {self.elapsed:5.1f} s  {text}\n")
        self._stream.flush()

    def _clear(self) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")
