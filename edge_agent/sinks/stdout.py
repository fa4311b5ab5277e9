"""Answers as JSON lines on standard output."""

from __future__ import annotations

import sys

from edge_agent.sinks.lines import LineSink


class Stdout(LineSink):
    """Standard output, or ``descriptor``."""

    def __init__(self, descriptor: int | None = None) -> None:
        super().__init__("standard output", sys.stdout.fileno() if descriptor is None else descriptor)
