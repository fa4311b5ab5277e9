"""An agent in a thread of the test, a controller's client beside it, and releases to run."""

from __future__ import annotations

import queue
import shutil
import threading
import time
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import pytest

from edge_agent.config import (
    AgentConfig,
    FileSink,
    NpzSource,
    OutboxConfig,
    ReportConfig,
    SelectionConfig,
)
from edge_agent.link import LinkConfig
from edge_agent.service.loop import Service
from edge_agent.state import StateDirectory
from edge_agent.updates.slots import Installed, Slots
from shared import topics
from shared.enrolment import BrokerAddress, Enrolment
from shared.manifest import DriftPolicy, load_manifest, save_manifest
from shared.messages import (
    AnswerRecord,
    Command,
    Desired,
    Event,
    Feedback,
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
LEAVES |= {State: "/up/state/", Reported: "/up/reported/", Feedback: "/up/feedback/"}


def every(messages, type_) -> list:
    return [decode(m.payload, type_, m.content_type) for m in messages if LEAVES[type_] in m.topic]


def runs(release: int):
    return lambda found: (reported := every(found, Reported)) and reported[-1].release == release
