"""What the demo sees while it runs: the fleet's messages, the controller's timeline, the answers on disk. Read-only."""

from __future__ import annotations

import json
from collections.abc import Iterator

from cloud_trainer.demo.link import Link
from cloud_trainer.demo.record import Record, Step, parse_step, training_line
from cloud_trainer.demo.supervise import follow, tail
from cloud_trainer.demo.workspace import HOST, MODEL, SITE, Workspace
from shared import topics


class Watch:
    """Everything that happened up to the last :meth:`look`."""

    def __init__(self, workspace: Workspace, broker_port: int) -> None:
        leaves = (("status",), ("report", MODEL), ("reported", MODEL), ("event", "+"))
        filters = tuple(topics.up(SITE, "+", *leaf) for leaf in leaves)
        self.link = Link(HOST, broker_port, "demo-watch", filters)
        self.record = Record.empty()
        self.steps: list[Step] = []
        self.answers = {name: dict[int, int]() for name in workspace.devices}
        """Device -> release -> answers given with it."""
        self.training = ""
        """How far a retraining is."""
        self._timeline = follow(workspace.timeline)
        self._attempts = workspace.timeline.parent
        self._sinks: dict[str, Iterator[list[str]]] = {
            name: follow(device.answers) for name, device in workspace.devices.items()
        }

    def look(self) -> list[Step]:
        """Take in what is new; returns the controller's new steps.

        Raises:
            MessageError: somebody wrote what nobody can read.
        """
        while (received := self.link.take(0)) is not None:
            self.record.add(*received)
        for name, lines in self._sinks.items():
            counts = self.answers[name]
            for line in next(lines):
                release = json.loads(line)["release"]
                counts[release] = counts.get(release, 0) + 1
        new = [parse_step(line) for line in next(self._timeline)]
        self.steps += new
        if self.state("incident") == "training":
            self.training = self._training()
        return new

    def _training(self) -> str:
        """The last line that the newest training printed, if it is one of progress."""
        logs = sorted(self._attempts.glob("incidents/*/attempt-*/train.log"), key=lambda path: path.stat().st_mtime)
        for line in reversed(tail(logs[-1]) if logs else []):
            if told := training_line(line):
                return told
        return ""

    def state(self, what: str) -> str:
        """The latest state of the incident or the rollout of the new release; empty before there is one."""
        return next((step.state for step in reversed(self.steps) if step.what == what), "")
