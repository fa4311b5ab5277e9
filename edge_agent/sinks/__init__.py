"""Where answers go. One protocol, one file for each kind; ``tests/edge_agent/test_sinks.py`` holds them to it.

1. ``write`` only remembers; ``flush`` gives out what is remembered, and the agent calls it at least twice a second.
2. A sink that fails (disk full, closed pipe) says so once, counts what it lost, and the agent lives on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge_agent.config import FileSink, PredictionSink, StdoutSink
from shared.messages import AnswerRecord

SendAnswers = Callable[[list[AnswerRecord]], bool]
"""Publishes answers as one prediction message; False when it was dropped."""

FLUSH_SECONDS = 0.5
GROUP = 64


class Sink(Protocol):
    """Takes answers."""

    lost: int
    """Answers that could not be given out so far."""

    def write(self, answer: AnswerRecord) -> None:
        """Take one answer."""
        ...

    def flush(self) -> None:
        """Give out what was taken."""
        ...

    def close(self) -> None:
        """Flush and let go."""
        ...


def open_sink(config: FileSink | StdoutSink | PredictionSink, send: SendAnswers) -> Sink:
    """The sink that ``config`` describes; ``send`` is for predictions over MQTT.

    Raises:
        ConfigError: the file cannot be written.
    """
    if isinstance(config, FileSink):
        from edge_agent.sinks.file import File

        return File(config)
    if isinstance(config, StdoutSink):
        from edge_agent.sinks.stdout import Stdout

        return Stdout()
    from edge_agent.sinks.prediction import Predictions

    return Predictions(config, send)
