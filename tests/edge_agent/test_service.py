from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import pytest

from edge_agent.config import (
    AgentConfig,
    CommandSource,
    FileSink,
    NpzSource,
    OutboxConfig,
    PredictionSink,
    ReportConfig,
    SelectionConfig,
)
from edge_agent.link import LinkConfig
from edge_agent.service import loop, updating
from edge_agent.service.loop import Service
from edge_agent.state import AgentStatus, StateDirectory
from edge_agent.updates.slots import Installed, Slots
from shared import topics
from shared.enrolment import BrokerAddress, Enrolment, save_enrolment
from shared.errors import ConfigError, LinkError, SelfTestError
from shared.manifest import DriftPolicy, load_manifest, save_manifest
from shared.messages import (
    AnswerRecord,
    Command,
    Desired,
    Event,
    Reply,
    Report,
    Reported,
    Samples,
    State,
    decode,
    encode,
)
from tests.brokers import Listener
from tests.releases import digits, make_release

FAST = LinkConfig(settle=0, backoff_first=0.1, backoff_most=0.3, will_delay=1)
EVERYTHING = "sanderling/v1/#"
DRIFT = DriftPolicy(false_alarm_every=10_000)


@pytest.fixture(scope="module")
def releases(tmp_path_factory) -> Path:
    """Releases 1, 2, 3; 4 answers differently than its golden samples say."""
    root = tmp_path_factory.mktemp("releases")
    make_release(root / "1", version=1, variants=("fp32-onnx", "int8-onnx"), drift=DRIFT)
    for version in (2, 3, 4):
        shutil.copytree(root / "1", root / str(version))
        manifest = msgspec.structs.replace(load_manifest(root / "1"), version=version)
        if version == 4:
            with np.load(root / "4" / "golden.npz") as file:
                golden = dict(file)
            for name in golden:
                if name.startswith("scores."):
                    golden[name] = golden[name][:, ::-1]
            np.savez(root / "4" / "golden.npz", **golden)
            from shared.manifest import reference_file

            manifest = msgspec.structs.replace(manifest, golden=reference_file(root / "4", "golden.npz"))
        save_manifest(manifest, root / str(version))
    return root


class FolderUpdates:
    """Updates from a folder of releases instead of a signed repository; real slots."""

    def __init__(self, state: Path, releases: Path) -> None:
        self.slots = Slots(state / "models" / "digits", "digits")
        self.releases = releases
        self.failures: list[Exception] = []
        self.current, self.commit, self.discard = self.slots.current, self.slots.commit, self.slots.discard

    def fetch(self, version, wanted) -> Installed:
        if self.failures:
            raise self.failures.pop(0)
        assert wanted(load_manifest(self.releases / str(version)))
        slot, path = self.slots.free()
        shutil.copytree(self.releases / str(version), path, dirs_exist_ok=True)
        return Installed(version, path, slot)

    def install(self, version: int) -> None:
        self.commit(self.fetch(version, lambda manifest: manifest.variants))


def enrolment(port: int) -> Enrolment:
    return Enrolment(
        format=1,
        site="plant",
        device="cam-1",
        models=("digits",),
        broker=BrokerAddress("127.0.0.1", port),
        repository="http://127.0.0.1:9/",
        root={},
        floors={},
        not_before=0.0,
        created="2026-01-01T00:00:00Z",
    )


class Agent:
    """A service in a thread of this process, and a controller's client beside it."""

    def __init__(self, tmp_path: Path, releases: Path, port: int, **changes) -> None:
        self.path = tmp_path
        self.state = StateDirectory(tmp_path / "state")
        self.state.root.mkdir(exist_ok=True)
        self.answers = tmp_path / "answers.jsonl"
        self.updates = FolderUpdates(self.state.root, releases)
        self.port = port
        self.config = msgspec.structs.replace(
            AgentConfig(
                state=str(self.state.root),
                model="digits",
                source=NpzSource(path=str(tmp_path / "x.npz"), rate_hz=400.0),
                sinks=(FileSink(path=str(self.answers)),),
                selection=SelectionConfig(measure_seconds=0.01),
                report=ReportConfig(every_seconds=0.5),
                outbox=OutboxConfig(group_rows=1),
            ),
            **changes,
        )

    def samples(self, n: int, **camera) -> None:
        x, _ = digits(n, **camera)
        np.savez(self.path / "x.npz", x=x, ids=[f"s{i}" for i in range(n)])

    def __enter__(self) -> Self:
        self.service = Service(self.config, enrolment(self.port), self.state, self.updates, link=FAST)
        self.errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def _run(self) -> None:
        try:
            self.service.run()
        except BaseException as error:
            self.errors.put(error)
            raise

    def __exit__(self, *_) -> None:
        self.service.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()
        assert self.errors.empty()

    def ids(self) -> list[str]:
        return [msgspec.json.decode(line, type=AnswerRecord).id for line in self.answers.read_bytes().splitlines()]


def desire(controller: Listener, release: int) -> None:
    message = Desired(model="digits", release=release, time=time.time())
    controller.publish(topics.down("plant", "cam-1", "desired", "digits"), encode(message), retain=True)


def command(controller: Listener, verb: str, id_: str, **fields) -> Reply:
    controller.publish(topics.down("plant", "cam-1", "cmd", verb), encode(Command(id=id_, model="digits", **fields)))
    controller.wait(lambda found: any(reply.id == id_ for reply in every(found, Reply)))
    return next(reply for reply in every(controller.messages, Reply) if reply.id == id_)


LEAVES = {Reply: "/up/reply/", Report: "/up/report/", Event: "/up/event/", Samples: "/up/samples/"}
LEAVES |= {State: "/up/state/", Reported: "/up/reported/"}


def every(messages, type_) -> list:
    return [decode(m.payload, type_, m.content_type) for m in messages if LEAVES[type_] in m.topic]


def runs(release: int):
    return lambda found: (reported := every(found, Reported)) and reported[-1].release == release


def test_a_desired_release_is_taken_and_the_stream_reported(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port)
    agent.samples(800, seed=5)
    with Listener(broker.port, EVERYTHING) as controller, agent:
        controller.wait(lambda found: every(found, Reported))
        assert every(controller.messages, Reported)[0].release == 0
        desire(controller, 1)
        found = controller.wait(lambda found: sum(r.samples for r in every(found, Report)) >= 512)
        reported = every(found, Reported)[-1]
        assert (reported.release, reported.slot, reported.baseline) == (1, "a", "default")
        assert [row.variant for row in reported.selection if row.chosen] == [reported.variant]
        assert len(reported.selection) == 2
        report = every(found, Report)[0]
        assert sum(next(iter(report.counts.values()))) == report.samples
        assert report.profile == agent.service._releases.engine.monitor.profile.digest
        assert {e.kind for e in every(found, Event)} == {"update"}
        state = every(controller.wait(lambda f: every(f, State) and every(f, State)[-1].samples), State)[-1]
        assert (state.release, state.variant) == (1, reported.variant)
    assert agent.ids() == [f"s{i}" for i in range(len(agent.ids()))]
    with Listener(broker.port, EVERYTHING) as late:
        retained = {"status", "info", "state/digits", "reported/digits"}
        late.wait(lambda found: {m.topic.partition("/up/")[2] for m in found if "/up/" in m.topic} == retained)


def test_before_the_first_report_the_rate_is_known_and_samples_without_ids_have_some(
    broker, tmp_path, releases, monkeypatch
):
    monkeypatch.setattr(loop, "STATUS_SECONDS", 0.2)
    agent = Agent(tmp_path, releases, broker.port, report=ReportConfig(every_seconds=3600.0))
    agent.updates.install(1)
    np.savez(tmp_path / "x.npz", x=digits(2000, seed=5)[0])
    for _ in range(2):  # the same samples again in another process are other samples
        with agent:
            end = time.monotonic() + 20
            while not ((status := agent.state.read(agent.state.status, AgentStatus)) and status.rate_hz > 100):
                assert time.monotonic() < end, status
                time.sleep(0.05)
            assert status.last_report == 0
        agent.state.status.unlink()
    ids = agent.ids()
    assert len(set(ids)) == len(ids)


def test_a_bad_release_is_refused_and_the_good_one_runs_on_without_losing_a_sample(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port)
    agent.samples(4000, seed=6)
    agent.updates.install(1)
    with Listener(broker.port, EVERYTHING) as controller, agent:
        controller.wait(runs(1))
        desire(controller, 4)
        found = controller.wait(lambda found: any(r.refused == 4 for r in every(found, Reported)))
        refused = every(found, Reported)[-1]
        assert refused.release == 1
        assert "golden samples differ" in refused.error
        controller.wait(lambda found: any(e.kind == "fault" and e.release == 4 for e in every(found, Event)))
        desire(controller, 2)
        controller.wait(runs(2))
        found = controller.wait(lambda found: any(r.release == 2 and r.samples for r in every(found, Report)))
        releases_seen = [r.release for r in every(found, Report)]
        assert releases_seen == sorted(releases_seen)
    assert agent.updates.current().version == 2
    assert agent.ids() == [f"s{i}" for i in range(len(agent.ids()))]


def test_a_repository_that_is_away_is_tried_again(broker, tmp_path, releases, monkeypatch):
    monkeypatch.setattr(updating, "RETRY_FIRST_SECONDS", 0.05)
    agent = Agent(tmp_path, releases, broker.port)
    agent.samples(10)
    agent.updates.failures = [LinkError("repository not reachable")] * 3
    with Listener(broker.port, EVERYTHING) as controller, agent:
        controller.wait(lambda found: every(found, Reported))
        desire(controller, 1)
        found = controller.wait(runs(1))
        errors = [r.error for r in every(found, Reported) if r.error]
        assert len(errors) == 1
        assert "repository not reachable; trying again" in errors[0]
        assert not [r for r in every(found, Reported) if r.refused]


def test_what_is_desired_is_remembered_across_restarts(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port)
    agent.samples(10)
    agent.updates.failures = [SelfTestError("not today")]
    with Listener(broker.port, EVERYTHING) as controller:
        with agent:
            controller.wait(lambda found: every(found, Reported))
            desire(controller, 1)
            controller.wait(lambda found: any(r.refused == 1 for r in every(found, Reported)))
        with agent:
            controller.wait(runs(1))


def test_drift_is_told_once_until_it_is_acknowledged_also_across_a_restart(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port)
    agent.updates.install(1)
    agent.samples(1500, seed=7, contrast=0.3, noise=60)
    with Listener(broker.port, EVERYTHING) as controller:

        def alarms(found) -> list[Event]:
            return [event for event in every(found, Event) if event.kind == "drift"]

        with agent:
            found = controller.wait(alarms)
            alarm = alarms(found)[0]
            assert (alarm.release, alarm.level) == (1, "warning")
            assert alarm.details["evidence"] >= 1
            assert alarm.details["features"]
            assert alarm.details["effects"]
            assert alarm.details["at"] > 0
            controller.wait(lambda found: any(r.evidence >= 1 for r in every(found, Report)))
        agent.samples(600, seed=8, contrast=0.3, noise=60)
        with agent:
            boot = agent.service._outbox.boot
            controller.wait(lambda found: sum(r.samples for r in every(found, Report) if r.boot == boot) > 500)
            assert len(alarms(controller.messages)) == 1
            assert command(controller, "acknowledge", "ack-1", keep=False).ok
        agent.samples(1500, seed=9, contrast=0.3, noise=60)
        with agent:
            controller.wait(lambda found: len(alarms(found)) == 2)


def test_commands_are_answered(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port, report=ReportConfig(every_seconds=600.0))
    agent.updates.install(1)
    agent.samples(8000, seed=1)
    with Listener(broker.port, EVERYTHING) as controller, agent:
        controller.wait(runs(1))
        assert "no such command" in command(controller, "dance", "c0").text
        assert command(controller, "report", "c1").ok
        controller.wait(lambda found: every(found, Report))
        assert command(controller, "select", "c2").ok
        assert command(controller, "pause", "c3").ok
        time.sleep(0.1)
        answered = agent.service._releases.engine.health.samples
        time.sleep(0.2)
        assert agent.service._releases.engine.health.samples == answered
        assert command(controller, "resume", "c4").ok
        controller.publish(topics.down("plant", "cam-1", "cmd", "report"), b'{"no": "id"}')
        controller.publish(topics.down("plant", "cam-1", "cmd", "pause"), encode(Command(id="c3")))
        controller.wait(lambda found: sum(reply.id == "c3" for reply in every(found, Reply)) == 2)
        assert not agent.service._paused  # the same command again is answered again, but not done again
        other = Command(id="c5", model="faces")
        controller.publish(topics.down("plant", "cam-1", "cmd", "report"), encode(other))
        found = controller.wait(lambda found: any(reply.id == "c5" for reply in every(found, Reply)))
        assert not next(reply for reply in every(found, Reply) if reply.id == "c5").ok


def test_each_of_several_commands_to_select_again_is_answered(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port, selection=SelectionConfig(measure_seconds=0.3))
    agent.updates.install(1)
    agent.samples(4000, seed=1)
    with Listener(broker.port, EVERYTHING) as controller, agent:
        controller.wait(runs(1))
        ids = {"one", "two", "three", "four"}
        for id_ in ids:
            message = Command(id=id_, model="digits")
            controller.publish(topics.down("plant", "cam-1", "cmd", "select"), encode(message))
        found = controller.wait(lambda found: {reply.id for reply in every(found, Reply)} >= ids)
        replies = [reply for reply in every(found, Reply) if reply.verb == "select"]
        assert len(replies) == 4
        assert any(reply.ok for reply in replies)
        assert any("already" in reply.text for reply in replies if not reply.ok)


def test_a_disk_that_takes_no_measurements_stops_no_release(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port)
    agent.updates.install(1)
    agent.samples(400, seed=1)
    (agent.state.selection / "in the way").mkdir(parents=True)
    with Listener(broker.port, EVERYTHING) as controller, agent:
        controller.wait(runs(1))


def test_samples_that_are_not_there_are_told_at_the_start_and_not_with_the_first_release(tmp_path, releases):
    agent = Agent(tmp_path, releases, 9)
    with pytest.raises(ConfigError, match=r"x\.npz: source: no such file"):
        Service(agent.config, enrolment(9), agent.state, agent.updates, link=FAST)


def test_samples_that_are_bad_in_many_ways_do_not_fill_the_log(broker, tmp_path, releases, caplog):
    agent = Agent(tmp_path, releases, broker.port)
    agent.updates.install(1)
    code = "import itertools\nfor n in itertools.count(1): print('{\"values\": [' + '0,' * (n % 200) + '0]}')"
    source = CommandSource(command=(sys.executable, "-c", code))
    agent.config = msgspec.structs.replace(agent.config, source=source)
    with Listener(broker.port, EVERYTHING) as controller, agent:
        controller.wait(lambda found: every(found, State) and every(found, State)[-1].errors > 500)
    assert 1 <= caplog.text.count("bad samples so far") <= 2


def test_a_release_that_cannot_be_made_current_is_discarded(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port)
    agent.updates.install(1)
    agent.samples(4000, seed=1)

    def full(_installed):
        raise OSError(28, "No space left on device")

    agent.updates.commit = full
    with Listener(broker.port, EVERYTHING) as controller, agent:
        controller.wait(runs(1))
        desire(controller, 2)
        found = controller.wait(lambda found: any(r.refused == 2 for r in every(found, Reported)))
        assert every(found, Reported)[-1].release == 1
    assert agent.updates.current().version == 1
    assert not (agent.state.root / "models" / "digits" / "b").exists()


def test_samples_of_an_unfinished_window_are_reported_with_their_release(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port, report=ReportConfig(every_seconds=600.0))
    agent.updates.install(1)
    agent.samples(4000, seed=6)
    with Listener(broker.port, EVERYTHING) as controller:
        with agent:
            controller.wait(runs(1))
            desire(controller, 2)
            controller.wait(runs(2))
            time.sleep(0.3)
        reports = every(controller.wait(lambda found: len(every(found, Report)) == 2), Report)
    assert [r.release for r in reports] == [1, 2]
    assert sum(r.samples for r in reports) == len(agent.ids())


def test_samples_come_in_chunks_stored_ones_first_until_there_are_enough(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port)
    agent.config = msgspec.structs.replace(agent.config, source=NpzSource(path=str(tmp_path / "x.npz"), rate_hz=2000.0))
    agent.updates.install(1)
    agent.samples(6000, seed=1)
    x = np.load(tmp_path / "x.npz")["x"]
    with Listener(broker.port, EVERYTHING) as controller, agent:
        controller.wait(lambda found: sum(r.samples for r in every(found, Report)) > 200)
        reply = command(controller, "samples", "q1", count=3000)
        assert reply.ok
        found = controller.wait(lambda found: any(s.last for s in every(found, Samples)))
        chunks = every(found, Samples)
        assert [c.chunk for c in chunks] == list(range(len(chunks)))
        assert all(c.request == "q1" and len(c.data) <= 256 << 10 for c in chunks)
        ids = [name for c in chunks for name in c.ids]
        assert len(ids) == len(set(ids)) == 3000
        sent = np.concatenate([np.frombuffer(c.data, c.dtype).reshape(-1, *c.shape) for c in chunks])
        np.testing.assert_array_equal(sent, x[[int(name[1:]) for name in ids]])
        assert all(len(c.labels) == len(c.scores) == len(c.ids) for c in chunks)
        refused = command(controller, "samples", "q2", count=10_000_000)
        assert not refused.ok
        assert "at most" in refused.text


def test_a_device_that_does_not_share_sends_no_samples(broker, tmp_path, releases):
    from edge_agent.config import SamplesConfig

    agent = Agent(tmp_path, releases, broker.port, samples=SamplesConfig(share=False))
    agent.updates.install(1)
    agent.samples(10)
    with Listener(broker.port, EVERYTHING) as controller, agent:
        controller.wait(runs(1))
        assert "does not share" in command(controller, "samples", "q", count=5).text


def test_predictions_go_to_the_broker(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port, sinks=(PredictionSink(batch=20),))
    agent.updates.install(1)
    agent.samples(400)
    with Listener(broker.port, EVERYTHING) as controller, agent:
        controller.wait(lambda found: sum("/up/prediction/" in m.topic for m in found) >= 3)


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


def test_a_damaged_release_at_start_is_told_and_the_agent_lives(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port)
    agent.updates.install(1)
    for file in (agent.updates.current().path / "variants").iterdir():
        file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    agent.samples(50)
    with Listener(broker.port, EVERYTHING) as controller, agent:
        found = controller.wait(lambda found: any(r.refused == 1 for r in every(found, Reported)))
        assert "damaged" in every(found, Reported)[-1].error
        desire(controller, 1)
        controller.wait(runs(1))


def test_a_damaged_outbox_is_told_and_replaced(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port)
    agent.samples(10)
    agent.state.outbox.write_bytes(b"rubbish" * 1000)
    with Listener(broker.port, EVERYTHING) as controller, agent:
        found = controller.wait(lambda found: every(found, Event))
        assert "outbox was damaged" in every(found, Event)[0].text


def test_a_camera_that_dies_is_started_again_while_the_agent_runs(broker, tmp_path, releases):
    x, _ = digits(3)
    line = json.dumps({"values": x[0].tolist()})
    source = CommandSource(command=(sys.executable, "-c", f"print('''{line}''')"), restart_seconds=0.01)
    agent = Agent(tmp_path, releases, broker.port, source=source)
    agent.updates.install(1)
    with Listener(broker.port, EVERYTHING) as controller, agent:
        controller.wait(lambda found: every(found, State) and every(found, State)[-1].samples >= 3)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["run", "missing.toml"], 2, "missing.toml: no such file"),
        (["run", "bad.toml"], 2, "bad.toml:1: unknown key 'stat'"),
        (["run", "agent.toml"], 2, "is not enrolled; first run: edge-agent enroll"),
        (["run", "model.onnx"], 2, "expected the agent's configuration"),
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
