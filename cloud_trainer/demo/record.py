"""What happened, as arrays and lists: the answers of each device, what the fleet said over MQTT, the controller's log.

Times are seconds since 1970; everything runs on one machine, so all clocks agree.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.demo import data
from shared import messages, topics
from shared.errors import MessageError
from shared.messages import SelectionRow


class Answers(Struct, frozen=True, eq=False):
    """One device's answers in order: arrays (n,), ``answer`` and ``truth`` are class indices."""

    device: str
    index: NDArray[np.int64]
    answer: NDArray[np.int64]
    truth: NDArray[np.int64]
    release: NDArray[np.int64]
    time: NDArray[np.float64]
    latency_us: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.index)

    def take(self, chosen: NDArray[np.bool_]) -> Answers:
        """The answers where ``chosen`` (n,) is true."""
        return Answers(
            self.device,
            self.index[chosen],
            self.answer[chosen],
            self.truth[chosen],
            self.release[chosen],
            self.time[chosen],
            self.latency_us[chosen],
        )

    @property
    def accuracy(self) -> float:
        """Share of right answers; NaN without any."""
        return float((self.answer == self.truth).mean()) if len(self) else float("nan")


def read_answers(path: Path, device: str, seed: int) -> Answers:
    """The answers in a file sink, with their truth. A last line that is not whole yet is left out.

    Raises:
        MessageError: a line is no answer of this demo.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    rows = []
    for line in text.split("\n")[:-1]:
        try:
            rows.append(_row(line, device))
        except (ValueError, KeyError, TypeError) as error:
            raise MessageError(f"{path}: not an answer of {device}: {line[:120]} ({error})") from error
    table = np.array(rows, np.float64).reshape(-1, 5)  # whole numbers below 2**53 are exact
    index, answer, release = (table[:, column].astype(np.int64) for column in range(3))
    truth = data.stream_labels(device, seed, 0, int(index.max(initial=-1)) + 1)[index]
    return Answers(device, index, answer, truth, release, table[:, 3], table[:, 4])


def _row(line: str, device: str) -> tuple[float, ...]:
    record = json.loads(line)
    found, index = data.parse_id(record["id"])
    if found != device:
        raise ValueError(f"an answer about {found}")
    answer = data.LABELS.index(record["label"])
    return index, answer, int(record["release"]), float(record["time"]), float(record["latency_us"])


class Point(Struct, frozen=True):
    """One drift report of a device."""

    time: float
    release: int
    samples: int
    evidence: float  # 1.0 is the alarm
    effect: float  # largest mean shift, robust sigmas
    confidence: float
    p50_us: float


class Change(Struct, frozen=True):
    """What a device said that it runs."""

    time: float
    release: int
    variant: str
    trial: bool
    refused: int
    error: str
    selection: list[SelectionRow]


class Happening(Struct, frozen=True):
    """An event that a device told."""

    time: float
    device: str
    kind: str
    level: str
    release: int
    text: str


class Step(Struct, frozen=True):
    """A line of the controller's ``timeline.jsonl``."""

    time: float
    what: str  # "incident" | "rollout" | "alarm" | "device" | "release"
    subject: str  # a number, or a device's name
    state: str
    text: str
    details: dict[str, Any] = {}

    @property
    def words(self) -> str:
        """The state for people."""
        return self.state.replace("_", " ")


class Record(Struct):
    """What the fleet said so far, by device. Only ever added to."""

    points: dict[str, list[Point]]
    changes: dict[str, list[Change]]
    happenings: list[Happening]
    online: set[str]

    @classmethod
    def empty(cls) -> Record:
        """Before anybody said anything."""
        return cls({d: [] for d in data.DEVICES}, {d: [] for d in data.DEVICES}, [], set())

    def add(self, topic_text: str, payload: bytes, content_type: str) -> None:
        """Take one ``up`` message; kinds that tell nothing here are passed over.

        Raises:
            MessageError: it is malformed.
        """
        topic = topics.parse(topic_text)
        match topic.kind:
            case "status":
                status = messages.decode(payload, messages.Status, content_type)
                (self.online.add if status.state == "online" else self.online.discard)(topic.device)
            case "report":
                report = messages.decode(payload, messages.Report, content_type)
                self.points.setdefault(topic.device, []).append(_point(report))
            case "reported":
                change = _change(messages.decode(payload, messages.Reported, content_type))
                known = self.changes.setdefault(topic.device, [])
                if not known or _same(known[-1]) != _same(change):
                    known.append(change)
            case "event":
                event = messages.decode(payload, messages.Event, content_type)
                self.happenings.append(
                    Happening(event.time, topic.device, event.kind, event.level, event.release, event.text)
                )
            case _:
                pass

    def runs(self, device: str) -> int:
        """The release that a device runs for good; 0 while it has none or is still trying one."""
        changes = self.changes[device]
        return changes[-1].release if changes and not changes[-1].trial else 0

    def variant(self, device: str) -> Change | None:
        """The device's last word about what it runs."""
        return self.changes[device][-1] if self.changes[device] else None

    def alarms(self, device: str) -> list[Happening]:
        """The device's own drift alarms."""
        return [h for h in self.happenings if h.device == device and h.kind == "drift"]


def _point(report: messages.Report) -> Point:
    effect = max((abs(value) for value in report.effects.values()), default=0.0)
    return Point(report.time, report.release, report.samples, report.evidence, effect, report.confidence, report.p50_us)


def _change(reported: messages.Reported) -> Change:
    return Change(
        reported.time,
        reported.release,
        reported.variant,
        reported.trial,
        reported.refused,
        reported.error,
        reported.selection,
    )


def _same(change: Change) -> tuple[Any, ...]:
    return change.release, change.variant, change.trial, change.refused, change.error


def parse_step(line: str) -> Step:
    """One line of the controller's timeline.

    Raises:
        MessageError: it is none.
    """
    try:
        row = json.loads(line)
        subject = row.get(row["what"], row.get("device", ""))
        return Step(float(row["time"]), row["what"], str(subject), row["state"], row["text"], row["details"])
    except (ValueError, KeyError, TypeError) as error:
        raise MessageError(f"not a line of a timeline: {line[:120]} ({error})") from error


def training_line(line: str) -> str:
    """A progress line of ``cloud-trainer train --json`` for people; empty if it is none.

    >>> training_line('{"stage": "teacher", "fraction": 0.1, "text": "epoch 1 of 8"}')
    '10% teacher: epoch 1 of 8'
    """
    try:
        told = json.loads(line)
        return f"{told['fraction']:.0%} {told['stage']}: {told['text']}"
    except (ValueError, KeyError, TypeError):
        return ""
