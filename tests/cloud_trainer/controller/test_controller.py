"""Ticks driven by hand: from a drift to a release that runs everywhere, and every way in which that fails."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from cloud_trainer.config import load_task
from cloud_trainer.controller import records, schema
from cloud_trainer.controller.controller import Controller
from cloud_trainer.controller.inbox import Arrived
from cloud_trainer.controller.ingest import commit_group
from cloud_trainer.controller.retrain import end_leftover
from cloud_trainer.controller.store import LogEntry, Store, write_log
from shared import messages, topics
from shared.errors import StoreError
from shared.manifest import load_manifest
from tests.cloud_trainer.controller.fake import (
    HERE,
    LABELS,
    MODEL,
    SITE,
    VARIANT,
    Site,
    drift_event,
    report,
    samples,
)

TRAIN = (sys.executable, str(HERE / "train_stub.py"))


class Wire:
    """A publisher that keeps what it gets."""

    def __init__(self) -> None:
        self.connects = 1
        self.up = True
        self.published: list[tuple[topics.Topic, messages.Message, bool]] = []
        self._sent: list[str] = []

    @property
    def online(self) -> bool:
        return self.up

    def publish(self, topic: str, message: messages.Message, *, retain: bool = False, token: str = "") -> bool:
        if not self.up:
            return False
        self.published.append((topics.parse(topic), message, retain))
        self._sent += [token] if token else []
        return True

    def take_sent(self) -> list[str]:
        sent, self._sent = self._sent, []
        return sent

    def of(self, kind: str, device: str) -> list[messages.Message]:
        return [m for topic, m, _ in self.published if topic.kind == kind and topic.device == device]


class Bench:
    """A controller, its wire, and a clock that the test turns."""

    def __init__(self, site: Site) -> None:
        self.site, self.wire, self.now = site, Wire(), 1_000_000.0
        self.sequence = 0
        self.store = Store.in_workspace(site.workspace)
        self.controller = self.restart()

    def restart(self) -> Controller:
        """A new controller on the same rows, as after a kill: the old one does not get to say goodbye."""
        tasks = [(self.site.task, load_task(self.site.task))]
        self.controller = Controller(
            self.store, self.site.registry, tasks, SITE, self.site.workspace, self.wire, train_command=TRAIN
        )
        return self.controller

    def put(self, kind: str, message: messages.Message, name: str = "", device: str = "cam-1") -> None:
        topic = topics.truth(SITE, device, name) if kind == "truth" else topics.up(SITE, device, kind, name)
        complaints: list[str] = []
        commit_group(
            self.store, SITE, [Arrived(topic, messages.encode(message), messages.JSON, self.now)], complaints.append
        )
        assert complaints == []

    def next(self) -> int:
        self.sequence += 1
        return self.sequence

    def runs(self, device: str, release: int, **more) -> None:
        self.put("status", messages.Status(device=device, state="online"), device=device)
        reported = messages.Reported(
            device=device, model=MODEL, time=self.now, release=release, variant=VARIANT, **more
        )
        self.put("reported", reported, MODEL, device)

    def window(self, device: str, *, drifted: bool = False, number: int = 1, **more) -> None:
        made = report(self.site.release, device, self.next(), drifted=drifted, number=number, **more)
        self.put("report", made, MODEL, device)

    def alarm(self, device: str, release: int = 1) -> None:
        self.put("event", drift_event(device, self.next(), release=release), "drift", device)

    def tick(self, seconds: float = 1.0) -> None:
        """Time passes as it does: with a tick every now and then."""
        while seconds > 30:
            seconds -= 30
            self.tick(30)
        self.now += seconds
        self.controller.tick(self.now)

    def until_tick(self, state: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while self.state() != state:
            assert time.monotonic() < end, self.site.timeline()
            time.sleep(0.02)
            self.tick(0.02)

    def incident(self):
        with self.store.reading() as connection:
            return records.incidents_of(connection)[-1]

    def state(self) -> str:
        with self.store.reading() as connection:
            found = records.incidents_of(connection)
        return found[-1].state if found else ""

    def wishes(self, device: str) -> list[int]:
        return [m.release for m in self.wire.of("desired", device)]

    # the story, as far as a test wants it

    def start(self) -> None:
        for device in ("cam-1", "cam-2"):
            self.runs(device, 1)
        self.tick()

    def drift(self) -> None:
        self.start()
        self.alarm("cam-1")
        for _ in range(3):
            self.window("cam-1", drifted=True)
            self.window("cam-2")
        self.tick()

    def answer(self, n: int = 60, device: str = "cam-1") -> None:
        command = self.wire.of("cmd", device)[-1]
        chunk = samples(device, command.id, n, sequence=self.next())
        chunk.time = self.now
        self.put("samples", chunk, MODEL, device)

    def label(self, n: int = 120, device: str = "cam-1") -> None:
        labels = [messages.TruthLabel(id=f"{device}-{i}", label=LABELS[i % 10]) for i in range(n)]
        self.put("truth", messages.Truth(model=MODEL, source="test", labels=labels), MODEL, device)

    def train(self) -> None:
        self.drift()
        self.answer(60)
        self.tick()
        self.label()
        self.tick()


@pytest.fixture
def bench(site, monkeypatch):
    # 60 samples of one device must do in these tests
    monkeypatch.setattr("cloud_trainer.controller.incidents.MINIMUM_SAMPLES", 50)
    monkeypatch.setenv("PYTHONPATH", str(HERE.parents[2]))
    made = Bench(site)
    yield made
    made.controller.stop()
    made.store.close()


def test_from_a_drift_to_a_release_that_runs_everywhere(bench) -> None:
    bench.drift()
    assert bench.wishes("cam-1") == [1]
    incident = bench.incident()
    assert (incident.state, incident.devices) == ("collecting", ("cam-1",))
    assert incident.evidence > 1
    assert incident.effect > 0.2
    (asked,) = bench.wire.of("cmd", "cam-1")
    assert (asked.count, bench.wire.of("cmd", "cam-2")) == (60, [])
    bench.answer(60)
    bench.tick()
    assert bench.state() == "labelling"
    bench.label()
    bench.tick()
    assert bench.state() == "training"
    bench.until_tick("releasing")
    assert bench.site.registry.releases(MODEL) == [1, 2]
    assert load_manifest(bench.site.registry.release_path(MODEL, 2)).lineage.parent == 1

    bench.tick()
    assert (bench.wishes("cam-1"), bench.wishes("cam-2")) == ([1, 2], [1])  # the canary is an affected device
    bench.runs("cam-1", 2)
    bench.window("cam-1", number=2)
    bench.tick()
    assert bench.wishes("cam-2") == [1]  # 100 of 200 samples
    bench.window("cam-1", number=2)
    bench.tick()
    assert bench.wishes("cam-2") == [1, 2]
    bench.runs("cam-2", 2)
    bench.tick()
    bench.tick()
    assert bench.state() == "resolved"
    assert bench.site.states() == [
        "suspected",
        "confirmed",
        "collecting",
        "labelling",
        "training",
        "gating",
        "releasing",
        "resolved",
    ]
    assert bench.site.states("rollout") == ["staged", "canary", "expanding", "done"]
    lines = bench.site.timeline()
    assert [line["id"] for line in lines] == sorted({line["id"] for line in lines})
    (confirmed,) = [line for line in lines if line["state"] == "confirmed"]
    assert confirmed["incident"] == 1
    assert confirmed["text"].startswith("cam-1 drifted: evidence is ")

    bench.runs("cam-9", 0)  # who comes late gets what the fleet runs
    bench.tick()
    assert bench.wishes("cam-9") == [2]


def test_a_clean_fleet_has_no_incident(bench) -> None:
    bench.start()
    for _ in range(10):
        bench.window("cam-1")
        bench.window("cam-2")
        bench.tick()
    assert bench.state() == ""
    assert bench.site.states("release") == ["current"]


def test_a_false_alarm_of_a_device_is_dismissed_and_acknowledged(bench) -> None:
    bench.start()
    bench.alarm("cam-1")
    bench.tick()
    assert bench.state() == "suspected"
    for _ in range(20):
        bench.window("cam-1")
        bench.window("cam-2")
    bench.tick()
    assert bench.state() == "dismissed"
    (command,) = bench.wire.of("cmd", "cam-1")
    assert command.keep
    bench.tick()
    assert bench.site.states() == ["suspected", "dismissed"]
    assert len(bench.wire.of("cmd", "cam-1")) == 1


def test_a_device_that_sends_too_little_is_asked_again_for_the_rest(bench) -> None:
    bench.drift()
    bench.answer(20)
    bench.tick(0.5)
    assert len(bench.wire.of("cmd", "cam-1")) == 1
    bench.tick(1)
    first, second = bench.wire.of("cmd", "cam-1")
    assert second.id != first.id
    assert (second.count, second.since) == (40, bench.now - 1.5)
    bench.put("samples", samples("cam-1", second.id, 40, start=20, sequence=bench.next()), MODEL)
    bench.tick()
    assert bench.state() == "labelling"


def test_a_device_that_has_no_more_samples_does_not_hold_the_others_up(bench) -> None:
    bench.drift()
    bench.answer(55)
    for _ in range(20):
        if bench.state() != "collecting":
            break
        bench.tick(10)
        command = bench.wire.of("cmd", "cam-1")[-1]
        bench.put("samples", samples("cam-1", command.id, 0, sequence=bench.next()), MODEL)
    assert bench.state() == "labelling"


def test_a_request_that_nobody_answers_is_sent_again(bench) -> None:
    bench.drift()
    bench.tick(1)
    bench.tick(31)
    bench.tick(1)
    first, again = bench.wire.of("cmd", "cam-1")
    assert first.id == again.id


def test_while_the_broker_is_down_wishes_wait_and_after_it_all_are_told_again(bench) -> None:
    bench.wire.up = False
    bench.start()
    assert bench.wire.published == []
    bench.wire.up = True
    bench.wire.connects += 1
    bench.drift()
    assert bench.wishes("cam-1") == [1]
    assert len(bench.wire.of("cmd", "cam-1")) == 1
    bench.wire.connects += 1
    bench.tick()
    assert bench.wishes("cam-1") == [1, 1]
    assert all(retain for topic, _, retain in bench.wire.published if topic.kind == "desired")


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"fail": "candidate 2 is worse on the old hold-out (0.91 < 0.97)"}, "worse on the old hold-out"),
        ({"gates": False}, "no"),
    ],
)
def test_a_candidate_that_fails_its_gates_is_not_released(bench, behaviour, reason) -> None:
    bench.site.directory.joinpath("trainer.json").write_text(json.dumps(behaviour))
    bench.train()
    bench.until_tick("dismissed")
    assert reason in bench.incident().reason
    assert bench.site.registry.releases(MODEL) == [1]
    for _ in range(5):  # the drift is still there, but another training would end in the same way
        bench.window("cam-1", drifted=True)
        bench.tick()
    assert bench.site.states().count("suspected") == 1
    bench.tick(3600)
    assert bench.site.states().count("suspected") == 2


def test_a_training_takes_too_long_and_is_ended_with_its_group(bench) -> None:
    bench.site.directory.joinpath("trainer.json").write_text(json.dumps({"wait_for": "/nonexistent"}))
    bench.train()
    pid = bench.incident().pid
    assert Path(f"/proc/{pid}").exists()
    bench.tick(61)
    assert bench.state() == "dismissed"
    assert not Path(f"/proc/{pid}").exists()


def test_a_training_that_is_killed_is_started_again_in_a_clean_directory(bench) -> None:
    go = bench.site.directory / "go"
    bench.site.directory.joinpath("trainer.json").write_text(json.dumps({"wait_for": str(go)}))
    bench.train()
    first = bench.incident()
    import os

    os.kill(first.pid, signal.SIGKILL)
    while bench.incident().attempt == 1:
        time.sleep(0.02)
        bench.tick(0.02)
    go.touch()
    bench.until_tick("releasing")
    assert bench.incident().attempt == 2


@pytest.mark.parametrize("noted", [True, False])
def test_a_controller_that_starts_again_ends_the_training_that_is_left_and_only_that(bench, noted) -> None:
    go = bench.site.directory / "go"
    bench.site.directory.joinpath("trainer.json").write_text(json.dumps({"wait_for": str(go)}))
    bench.train()
    left = bench.controller._incidents[0]._run
    if not noted:  # killed between the start of the training and the commit of its number
        with bench.store.transaction() as connection:
            records.save_incident(connection, msgspec.structs.replace(bench.incident(), pid=0))
    bench.restart()
    bench.tick()
    assert left._process.wait(5) == -signal.SIGTERM
    assert bench.incident().attempt == 2
    attempt = bench.site.workspace / "incidents/1/attempt-9"
    sleep = [sys.executable, "-c", "import time; time.sleep(60)", str(attempt / "candidate")]
    with subprocess.Popen(sleep, start_new_session=True) as stranger:  # who reads there, but is no training
        assert not end_leftover(attempt)
        assert stranger.poll() is None
        stranger.kill()
    go.touch()
    bench.until_tick("releasing")


def test_a_damaged_candidate_is_not_released(bench) -> None:
    bench.train()
    run = bench.controller._incidents[0]._run
    while run._process.poll() is None:
        time.sleep(0.02)
    (bench.site.workspace / "incidents/1/attempt-1/candidate/golden.npz").write_bytes(b"")
    bench.tick()
    assert bench.state() == "dismissed"
    assert "golden.npz" in bench.incident().reason


def released(bench) -> None:
    bench.train()
    bench.until_tick("releasing")
    bench.tick()
    assert bench.wishes("cam-1")[-1] == 2


def test_a_canary_that_becomes_slow_with_the_new_release_brings_everyone_back(bench) -> None:
    released(bench)
    bench.runs("cam-1", 2)
    for _ in range(2):
        bench.window("cam-1", number=2, p50_us=2400.0, p99_us=2600.0)
    bench.tick()
    assert bench.site.states("rollout")[-1] == "aborted"
    assert bench.wishes("cam-1")[-1] == 1
    assert bench.site.timeline()[-1]["text"] == "release 2: cam-1: p50 is 2400 us, 120 us before"


def test_a_canary_on_a_busy_machine_goes_on(bench) -> None:
    released(bench)
    bench.runs("cam-1", 2)
    for _ in range(3):
        bench.window("cam-1", number=2, p50_us=180.0, p99_us=3849.0)
    bench.tick()
    assert bench.site.states("rollout")[-1] in {"canary", "expanding"}


def test_a_canary_that_drifts_on_the_new_release_brings_everyone_back(bench) -> None:
    released(bench)
    bench.runs("cam-1", 2)
    bench.alarm("cam-1", release=2)
    bench.tick()
    assert bench.wishes("cam-1") == [1, 2, 1]
    assert bench.site.states("rollout")[-1] == "aborted"
    bench.runs("cam-1", 1)
    bench.tick()
    bench.tick()
    assert bench.site.states("rollout")[-1] == "rolled_back"
    assert bench.state() == "dismissed"
    assert "drift alarm on the new release" in bench.incident().reason
    bench.restart()  # a release that was rolled back is not the newest to run
    bench.tick()
    assert set(bench.wishes("cam-2")) == {1}


def test_a_device_that_refuses_the_release_brings_everyone_back(bench) -> None:
    released(bench)
    bench.runs("cam-1", 1, refused=2, error="the self-test fails")
    bench.tick()
    bench.tick()
    assert "cam-1 refused it: the self-test fails" in bench.incident().reason
    assert bench.wishes("cam-1")[-1] == 1


def test_somebody_publishes_the_same_number_meanwhile(bench, tmp_path) -> None:
    from tests.releases import make_release

    go = bench.site.directory / "go"
    bench.site.directory.joinpath("trainer.json").write_text(json.dumps({"wait_for": str(go)}))
    bench.train()
    make_release(tmp_path / "other", version=2, variants=[VARIANT])
    bench.site.registry.publish(tmp_path / "other", now=time.time())
    bench.tick()
    assert bench.site.states("rollout") == ["staged", "canary"]  # a person's release is tried first, too
    bench.runs("cam-1", 2)
    bench.window("cam-1", number=2)
    bench.window("cam-1", number=2)
    bench.tick()
    bench.runs("cam-2", 2)
    bench.tick()
    bench.tick()
    assert bench.state() == "dismissed"
    assert "went on to release 2" in bench.incident().reason


def test_a_published_release_is_adopted_after_a_kill_between_publishing_and_the_rollout(bench, monkeypatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    bench.train()
    with monkeypatch.context() as patch:
        patch.setattr(records, "add_rollout", killed)
        with pytest.raises(KeyboardInterrupt):
            bench.until_tick("resolved")
    assert bench.site.registry.releases(MODEL) == [1, 2]
    bench.restart()
    bench.tick()
    bench.tick()
    assert bench.incident().rollout == 1
    assert bench.wishes("cam-1")[-1] == 2


def test_the_timeline_survives_a_kill_in_the_middle_of_a_line(bench) -> None:
    bench.start()
    path = bench.site.workspace / "timeline.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"id": 99, "ti')
    bench.restart()
    bench.alarm("cam-1")
    bench.tick()
    assert path.read_text().startswith(whole)
    assert bench.site.states("alarm") == ["drift"]
    assert [line["id"] for line in bench.site.timeline()] == list(range(1, len(bench.site.timeline()) + 1))


def test_a_device_that_drifts_later_joins_and_is_asked_too(bench) -> None:
    bench.drift()
    bench.alarm("cam-2")
    bench.tick()
    assert bench.incident().devices == ("cam-1", "cam-2")
    assert len(bench.wire.of("cmd", "cam-2")) == 1
    bench.answer(60)
    bench.tick()
    assert bench.state() == "collecting"
    bench.answer(60, "cam-2")
    bench.tick()
    assert bench.state() == "labelling"


def test_at_most_one_incident_of_a_model_is_open(bench) -> None:
    bench.drift()
    bench.alarm("cam-2")
    bench.tick()
    with bench.store.reading() as connection:
        assert len(connection.execute(schema.incidents.select()).all()) == 1


def test_a_line_of_the_timeline_of_any_length_does_not_keep_the_controller_from_starting(bench) -> None:
    bench.start()
    with bench.store.transaction() as connection:
        write_log(connection, bench.now, [LogEntry("device", "cam-1", MODEL, "fault", "x" * 300_000)])
    bench.tick()
    bench.restart()
    bench.alarm("cam-1")
    bench.tick()
    assert [line["id"] for line in bench.site.timeline()] == list(range(1, len(bench.site.timeline()) + 1))


def test_a_disk_that_fills_up_within_a_line_leaves_no_half_and_no_double_line(bench, monkeypatch) -> None:
    bench.start()
    bench.alarm("cam-1")
    timeline, path, real = bench.controller._timeline, bench.site.workspace / "timeline.jsonl", Path.open

    def full(self: Path, mode: str = "r", **more):
        if self == path and mode == "a":
            with real(path, "a") as file:
                file.write('{"id": 999, "ti')
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, mode, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(StoreError, match="No space left"):
            timeline.copy(bench.store)
    bench.tick()
    assert [line["id"] for line in bench.site.timeline()] == list(range(1, len(bench.site.timeline()) + 1))


def test_time_in_which_nobody_can_be_heard_counts_against_no_limit(bench) -> None:
    bench.drift()
    bench.wire.up = False
    bench.tick(500)  # of 60 s to collect
    bench.wire.up = True
    bench.tick()
    assert bench.state() == "collecting"
    bench.now += 500  # the controller is down
    bench.restart()
    bench.tick()
    assert bench.state() == "collecting"
    bench.tick(61)
    assert bench.state() == "dismissed"


@pytest.mark.parametrize("seconds", [9_000_000, -900_000])
def test_a_clock_that_is_set_moves_the_limits_along(bench, seconds) -> None:
    released(bench)
    bench.now += seconds
    bench.tick()
    bench.tick(50)
    assert bench.site.states("rollout")[-1] == "canary"
    bench.tick(15)
    assert bench.site.states("rollout")[-1] == "rolled_back"


def test_signatures_are_renewed_after_a_clock_was_set_back_and_the_offline_roles_are_warned_about(
    bench, monkeypatch, caplog
) -> None:
    renewed: list[float] = []
    monkeypatch.setattr(bench.site.registry, "refresh", lambda now: bool(renewed.append(now)))
    monkeypatch.setattr(bench.site.registry, "offline_expiry", lambda: {"targets": bench.now + 30 * 86_400})
    bench.tick()
    bench.now -= 500_000
    bench.tick()
    assert len(renewed) == 2
    bench.tick(3600)
    assert len(renewed) == 3
    warnings = [record for record in caplog.records if "the targets role expires on" in record.getMessage()]
    assert len(warnings) == 2  # once a day of either clock


def test_a_device_that_gives_one_sample_at_a_time_for_days_is_asked_on(bench) -> None:
    bench.drift()
    with bench.store.transaction() as connection:
        (row,) = connection.execute(schema.commands.select()).all()
        values = row._asdict() | {"answered": bench.now, "ok": 1}
        for number in range(2, 2000):
            connection.execute(schema.commands.insert().values(values | {"id": f"x-{number}", "created": number}))
        connection.execute(schema.commands.update().values(answered=bench.now, had=-1))
    bench.tick(30)
    assert bench.state() == "collecting"


def test_reports_that_do_not_fit_are_said_once(bench, caplog) -> None:
    bench.start()
    for _ in range(5):
        bench.window("cam-1", profile="0" * 16)
        bench.tick()
    assert caplog.text.count("are not counted") == 1


def test_a_device_that_died_unnoticed_does_not_bring_everyone_back(bench) -> None:
    bench.runs("cam-0", 1)  # online for all that anybody knows
    bench.tick(7200)
    released(bench)
    bench.runs("cam-1", 2)
    for _ in range(2):
        bench.window("cam-1", number=2)
    bench.tick()
    bench.runs("cam-2", 2)
    bench.tick()
    assert bench.site.states("rollout") == ["staged", "canary", "expanding", "done"]
    bench.tick()
    assert bench.wishes("cam-0")[-1] == 2  # should it come back
