"""The demo's files: where they are, and the configuration of every process.

::

    task.toml  controller.toml  broker.toml
    fleet/  release-1/  controller/          keys and repository; the first release; the controller's state
    cam-1/  cam-2/  cam-3/                   agent.toml, enrolment.json, state/, answers.jsonl, pool.npz, bad
    logs/                                    what every process printed
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from msgspec import Struct

from cloud_trainer.demo import data

HOST = "127.0.0.1"
SITE = "demo"
MODEL = "digits"

TASK = """\
name = "{model}"
kind = "image-classification"
seed = {seed}

[data]
format = "python"
factory = "cloud_trainer.demo.data:splits"

[model]
teacher_width = 32

[training]
teacher_epochs = 8
student_epochs = 14
minimum_steps = 300

[export]
runtimes = {runtimes}

[drift]
false_alarm_every = 1_000_000    # samples: at {rate:g} a second, one false alarm in {hours:.0f} hours at most
tolerance = {tolerance}

[retrain]
samples_per_device = {samples}
collect_seconds = 60
label_seconds = 60
train_seconds = 400

[rollout]
canary_devices = 1
canary_samples = {canary}
canary_seconds = 60
settle_seconds = 60
"""

CONTROLLER = """\
site = "{site}"
fleet = "fleet"
listen = "{host}:0"
workspace = "controller"
tasks = ["task.toml"]
tick_seconds = 0.2

[broker]
host = "{host}"
port = {port}
"""

AGENT = """\
state = "state"
model = "{model}"

[source]
kind = "command"
command = {command}

[[sinks]]
kind = "file"
path = "answers.jsonl"

[report]
every_seconds = 1.0

[outbox]
group_seconds = 0.5
"""


class Scale(Struct, frozen=True):
    """The demo's size."""

    rate: float = 150.0  # pictures a second of one camera
    samples: int = 500  # that the controller asks of each drifted device
    canary: int = 300  # answers that the first device must give before the others follow


class Device:
    """One device's files."""

    def __init__(self, workspace: Path, name: str) -> None:
        self.name = name
        self.home = workspace / name
        self.config = self.home / "agent.toml"
        self.enrolment = self.home / "enrolment.json"
        self.state = self.home / "state"
        self.answers = self.home / "answers.jsonl"
        self.pool = self.home / "pool.npz"
        self.flag = self.home / "bad"


class Workspace:
    """All files of one demo under ``root``."""

    def __init__(self, root: Path, seed: int, scale: Scale) -> None:
        self.root, self.seed, self.scale = root, seed, scale
        self.task = root / "task.toml"
        self.controller = root / "controller.toml"
        self.broker = root / "broker.toml"
        self.fleet = root / "fleet"
        self.release = root / "release-1"
        self.timeline = root / "controller" / "timeline.jsonl"
        self.ready = root / "controller-ready.json"
        self.logs = root / "logs"
        self.devices = {name: Device(root, name) for name in data.DEVICES}

    def write(self, broker_port: int, runtimes: tuple[str, ...]) -> None:
        """Write every configuration file and the cameras' base images."""
        from cloud_trainer.demo.broker import write_config

        write_config(self.broker, HOST, broker_port)
        rate = self.scale.rate
        self.task.write_text(
            TASK.format(
                model=MODEL,
                seed=self.seed,
                runtimes=json.dumps(runtimes),
                rate=rate,
                hours=1e6 / rate / 3600,
                tolerance=data.TOLERANCE,
                samples=self.scale.samples,
                canary=self.scale.canary,
            ),
            encoding="utf-8",
        )
        self.controller.write_text(CONTROLLER.format(site=SITE, host=HOST, port=broker_port), encoding="utf-8")
        for device in self.devices.values():
            device.home.mkdir()
            data.save_pool(device.pool, device.name)
            command = json.dumps(self.camera(device))
            device.config.write_text(AGENT.format(model=MODEL, command=command), encoding="utf-8")

    def camera(self, device: Device) -> list[str]:
        """The command that is a device's camera."""
        return [
            sys.executable,
            "-m",
            "cloud_trainer.demo.camera",
            *("--device", device.name),
            *("--seed", str(self.seed)),
            *("--rate", f"{self.scale.rate:g}"),
            *("--pool", str(device.pool)),
            *("--bad-flag", str(device.flag)),
        ]
