"""Answers handed to a Python function of the user's."""

from __future__ import annotations

import logging

from edge_agent.sinks.config import PythonSink
from edge_agent.sources.function import load_function
from shared.messages import AnswerRecord

log = logging.getLogger("edge_agent.sink")


class Function:
    """Calls the function with each answer, an :class:`~shared.messages.AnswerRecord`, when it is flushed. It runs in
    the agent's main loop: what takes long belongs into a thread of its own. Whatever it raises is counted.

    Raises:
        ConfigError: there is no such function.
    """

    def __init__(self, config: PythonSink) -> None:
        self.lost = 0
        self.trouble = ""
        self._name = config.function
        self._function = load_function(config.function, config.directory)
        self._told: set[type[BaseException]] = set()
        self._answers: list[AnswerRecord] = []

    def write(self, answer: AnswerRecord) -> None:
        """See :class:`edge_agent.sinks.Sink`."""
        self._answers.append(answer)

    def flush(self) -> None:
        """See :class:`edge_agent.sinks.Sink`."""
        answers, self._answers = self._answers, []
        for answer in answers:
            try:
                self._function(answer)
            except (Exception, SystemExit) as error:  # a user's function may raise anything
                self.lost += 1
                self.trouble = f"{type(error).__name__}: {error}"
                if type(error) not in self._told:
                    self._told.add(type(error))
                    log.exception("%s failed on answer %s", self._name, answer.id)
            else:
                self.trouble = ""

    def close(self) -> None:
        """See :class:`edge_agent.sinks.Sink`."""
        self.flush()
