"""Answers as ``up/prediction/<model>`` messages: QoS 0, not through the outbox."""

from __future__ import annotations

from edge_agent.sinks import SendAnswers
from edge_agent.sinks.config import PredictionSink
from shared.messages import AnswerRecord


class Predictions:
    """Sends groups of up to ``batch`` answers; without a connection they are lost, and counted."""

    def __init__(self, config: PredictionSink, send: SendAnswers) -> None:
        self.lost = 0
        self.trouble = ""
        self._batch = config.batch
        self._send = send
        self._answers: list[AnswerRecord] = []

    def write(self, answer: AnswerRecord) -> None:
        """See :class:`edge_agent.sinks.Sink`."""
        self._answers.append(answer)
        if len(self._answers) >= self._batch:
            self.flush()

    def flush(self) -> None:
        """See :class:`edge_agent.sinks.Sink`."""
        answers, self._answers = self._answers, []
        if not answers:
            return
        if self._send(answers):
            self.trouble = ""
        else:
            self.lost += len(answers)
            self.trouble = "no connection to the broker"

    def close(self) -> None:
        """See :class:`edge_agent.sinks.Sink`."""
        self.flush()
