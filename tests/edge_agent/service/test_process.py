from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import msgspec
import numpy as np
import pytest

from edge_agent.state import AgentStatus
from shared import topics
from shared.enrolment import save_enrolment
from shared.messages import (
    Command,
    Event,
    Report,
    State,
    encode,
)
from tests.brokers import Listener
from tests.edge_agent.service.agents import EVERYTHING, Agent, FolderUpdates, enrolment, every, runs
from tests.releases import digits

CAMERA = """
import base64, json, os, sys, time
import numpy as np
x = np.load(sys.argv[1])["x"]
open(sys.argv[2], "w").write(str(os.getpid()))
print("not a sample", flush=True)
for i, image in enumerate(x):
    print(json.dumps({"id": f"cam-{i}", "data": base64.b64encode(image.tobytes()).decode()}), flush=True)
    time.sleep(0.002)
time.sleep(600)
"""


def edge_agent(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "edge_agent.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def test_told_to_stop_during_a_measurement_it_ends_in_order(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port)
    agent.updates.install(1)
    save_enrolment(enrolment(broker.port), agent.state.enrolment_file)
    agent.samples(8000, seed=3)
    run = [sys.executable, "-m", "edge_agent.cli", "run", str(tmp_path / "agent.toml")]
    for seconds in (0.05, 10.0):
        (tmp_path / "agent.toml").write_text(
            'state = "state"\nmodel = "digits"\n[source]\nkind = "npz"\npath = "x.npz"\n'
            f"[selection]\nmeasure_seconds = {seconds}\n"
        )
        with Listener(broker.port, EVERYTHING) as controller, subprocess.Popen(run) as process:
            controller.wait(lambda found: any(m.topic.endswith("up/status") and b"online" in m.payload for m in found))
            controller.wait(runs(1))
            if seconds == 10.0:
                message = Command(id="c1", model="digits")
                controller.publish(topics.down("plant", "cam-1", "cmd", "select"), encode(message))
                end = time.monotonic() + 10
                while agent.state.selection.exists() and time.monotonic() < end:
                    time.sleep(0.02)
            process.terminate()
            assert process.wait(8) == 0


def test_a_killed_agent_goes_on_where_it_was(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port)
    agent.updates.install(1)
    save_enrolment(enrolment(broker.port), agent.state.enrolment_file)
    agent.samples(2000, seed=3, contrast=0.3, noise=60)
    (tmp_path / "agent.toml").write_text(
        'state = "state"\nmodel = "digits"\n[source]\nkind = "npz"\npath = "x.npz"\nrate_hz = 300\n'
        "[report]\nevery_seconds = 0.3\n[outbox]\ngroup_rows = 1\n[selection]\nmeasure_seconds = 0.05\n"
    )
    run = [sys.executable, "-m", "edge_agent.cli", "run", "agent.toml", "--log-level", "error"]
    with Listener(broker.port, EVERYTHING) as controller:
        with subprocess.Popen(run, cwd=tmp_path) as process:
            controller.wait(lambda found: any(e.kind == "drift" for e in every(found, Event)))
            before = controller.wait(lambda found: every(found, State) and every(found, State)[-1].drift_alarm)
            process.kill()
        with subprocess.Popen(run, cwd=tmp_path) as process:
            try:
                found = controller.wait(
                    lambda found: (
                        len({r.boot for r in every(found, Report)}) == 2
                        and len(every(found, State)) > len(every(before, State)) + 2
                    )
                )
            finally:
                process.terminate()
        assert every(found[len(before) :], State)[-1].drift_alarm
        # what was acknowledged but not yet deleted comes again under its old number; the alarm itself is not repeated
        alarms = {(e.boot, e.stream, e.sequence) for e in every(found, Event) if e.kind == "drift"}
        assert len(alarms) == 1
        reports = {(r.boot, r.sequence): r.samples for r in every(found, Report)}
        assert len({boot for boot, _ in reports}) == 2


def test_the_agent_as_a_process(broker, tmp_path, releases, root):
    save_enrolment(msgspec.structs.replace(enrolment(broker.port), root=root), tmp_path / "cam-1.json")
    made = edge_agent("enroll", "cam-1.json", "--state", "state", "--config-out", "agent.toml", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "next: edit agent.toml" in made.stdout
    assert (tmp_path / "state" / "enrolment.json").stat().st_mode & 0o777 == 0o600
    FolderUpdates(tmp_path / "state", releases).install(1)
    np.savez(tmp_path / "x.npz", x=digits(500, seed=3)[0])
    (tmp_path / "camera.py").write_text(CAMERA)
    (tmp_path / "agent.toml").write_text(
        textwrap.dedent(f"""
        state = "state"
        model = "digits"
        [source]
        kind = "command"
        command = {json.dumps([sys.executable, *(str(tmp_path / name) for name in ("camera.py", "x.npz", "pid"))])}
        [[sinks]]
        kind = "file"
        path = "answers.jsonl"
        [report]
        every_seconds = 0.5
        [outbox]
        group_rows = 1
        [selection]
        measure_seconds = 0.05
        """)
    )
    with (
        Listener(broker.port, EVERYTHING) as controller,
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "edge_agent.cli", "run", "agent.toml"], cwd=tmp_path, stderr=log
        ) as process,
    ):
        try:
            # retained at QoS 0, so it does not wait for anything but the answers
            controller.wait(lambda found: every(found, State) and every(found, State)[-1].samples > 300)
            controller.wait(lambda found: every(found, Report))
            assert every(controller.messages, State)[-1].errors == 1
            second = edge_agent("run", "agent.toml", cwd=tmp_path)
            assert second.returncode == 1
            assert f"another agent (process {process.pid})" in second.stderr
            assert len(second.stderr.splitlines()) == 1
            alive = edge_agent("status", "agent.toml", cwd=tmp_path)
            assert alive.returncode == 0, alive.stderr
            assert f"running, process {process.pid}" in alive.stdout
            assert "release 1" in alive.stdout
            assert "connected for" in alive.stdout
            camera = int((tmp_path / "pid").read_text())
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
            with pytest.raises(ProcessLookupError):
                os.kill(camera, 0)
        finally:
            process.kill()
        found = controller.wait(lambda found: json.loads(_status(found))["state"] == "offline")
        assert sum(r.samples for r in every(found, Report)) > 0
    text = (tmp_path / "log").read_text()
    assert "Traceback" not in text
    assert "runs digits/1" in text
    ids = [json.loads(line)["id"] for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert ids == [f"cam-{i}" for i in range(len(ids))]
    dead = edge_agent("status", "state", "--json", cwd=tmp_path)
    assert dead.returncode == 1
    found = json.loads(dead.stdout)
    assert (found["running"], found["installed"], found["outbox_rows"]) == (False, {"digits": 1}, 0)
    assert msgspec.convert(found["agent"], AgentStatus).samples == len(ids)


def _status(found) -> bytes:
    return [m for m in found if m.topic.endswith("/up/status")][-1].payload


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["run", "missing.toml"], 2, "missing.toml: no such file"),
        (["run", "bad.toml"], 2, "bad.toml:1: unknown key 'stat'"),
        (["run", "agent.toml"], 2, "is not enrolled; first run: edge-agent enroll"),
        (["run", "model.onnx"], 2, "model.onnx: no such file"),
        (["run", "empty", "--token-file", "t"], 2, "--token-file is for --http HOST:PORT"),
        (["run", "agent.toml", "--resize"], 2, "--resize is for running a model file or release"),
        (["enroll", "missing.json"], 2, "enrolment file cannot be read"),
        (["enroll", "bad.toml"], 2, "not an enrolment file"),
        (["enroll", "cam-1.json", "--check"], 1, "the broker at 127.0.0.1:9 cannot be reached"),
        (["enroll", "empty"], 2, "cannot be read: it is a directory, not a file"),
        (["status", "nowhere"], 2, "nowhere: no such file or directory"),
        (["status", "empty"], 2, "is no agent's state directory"),
    ],
)
def test_mistakes_get_one_clear_line(tmp_path, monkeypatch, capsys, root, words, code, text):
    from edge_agent.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.toml").write_text('stat = "x"\n')
    (tmp_path / "agent.toml").write_text('state = "s"\nmodel = "digits"\n[source]\nkind = "stdin"\n')
    save_enrolment(msgspec.structs.replace(enrolment(9), root=root), tmp_path / "cam-1.json")
    assert main(words) == code
    error = capsys.readouterr().err
    assert text in error
    assert len(error.splitlines()) == 1
