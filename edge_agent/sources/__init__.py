"""Where samples come from. One protocol, one file for each kind; ``tests/edge_agent/test_sources.py`` holds them to it.

1. ``poll`` never waits longer than it was told to, so that the agent stays responsive without a thread.
2. A bad sample is counted and reported (``bad``, ``last_error``); the source lives on.
3. ``stop`` ends everything that the source started and may be called twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from edge_agent.config import CommandSource, NpzSource, StdinSource
from shared.manifest import SampleSpec


class Sample(NamedTuple):
    """One sample as the sensor gave it; ``id`` is None when the source has no name for it."""

    id: str | None
    data: NDArray[Any]


class Source(Protocol):
    """A stream of samples."""

    bad: int
    """Samples that could not be read so far."""
    last_error: str
    """What was wrong with the last bad one, or why the source stands still; empty when all is well."""

    @property
    def ended(self) -> bool:
        """Nothing will come any more."""
        ...

    def poll(self, seconds: float) -> list[Sample]:
        """The samples that are there, waiting up to ``seconds`` for the first; possibly none."""
        ...

    def stop(self) -> None:
        """End what was started."""
        ...


def open_source(config: CommandSource | NpzSource | StdinSource, spec: SampleSpec) -> Source:
    """The source that ``config`` describes, for samples like ``spec``.

    Raises:
        ConfigError: a file is missing or unusable.
    """
    if isinstance(config, CommandSource):
        from edge_agent.sources.command import Command

        return Command(config, spec)
    if isinstance(config, NpzSource):
        from edge_agent.sources.npz import Npz

        return Npz(config)
    from edge_agent.sources.stdin import Stdin

    return Stdin(spec)
