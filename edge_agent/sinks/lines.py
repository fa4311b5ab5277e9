"""Answers as JSON lines on a file descriptor: what ``file`` and ``stdout`` have in common."""

from __future__ import annotations

import logging
import os

import msgspec

from edge_agent.sinks import GROUP
from shared.messages import AnswerRecord

log = logging.getLogger("edge_agent.sink")


class LineSink:
    """Writes whole lines, in groups."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.lost = 0
        self.trouble = ""
        self._name = name
        self._descriptor = descriptor
        self._lines: list[bytes] = []
        self._encoder = msgspec.json.Encoder()

    def write(self, answer: AnswerRecord) -> None:
        """See :class:`edge_agent.sinks.Sink`."""
        self._lines.append(self._encoder.encode(answer))
        if len(self._lines) >= GROUP:
            self.flush()

    def flush(self) -> None:
        """See :class:`edge_agent.sinks.Sink`."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        data = b"\n".join(lines) + b"\n"
        try:
            self.prepare(len(data))
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            self.lost += len(lines)
            if error.strerror != self.trouble:
                self.trouble = error.strerror or str(error)
                log.error("answers cannot be written to %s: %s", self._name, self.trouble)  # noqa: TRY400  (told in full)
        else:
            self.trouble = ""

    def prepare(self, size: int) -> None:
        """Called before ``size`` bytes are written."""

    def close(self) -> None:
        """See :class:`edge_agent.sinks.Sink`."""
        self.flush()
