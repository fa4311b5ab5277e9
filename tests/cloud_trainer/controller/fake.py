"""A site without agents: devices that speak the MQTT contract and nothing else, and a trainer that copies."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from cloud_trainer.registry import Registry
from shared import messages, topics
from shared.drift import DriftDetector, ProfileSet
from tests.brokers import Listener
from tests.releases import LABELS, digits, reference_answers

SITE, MODEL, VARIANT = "plant", "digits", "fp32-onnx"
HERE = Path(__file__).parent
ROOT = HERE.parents[2]


class Site:
    """Files: fleet directory, task, configuration."""

    def __init__(self, directory: Path, release: Path, fleet: Path, port: int = 1) -> None:
        self.directory, self.release = directory, release
        directory.mkdir()
        self.fleet = directory / "fleet"
        shutil.copytree(fleet, self.fleet)
        self.registry = Registry.open(self.fleet)
        (directory / "data.npz").write_bytes(b"")
        self.task = directory / "task.toml"
        self.task.write_text(
            f'name = "{MODEL}"\nkind = "image-classification"\n[data]\nformat = "npz"\npath = "data.npz"\n'
            "[fleet]\nfalse_alarm_every_reports = 1000\n"
            "[retrain]\nsamples_per_device = 60\nlabel_seconds = 60\ntrain_seconds = 60\ncollect_seconds = 60\n"
            "[rollout]\ncanary_samples = 200\ncanary_seconds = 60\nsettle_seconds = 60\n"
        )
        self.workspace = directory / "workspace"
        self.config = directory / "controller.toml"
        self.configure(port)

    def configure(self, port: int, **more: Any) -> None:
        """Write controller.toml for a broker at ``port``."""
        values = {"listen": "127.0.0.1:0", "tick_seconds": 0.1} | more
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        self.config.write_text(
            f'site = "{SITE}"\nfleet = "fleet"\ntasks = ["task.toml"]\nworkspace = "workspace"\n'
            + "\n".join(lines)
            + f'\n[broker]\nhost = "127.0.0.1"\nport = {port}\n'
        )

    def timeline(self) -> list[dict[str, Any]]:
        """The lines so far."""
        path = self.workspace / "timeline.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def states(self, what: str = "incident") -> list[str]:
        """The states that the timeline shows, in order."""
        return [line["state"] for line in self.timeline() if line["what"] == what]


class Process:
    """A controller as a process of its own. ``die``: see controller_process.py."""

    def __init__(self, site: Site, *die: str, **environment: str) -> None:
        self.site = site
        self.ready = site.directory / f"ready-{time.monotonic_ns()}"
        self.log = site.directory / "controller.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "controller_process.py"), str(site.config), str(self.ready), *die],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_ready(self, seconds: float = 20) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while not self.ready.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(self.log.read_text())
            time.sleep(0.05)
        return json.loads(self.ready.read_text())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()


@functools.cache
def counts(release: Path, *, drifted: bool, seed: int = 0, n: int = 100) -> tuple[str, dict[str, list[int]]]:
    """(profile digest, counts) of ``n`` answers to a camera that is well or has gone bad."""
    profile = ProfileSet.load(release / "profile.npz").profile_for("default", VARIANT)
    watch = ProfileSet.load(release / "profile.npz").watch
    x, _ = digits(n, seed=seed, brightness=1.6 if drifted else 1.0, noise=60 if drifted else 25)
    answers = reference_answers(x)
    detector = DriftDetector(profile)
    detector.update(np.hstack([watch.inputs(x), watch.outputs(answers["scores"], answers["embedding"])]))
    return profile.digest, detector.take_counts().to_mapping()


def report(
    release: Path, device: str, sequence: int, *, drifted: bool = False, number: int = 1, boot: str = "b", **more: Any
) -> messages.Report:
    """One window of 100 samples."""
    digest, found = counts(release, drifted=drifted, seed=sequence % 40 + 100 * (sum(device.encode()) % 10))
    values = {
        "release": number,
        "variant": VARIANT,
        "baseline": "default",
        "profile": digest,
        "samples": 100,
        "seconds": 1.0,
        "counts": found,
        "evidence": 0.0,
        "p50_us": 120.0,
        "p99_us": 300.0,
        "confidence": 0.9,
    }
    return messages.Report(
        device=device, boot=boot, stream="report", sequence=sequence, time=time.time(), model=MODEL, **(values | more)
    )


def samples(
    device: str, request: str, n: int, *, start: int = 0, sequence: int = 1, boot: str = "b", last: bool = True
) -> messages.Samples:
    """A chunk of real samples with ids ``<device>-<number>``."""
    x, y = digits(n, seed=start + 7)
    return messages.Samples(
        device=device,
        boot=boot,
        stream="samples",
        sequence=sequence,
        time=time.time(),
        model=MODEL,
        release=1,
        request=request,
        chunk=0,
        last=last,
        ids=[f"{device}-{start + i}" for i in range(n)],
        dtype="uint8",
        shape=[16, 16],
        data=x.tobytes(),
        labels=[LABELS[label] for label in y],
        scores=[0.9] * n,
    )


class Device:
    """A device over a real broker: online, reports every ``every`` seconds, updates, sends samples and has them
    labelled. Its world is ``drifted`` for release 1 and normal for all others."""

    def __init__(self, port: int, device: str, release: Path, *, drifted: bool = False, every: float = 0.1) -> None:
        self.name, self.drifted, self.running = device, drifted, 0
        self.commands: list[messages.Command] = []
        self.wishes: list[int] = []
        self.label = True
        self._release, self._every = release, every
        self._sequence = 0
        self._seen = 0
        self._stop = threading.Event()
        self._listener = Listener(port, topics.device_filter(SITE, device), client_id=device)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def send(self, kind: str, message: messages.Message, name: str = "", *, retain: bool = False) -> None:
        self._listener.publish(topics.up(SITE, self.name, kind, name), messages.encode(message), retain=retain)

    def next(self) -> int:
        self._sequence += 1
        return self._sequence

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self._listener.close()

    def _live(self) -> None:
        info = messages.Info(
            device=self.name,
            time=time.time(),
            machine="test",
            system="test",
            cpus=1,
            memory_mib=1,
            python="3",
            agent="0",
            backends={},
            models=[MODEL],
        )
        self.send("info", info, retain=True)
        self.send("status", messages.Status(device=self.name, state="online"), retain=True)
        alarmed = False
        while not self._stop.wait(self._every):
            for received in self._listener.messages[self._seen :]:
                self._seen += 1
                self._take(received.topic, received.payload)
            if not self.running:
                continue
            bad = self.drifted and self.running == 1
            window = report(self._release_path(), self.name, self.next(), drifted=bad, number=self.running)
            self.send("report", window, MODEL)
            if bad and not alarmed:
                alarmed = True
                self.send("event", drift_event(self.name, self.next()), "drift")

    def _release_path(self) -> Path:
        # the trainer of these tests copies the parent with its profile
        return self._release

    def _take(self, topic: str, payload: bytes) -> None:
        leaf = topics.parse(topic)
        if leaf.kind == "desired":
            release = messages.decode(payload, messages.Desired).release
            self.wishes.append(release)
            if release != self.running:
                self.running = release
                reported = messages.Reported(
                    device=self.name, model=MODEL, time=time.time(), release=release, variant=VARIANT
                )
                self.send("reported", reported, MODEL, retain=True)
            return
        command = messages.decode(payload, messages.Command)
        self.commands.append(command)
        if leaf.name == "samples":
            chunk = samples(self.name, command.id, command.count, sequence=self.next())
            self.send("samples", chunk, MODEL)
            if self.label:
                self.tell_truth(chunk)

    def tell_truth(self, chunk: messages.Samples) -> None:
        labels = [messages.TruthLabel(id=i, label=x) for i, x in zip(chunk.ids, chunk.labels, strict=True)]
        truth = messages.Truth(model=MODEL, source="test", labels=labels)
        self._listener.publish(topics.truth(SITE, self.name, MODEL), messages.encode(truth))


def drift_event(device: str, sequence: int, *, release: int = 1, boot: str = "b") -> messages.Event:
    return messages.Event(
        device=device,
        boot=boot,
        stream="event",
        sequence=sequence,
        time=time.time(),
        kind="drift",
        level="warning",
        text="inputs drifted",
        model=MODEL,
        release=release,
        variant=VARIANT,
    )
