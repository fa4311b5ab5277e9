"""What the demo is judged by: pure functions from what happened to figures and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from cloud_trainer.demo.record import Answers, Record, Step

PHASES = ("before", "during", "after")
MINIMUM_SAMPLES = 1000
RECOVERED_POINTS = 3.0
OLD, NEW = 1, 2


class Phase(Struct, frozen=True):
    """Accuracy of one device in one phase. ``low`` and ``high``: Wilson's 95 % interval."""

    samples: int
    accuracy: float
    low: float
    high: float


class DeviceResult(Struct, frozen=True):
    """One line of the demo's table."""

    device: str
    bad: bool
    phases: dict[str, Phase]
    variant: str
    why: str
    release: int
    alarms: int
    alarm_seconds: float | None  # from the first bad picture to the device's own alarm
    p50_us: float

    def whole(self, name: str) -> bool:
        """Whether a phase says something: enough answers, and those after of a release that the device kept."""
        return self.phases[name].samples >= MINIMUM_SAMPLES and (name != "after" or self.release == NEW)


class Times(Struct, frozen=True):
    """The loop's legs in seconds; ``None`` where one did not happen."""

    drift_to_alarm: float | None
    alarm_to_release: float | None
    release_to_fleet: float | None


class Result(Struct, frozen=True):
    """``result.json``. ``failures`` is empty if the loop closed; ``cause`` is what the first of them comes from."""

    seed: int
    seconds: float
    devices: tuple[DeviceResult, ...]
    times: Times
    failures: tuple[str, ...]
    notes: tuple[str, ...] = ()
    machine: str = ""
    time: float = 0.0  # when it ended, seconds since 1970
    cause: str = ""

    @property
    def closed(self) -> bool:
        """Whether all that had to happen did."""
        return not self.failures

    @property
    def headline(self) -> str:
        """The outcome in one sentence."""
        if self.closed:
            return f"the loop closed: every device runs release {NEW}"
        return f"the loop did not close: {self.cause or self.failures[0]}"


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share (E. B. Wilson 1927, JASA 22): (low, high), (0, 1) without samples.

    >>> wilson(970, 1000)
    (0.957..., 0.978...)
    """
    if n == 0:
        return 0.0, 1.0
    share = right / n
    middle = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


def phase(answers: Answers) -> Phase:
    """Figures of a device's answers in one phase."""
    right = int((answers.answer == answers.truth).sum())
    low, high = wilson(right, len(answers))
    return Phase(len(answers), answers.accuracy, low, high)


def phases(answers: Answers, bad_index: int | None, bad_time: float) -> dict[str, Answers]:
    """Cut a device's answers: before its camera went bad; bad (or, for a good camera, later than ``bad_time``) under
    the old release; under the new release."""
    later = answers.index >= bad_index if bad_index is not None else answers.time >= bad_time
    old, new = answers.release == OLD, answers.release == NEW
    return {
        "before": answers.take(~later & old),
        "during": answers.take(later & old),
        "after": answers.take(later & new),
    }


def times(record: Record, steps: Sequence[Step], bad: Mapping[str, float]) -> Times:
    """How long the legs took. ``bad``: when each bad camera went bad. The alarm is the controller's confirmation on
    the merged evidence; the release is its publication (the rollout's first step); the fleet has it when the last
    device runs it for good."""
    alarm = next((s.time for s in steps if s.what == "incident" and s.state == "confirmed"), None)
    release = next(
        (s.time for s in steps if s.what == "rollout" and s.state == "staged" and s.details.get("release") == NEW), None
    )
    fleet = [
        next((c.time for c in changes if c.release == NEW and not c.trial), None) for changes in record.changes.values()
    ]
    done = None if None in fleet else max(t for t in fleet if t is not None)
    started = max(bad.values()) if bad else None
    return Times(_gap(started, alarm), _gap(alarm, release), _gap(release, done))


def _gap(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start


def judge(devices: Sequence[DeviceResult], steps: Sequence[Step], times_: Times) -> list[str]:
    """What did not happen that should have, one line each; empty if the loop closed."""
    missing = []
    if times_.drift_to_alarm is None:
        missing.append("the controller never confirmed the drift")
    elif times_.alarm_to_release is None:
        dismissed = [step.text for step in steps if step.what == "incident" and step.state == "dismissed"]
        missing.append("no new release was published" + (f": {dismissed[-1]}" if dismissed else ""))
    missing += [
        f"{device.device} runs release {device.release} instead of {NEW}" for device in devices if device.release != NEW
    ]
    for device in devices:
        missing += [
            f"{device.device} has {found.samples} answers {name}, fewer than {MINIMUM_SAMPLES}"
            for name, found in device.phases.items()
            if found.samples < MINIMUM_SAMPLES and (name != "after" or device.release == NEW)
        ]
        before, after = device.phases["before"], device.phases["after"]
        recovered = after.accuracy >= before.accuracy - RECOVERED_POINTS / 100
        if device.whole("before") and device.whole("after") and not recovered:
            missing.append(
                f"{device.device} was right on {before.accuracy:.1%} before and only {after.accuracy:.1%} after"
            )
        if not device.bad and device.alarms:
            missing.append(f"{device.device} has a clean camera and raised {device.alarms} alarm(s)")
    return missing


def cause(steps: Sequence[Step]) -> str:
    """Why the controller gave up, in its own words; empty if it did not."""
    for step in reversed(steps):
        if step.state in {"done", "resolved"}:
            return ""
        if step.what == "rollout" and step.state in {"aborted", "rolled_back"}:
            release = f"release {step.details.get('release', NEW)}"
            done = "was rolled back" if step.state == "rolled_back" else "was being rolled back at the end"
            return f"{release} {done}: {step.text.removeprefix(f'{release}: ')}"
        if step.what == "incident" and step.state == "dismissed":
            return f"the controller gave the incident up: {step.text}"
    return ""


def rolling(answers: Answers, width: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Times (m,) and the share of right answers (m,) among the ``width`` answers up to each."""
    if len(answers) < width:
        return np.empty(0), np.empty(0)
    total = np.concatenate([[0], np.cumsum(answers.answer == answers.truth)])
    return answers.time[width - 1 :], (total[width:] - total[:-width]) / width


def confusion(answers: Answers, classes: int) -> np.ndarray:
    """Rows: truth, columns: answer; shares of each row, (classes, classes)."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (answers.truth, answers.answer), 1)
    found: np.ndarray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return found
