"""Samples as JSON lines from standard input. At its end the agent stops."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from edge_agent.sources import Sample
from edge_agent.sources.lines import LineReader, LineSource
from shared.manifest import SampleSpec


class Stdin(LineSource):
    """Reads descriptor ``descriptor``, standard input by default."""

    def __init__(self, signature: Sequence[SampleSpec], descriptor: int | None = None) -> None:
        super().__init__(signature)
        self._reader = LineReader(sys.stdin.fileno() if descriptor is None else descriptor)

    @property
    def ended(self) -> bool:
        """Whether the other end was closed."""
        return self._reader.ended

    def poll(self, seconds: float) -> list[Sample]:
        """See :class:`edge_agent.sources.Source`."""
        return self.parse(self._reader.read(seconds))

    def stop(self) -> None:
        """Nothing was started."""
