"""Answers as ``up/prediction/<model>`` messages: QoS 0, not through the outbox."""

from __future__ import annotations

from edge_agent.config import PredictionSink
from edge_agent.sinks import SendAnswers
from shared.messages import AnswerRecord


class Predictions:
    """Sends groups of up to ``batch`` answers; without a connection they are lost, and counted."""

    def __init__(self, config: PredictionSink, send: SendAnswers) -> None:
        self.lost = 0
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
        if answers and not self._send(answers):
            self.lost += len(answers)

    def close(self) -> None:
        """See :class:`edge_agent.sinks.Sink`."""
        self.flush()
