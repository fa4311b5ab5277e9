"""The demo, from the first process to the verdict. It only starts processes and looks on: what happens between drift
and the new release is between the agents, the controller and the labeller.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cloud_trainer.demo import camera, page
from cloud_trainer.demo.outcome import (
    MINIMUM_SAMPLES,
    NEW,
    OLD,
    PHASES,
    DeviceResult,
    Result,
    cause,
    judge,
    phase,
    phases,
    times,
)
from cloud_trainer.demo.progress import Progress
from cloud_trainer.demo.record import read_answers, training_line
from cloud_trainer.demo.supervise import DemoError, DemoTimeoutError, Supervisor
from cloud_trainer.demo.watch import Watch
from cloud_trainer.demo.workspace import HOST, MODEL, SITE, Scale, Workspace

DRIFTING = ("cam-1", "cam-2")
ENOUGH = MINIMUM_SAMPLES + 50
TRAINER = (sys.executable, "-m", "cloud_trainer.cli")
AGENT = (sys.executable, "-m", "edge_agent.cli")

TRAIN_SECONDS = 600.0
COMMAND_SECONDS = 60.0
START_SECONDS = 30.0
LOOP_SECONDS = 600.0
"""Limits, for slow machines; on two cores of a current one the whole demo takes less than two minutes."""


def run(root: Path, seed: int, out: Path, progress: Progress) -> page.Story:
    """Run the whole demo in the empty directory ``root`` and write the report to ``out``.

    Raises:
        DemoError: a process failed, or a stage before the drift took too long. Later than that, what did not happen is
            in the result.
    """
    workspace = Workspace(root, seed, Scale())
    port = free_port()
    progress.stage("preparing real digits for three cameras")
    runtimes, note = exportable()
    if note:
        progress.note(note)
    workspace.write(port, runtimes)
    with Supervisor(workspace.logs) as supervisor:
        train(supervisor, workspace, progress)
        watch = start(supervisor, workspace, port, progress)
        with watch.link:
            missed = loop(supervisor, workspace, watch, progress)
            progress.stage("stopping every process")
            supervisor.stop()
            watch.look()
    progress.stage("measuring")
    story = evaluate(workspace, watch, progress.elapsed, (missed,) if missed else (), (note,) if note else ())
    progress.stage("writing the report")
    page.write(story, out)
    progress.end()
    return story


def exportable() -> tuple[tuple[str, ...], str]:
    """The runtimes that this machine can export for, and what to say if it is not all."""
    from cloud_trainer.exporting.environment import unsupported

    reason = unsupported()
    return (("onnxruntime",), reason) if reason else (("onnxruntime", "litert"), "")


def free_port() -> int:
    """A loopback TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    """Whether somebody answers on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0


def train(supervisor: Supervisor, workspace: Workspace, progress: Progress) -> None:
    """Release 1, and a fleet to publish it to."""
    progress.stage("training a teacher, distilling a student, exporting, quantizing")

    def show(line: str) -> None:
        progress.detail(training_line(line) or line[:200])  # else: a library's warning

    command = [*TRAINER, "train", str(workspace.task), "--out", str(workspace.release), "--version", str(OLD), "--json"]
    supervisor.run("train", command, TRAIN_SECONDS, show, tick=progress.tick, threads=os.cpu_count())
    progress.stage("making the fleet's keys, signing and publishing release 1")
    for name, words in (
        ("fleet-init", ["fleet", "init", str(workspace.fleet), "--model", MODEL]),
        ("publish", ["publish", str(workspace.release), "--fleet", str(workspace.fleet)]),
    ):
        supervisor.run(name, [*TRAINER, *words], COMMAND_SECONDS, tick=progress.tick)


def start(supervisor: Supervisor, workspace: Workspace, port: int, progress: Progress) -> Watch:
    """Broker, controller, labeller, three enrolled agents; returns when all of them run release 1."""
    progress.stage("starting broker, controller and labeller")
    supervisor.start("broker", [sys.executable, "-m", "cloud_trainer.demo.broker", str(workspace.broker)])
    supervisor.wait("the broker's start", lambda: listening(port), START_SECONDS, tick=progress.tick)
    watch = Watch(workspace, port)
    serve = [*TRAINER, "serve", str(workspace.controller), "--ready-file", str(workspace.ready)]
    supervisor.start("controller", serve, threads=os.cpu_count())
    labeller = ["--port", str(port), "--site", SITE, "--model", MODEL, "--seed", str(workspace.seed)]
    supervisor.start("labeller", [sys.executable, "-m", "cloud_trainer.demo.labeller", *labeller])
    supervisor.wait("the controller's start", workspace.ready.exists, START_SECONDS, tick=progress.tick)
    url = json.loads(workspace.ready.read_text(encoding="utf-8"))["url"]

    progress.stage("enrolling three agents")
    for device in workspace.devices.values():
        progress.detail(device.name)
        words = ["fleet", "enroll", device.name, "--fleet", str(workspace.fleet), "--site", SITE]
        words += ["--broker", f"{HOST}:{port}", "--repository", f"{url}/repository", "--out", str(device.enrolment)]
        supervisor.run(f"{device.name}-fleet-enroll", [*TRAINER, *words], COMMAND_SECONDS, tick=progress.tick)
        words = ["enroll", str(device.enrolment), "--state", str(device.state)]
        supervisor.run(f"{device.name}-enroll", [*AGENT, *words], COMMAND_SECONDS, tick=progress.tick)
        supervisor.start(device.name, [*AGENT, "run", str(device.config)])

    progress.stage("agents verify, download, measure and choose a variant")

    def ready() -> bool:
        watch.look()
        running = [name for name in workspace.devices if watch.record.runs(name) == OLD]
        progress.detail(f"{len(running)} of {len(workspace.devices)} run release 1")
        return len(running) == len(workspace.devices)

    supervisor.wait("release 1 on every device", ready, START_SECONDS, tick=progress.tick)
    for name in workspace.devices:
        change = watch.record.variant(name)
        progress.note(f"{name} chose {change.variant}" if change else f"{name} runs release 1")
    return watch


def loop(supervisor: Supervisor, workspace: Workspace, watch: Watch, progress: Progress) -> str:
    """Good pictures, bad pictures, and the way back; what did not happen in time, or nothing."""
    progress.stage(f"good pictures: {ENOUGH:,} answers of each device")
    supervisor.wait("enough answers", _enough(watch, OLD, progress), LOOP_SECONDS, tick=progress.tick, poll_seconds=0.2)
    progress.stage(f"{' and '.join(DRIFTING)} go bad; the fleet is on its own now")
    for name in DRIFTING:
        workspace.devices[name].flag.touch()
    seen_alarms: set[str] = set()

    def resolved() -> bool:
        for step in watch.look():
            if step.what in {"incident", "rollout"}:
                progress.note(f"controller: {step.what} {step.words}: {step.text}")
        for happening in watch.record.happenings:
            if happening.kind == "drift" and happening.device not in seen_alarms:
                seen_alarms.add(happening.device)
                progress.note(f"{happening.device}: {happening.text}")
        progress.detail(doing(watch))
        over = watch.state("incident") in {"resolved", "dismissed"} or watch.state("rollout") == "rolled_back"
        return over or all(watch.record.runs(name) == NEW for name in workspace.devices)

    try:
        supervisor.wait("a new release on every device", resolved, LOOP_SECONDS, tick=progress.tick)
        if any(watch.record.runs(name) != NEW for name in workspace.devices):
            return ""  # the verdict says what the devices run instead
        progress.stage(f"release 2 everywhere: {ENOUGH:,} more answers of each device")
        supervisor.wait("enough answers", _enough(watch, NEW, progress), LOOP_SECONDS, tick=progress.tick)
    except DemoTimeoutError as error:
        return str(error)
    return ""


def doing(watch: Watch) -> str:
    """What the loop is busy with."""
    incident, rollout = watch.state("incident"), watch.state("rollout")
    if incident == "training" and watch.training:
        return f"retraining, {watch.training}"
    if incident == "releasing" and rollout:
        return f"rollout: {rollout.replace('_', ' ')}"
    return incident or "nobody has noticed yet"


def _enough(watch: Watch, release: int, progress: Progress) -> Callable[[], bool]:
    def enough() -> bool:
        watch.look()
        counts = [found.get(release, 0) for found in watch.answers.values()]
        progress.detail(" ".join(f"{count:,}" for count in counts))
        return min(counts) >= ENOUGH

    return enough


def evaluate(
    workspace: Workspace, watch: Watch, elapsed: float, missed: tuple[str, ...], notes: tuple[str, ...]
) -> page.Story:
    """Compare every answer with the truth and judge.

    Raises:
        DemoError: a camera that should have gone bad did not.
    """
    bad: dict[str, tuple[int, float]] = {}
    for name in DRIFTING:
        note = camera.since(workspace.devices[name].flag)
        if note is None:
            raise DemoError(f"{name}'s camera never noticed its flag {workspace.devices[name].flag}")
        bad[name] = int(note["index"]), note["time"]
    first = min(when for _, when in bad.values())
    answers, rows = {}, []
    for name, device in workspace.devices.items():
        given = answers[name] = read_answers(device.answers, name, workspace.seed)
        parts = phases(given, bad[name][0] if name in bad else None, first)
        alarms = [alarm.time for alarm in watch.record.alarms(name)]
        change = watch.record.variant(name)
        chosen = next((row for row in change.selection if row.chosen), None) if change else None
        rows.append(
            DeviceResult(
                device=name,
                bad=name in bad,
                phases={part: phase(parts[part]) for part in PHASES},
                variant=change.variant if change else "",
                why=chosen.why if chosen else "",
                release=watch.record.runs(name),
                alarms=len(alarms),
                alarm_seconds=alarms[0] - bad[name][1] if alarms and name in bad else None,
                p50_us=float(np.median(given.latency_us)) if len(given) else float("nan"),
            )
        )
    legs = times(watch.record, watch.steps, {name: when for name, (_, when) in bad.items()})
    failures = (*judge(rows, watch.steps, legs), *missed)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    why = cause(watch.steps) if failures else ""
    result = Result(workspace.seed, elapsed, tuple(rows), legs, failures, notes, machine, time.time(), why)
    return page.Story(result, answers, watch.record, watch.steps, bad)
