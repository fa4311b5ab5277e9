"""Where answers go. One protocol, one file for each kind; ``tests/edge_agent/sinks`` holds them to it.

1. ``write`` only remembers; ``flush`` gives out what is remembered, and the agent calls it at least twice a second.
   Neither waits for a network: that is done in a thread of the sink's own.
2. A sink that fails (disk full, closed pipe, an address that is away) says so once, counts what it lost, and the agent
   lives on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from shared.messages import AnswerRecord

if TYPE_CHECKING:
    from edge_agent.sinks.config import SinkConfig

SendAnswers = Callable[[list[AnswerRecord]], bool]
"""Publishes answers as one prediction message; False when it was dropped."""

FLUSH_SECONDS = 0.5
GROUP = 64


class Sink(Protocol):
    """Takes answers."""

    lost: int
    """Answers that could not be given out so far."""
    trouble: str
    """Why answers are not given out at the moment; empty when all is well."""

    def write(self, answer: AnswerRecord) -> None:
        """Take one answer."""
        ...

    def flush(self) -> None:
        """Give out what was taken."""
        ...

    def close(self) -> None:
        """Flush and let go. May be called twice."""
        ...


def open_sink(config: SinkConfig, send: SendAnswers) -> Sink:
    """The sink that ``config`` describes; ``send`` is for predictions over MQTT.

    Raises:
        ConfigError: the file cannot be written, the token cannot be read, there is no such function.
    """
    from edge_agent.sinks import config as kinds

    match config:
        case kinds.FileSink():
            from edge_agent.sinks.file import File

            return File(config)
        case kinds.StdoutSink():
            from edge_agent.sinks.stdout import Stdout

            return Stdout()
        case kinds.WebhookSink():
            from edge_agent.sinks.webhook import Webhook

            return Webhook(config)
        case kinds.PythonSink():
            from edge_agent.sinks.function import Function

            return Function(config)
        case _:
            from edge_agent.sinks.prediction import Predictions

            return Predictions(config, send)
