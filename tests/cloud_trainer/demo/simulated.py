"""A made-up run of the demo, for tests of what is made from a run: figures, page, verdict."""

from __future__ import annotations

import numpy as np
from msgspec import structs

from cloud_trainer.demo import data
from cloud_trainer.demo.outcome import PHASES, DeviceResult, Result, cause, judge, phase, phases, times
from cloud_trainer.demo.page import Story
from cloud_trainer.demo.record import Answers, Change, Happening, Point, Record, Step
from shared.messages import SelectionRow

T0 = 1_700_000_000.0
RATE = 100.0
SECONDS = 70.0
BAD_AT, ALARM_AT, RELEASE_AT, CANARY_AT, FLEET_AT, DONE_AT = 14.0, 17.0, 40.0, 41.5, 48.0, 49.0
RIGHT = {"before": 0.97, "during": 0.55, "after": 0.96}


def answers(device: str, bad: bool, takes_at: float, right: dict[str, float] | None = None, seed: int = 0) -> Answers:
    rng = np.random.default_rng([seed, data.DEVICES.index(device)])
    share = right or RIGHT
    n = int(SECONDS * RATE)
    index = np.arange(n)
    when = T0 + index / RATE
    release = np.where(when < T0 + takes_at, 1, 2)
    accuracy = np.full(n, share["before"])
    if bad:
        accuracy[(when >= T0 + BAD_AT) & (release == 1)] = share["during"]
        accuracy[release == 2] = share["after"]
    truth = data.stream_labels(device, seed, 0, n)
    answer = np.where(rng.random(n) < accuracy, truth, (truth + rng.integers(1, 10, n)) % 10)
    return Answers(device, index, answer, truth, release, when, rng.uniform(30, 60, n))


def record(takes: dict[str, float], bad: tuple[str, ...]) -> Record:
    found = Record.empty()
    table = [
        SelectionRow(variant="int8-litert", runtime="litert", precision="int8", bytes=20_000, p50_us=21.3, p99_us=40.0,
                     quality=0.975, chosen=True, why="fastest within 1.0 points of the best"),
        SelectionRow(variant="fp32-onnxruntime", runtime="onnxruntime", precision="fp32", bytes=70_000, p50_us=35.0,
                     p99_us=60.0, quality=0.98, why="1.6 times slower"),
    ]  # fmt: skip
    for device, when in takes.items():
        found.changes[device] = [
            Change(T0 - 1, 1, "int8-litert", False, 0, "", table),
            Change(T0 + when, 2, "int8-litert", True, 0, "", table),
            Change(T0 + when + 3, 2, "int8-litert", False, 0, "", table),
        ]
        for second in range(1, int(SECONDS)):
            drifted = device in bad and BAD_AT <= second < when
            evidence = min(1e5, 1e-4 * 10 ** (2.0 * (second - BAD_AT))) if drifted else 1e-5 * (1 + second % 7)
            found.points[device].append(Point(T0 + second, 1, 100, evidence, 2.5 if drifted else 0.1, 0.9, 40.0))
        if device in bad:
            found.happenings.append(Happening(T0 + ALARM_AT - 0.5, device, "drift", "warning", 1, "contrast"))
    return found


def steps() -> list[Step]:
    def incident(seconds: float, state: str, text: str = "") -> Step:
        return Step(T0 + seconds, "incident", "1", state, text or state)

    def rollout(seconds: float, state: str) -> Step:
        return Step(T0 + seconds, "rollout", "1", state, state, {"release": 2, "parent": 1})

    return [
        incident(ALARM_AT - 0.4, "suspected"),
        incident(ALARM_AT, "confirmed", "cam-1, cam-2 drifted: evidence is over 1,000,000 times the alarm threshold"),
        incident(ALARM_AT + 0.2, "collecting"),
        incident(ALARM_AT + 4, "labelling"),
        incident(ALARM_AT + 5, "training"),
        incident(RELEASE_AT - 1, "gating"),
        incident(RELEASE_AT - 0.5, "releasing"),
        rollout(RELEASE_AT, "staged"),
        rollout(RELEASE_AT + 0.2, "canary"),
        rollout(FLEET_AT - 1, "expanding"),
        rollout(DONE_AT + 4, "done"),
        incident(DONE_AT + 4, "resolved"),
    ]


def story(right: dict[str, float] | None = None) -> Story:
    takes = {"cam-1": CANARY_AT, "cam-2": FLEET_AT, "cam-3": DONE_AT}
    bad = {"cam-1": (int(BAD_AT * RATE), T0 + BAD_AT), "cam-2": (int(BAD_AT * RATE), T0 + BAD_AT)}
    seen = record(takes, tuple(bad))
    found = {device: answers(device, device in bad, takes[device], right) for device in data.DEVICES}
    rows = []
    for device, given in found.items():
        parts = phases(given, bad[device][0] if device in bad else None, T0 + BAD_AT)
        figures = {name: phase(parts[name]) for name in PHASES}
        alarms = seen.alarms(device)
        rows.append(
            DeviceResult(device, device in bad, figures, "int8-litert", "fastest within 1.0 points of the best", 2,
                         len(alarms), alarms[0].time - T0 - BAD_AT if alarms else None, 40.0)
        )  # fmt: skip
    legs = times(seen, steps(), {device: when for device, (_, when) in bad.items()})
    result = Result(7, 101.0, tuple(rows), legs, tuple(judge(rows, steps(), legs)))
    return Story(result, found, seen, steps(), bad)


SLOW = "cam-1: p50 is 2400 us, 120 us before"


def rolled_back_story() -> Story:
    """A run whose release 2 was too slow on the first device, which gave 500 answers with it."""
    whole = story()
    back_at = T0 + CANARY_AT + 5
    seen = record({"cam-1": CANARY_AT}, ("cam-1",))
    (first, *_) = seen.changes["cam-1"]
    seen.changes["cam-1"].append(structs.replace(first, time=back_at))
    for device in ("cam-2", "cam-3"):
        seen.changes[device] = [first]
    told = [step for step in steps() if step.state not in {"expanding", "done", "resolved"}]
    for seconds, state in ((4.0, "aborted"), (6.0, "rolled_back")):
        text = f"release 2: {SLOW}"
        told.append(Step(T0 + CANARY_AT + seconds, "rollout", "1", state, text, {"release": 2, "parent": 1}))
    found, rows = {}, []
    for row in whole.result.devices:
        given = whole.answers[row.device]
        new = (given.release == 2) & (given.time < back_at) & (row.device == "cam-1")
        given = found[row.device] = structs.replace(given, release=np.where(new, 2, 1))
        index = whole.bad[row.device][0] if row.bad else None
        parts = phases(given, index, T0 + BAD_AT)
        rows.append(structs.replace(row, release=1, phases={name: phase(parts[name]) for name in PHASES}))
    legs = times(seen, told, {device: when for device, (_, when) in whole.bad.items()})
    result = Result(7, 101.0, tuple(rows), legs, tuple(judge(rows, told, legs)), cause=cause(told))
    return Story(result, found, seen, told, whole.bad)
