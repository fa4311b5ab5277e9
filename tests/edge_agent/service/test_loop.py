from __future__ import annotations

import json
import sys
import time

import msgspec
import numpy as np
import pytest

from edge_agent.config import (
    CommandSource,
    NpzSource,
    PredictionSink,
    ReportConfig,
    SelectionConfig,
)
from edge_agent.service import loop, updating
from edge_agent.service.loop import Service
from edge_agent.state import AgentStatus
from shared import topics
from shared.errors import ConfigError, LinkError, SelfTestError
from shared.messages import (
    Command,
    Event,
    Feedback,
    Reply,
    Report,
    Reported,
    Samples,
    State,
    encode,
)
from tests.brokers import Listener
from tests.edge_agent.service.agents import EVERYTHING, FAST, Agent, command, desire, enrolment, every, runs
from tests.releases import LABELS, digits


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


def test_truths_that_say_worse_are_told_as_an_alarm_once_also_across_a_restart(broker, tmp_path, releases):
    agent = Agent(tmp_path, releases, broker.port)
    agent.updates.install(1)
    agent.samples(2000, seed=7)
    with Listener(broker.port, EVERYTHING) as controller:

        def alarms(found) -> list[Event]:
            return [event for event in every(found, Event) if event.kind == "drift"]

        with agent:
            controller.wait(lambda found: sum(r.samples for r in every(found, Report)) > 200)
            engine = agent.service._releases.engine
            for k in range(100):
                said = LABELS.index(engine._memory.said(f"s{k}"))
                assert engine.feedback(f"s{k}", LABELS[(said + 1) % 10]) is False
            alarm = alarms(controller.wait(alarms))[0]
            assert alarm.details["features"] == ["accuracy"]
            assert alarm.details["truth_evidence"] >= 1 > alarm.details["evidence"]
            assert "have become worse" in alarm.text
            found = controller.wait(lambda found: sum(r.truths for r in every(found, Report)) == 100)
            assert {r.accuracy for r in every(found, Report) if r.truths} == {0.0}
            controller.wait(lambda found: every(found, State)[-1].accuracy == 0.0)
            controller.wait(lambda found: sum(len(f.labels) for f in every(found, Feedback)) == 100)
        with agent:
            boot = agent.service._outbox.boot
            found = controller.wait(lambda found: [r for r in every(found, Report) if r.boot == boot and r.samples])
            assert every(found, Report)[-1].truth_evidence >= 1
            assert len(alarms(controller.messages)) == 1


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
        assert not agent.service._answering.paused  # the same command again is answered again, but not done again
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
