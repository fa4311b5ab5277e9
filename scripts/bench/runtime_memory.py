"""Rows of ``scripts/bench/runtime`` about memory: a whole ``edge-agent run``, and its parts without the service.

Both are read in their steady state from ``/proc/PID/smaps_rollup``: RSS counts shared libraries in full, PSS counts a
page by the share of the processes that have it mapped. The bare runtime with the same model is read in the same way.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from models import resnet8_onnx
from runtime_parts import ROOT, NotMeasuredError, Row, Setting, environment, run

MODEL = "resnet8"
SAMPLES = 5000
"""Answered before memory is read: more than twice the 2,000 that a baseline is learned from."""
RATE_HZ = 400
PATIENCE = 120.0
TARGETS = {"litert": 60.0, "onnxruntime": 78.0}
NAMES = {"litert": "LiteRT", "onnxruntime": "ONNX Runtime"}
RESIDENT = "print(open('/proc/self/smaps_rollup').read())"
PARTS = """
import ssl, sys, time
import numpy as np
import paho.mqtt.client as mqtt
from pathlib import Path
from edge_agent import Engine
from edge_agent.config import OutboxConfig
from edge_agent.outbox import Outbox
model, port, ca, state = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
engine = Engine.load(model, learn=200)
outbox = Outbox(state, OutboxConfig(), boot="bench")
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.tls_set_context(ssl.create_default_context(cafile=ca))
client.connect("localhost", port)
client.loop_start()
end = time.monotonic() + 10
while not client.is_connected():
    assert time.monotonic() < end, "no TLS connection to the broker"
    time.sleep(0.01)
sample = engine.manifest.sample
ramp = np.arange(np.prod(sample.shape)).reshape(sample.shape)
for turn in range(400):  # no numpy.random: the agent does not load it
    engine.infer((50 + 50 * np.sin(ramp * 0.37 + turn * 1.7)).astype(sample.dtype))
assert engine.monitor is not None, "the monitor is off"
"""
BARE = {
    "onnxruntime": "import sys, onnxruntime as o; o.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])",
    "litert": "import sys; from ai_edge_litert.interpreter import Interpreter as I\n"
    "i = I(sys.argv[1]); i.allocate_tensors()",
}
CONFIG = f"""
state = "state"
model = "{MODEL}"
[source]
kind = "replay"
path = "samples.npz"
rate_hz = {RATE_HZ}
loop = true
[[sinks]]
kind = "file"
path = "answers.jsonl"
[report]
every_seconds = 2
[outbox]
group_seconds = 1
"""


class Memory(NamedTuple):
    """Of one process, in MiB."""

    rss: float
    pss: float

    @classmethod
    def parse(cls, text: str) -> Memory:
        """From what smaps_rollup says, in KiB."""
        found = [re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE) for key in ("Rss", "Pss")]
        if None in found:
            raise NotMeasuredError("needs /proc/PID/smaps_rollup (Linux 4.14)")
        return cls(*(int(match[1]) / 1024 for match in found if match))


class Broker(NamedTuple):
    """A running mosquitto."""

    port: int
    certificate: Path


@contextlib.contextmanager
def broker(directory: Path) -> Iterator[Broker]:
    """A mosquitto with TLS on a free port, and its certificate."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None or shutil.which("openssl") is None:
        raise NotMeasuredError("needs mosquitto and openssl")
    key, certificate, settings = (directory / name for name in ("key.pem", "ca.pem", "mosquitto.conf"))
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", key, "-out", certificate]
    subject = ["-newkey", "rsa:2048", "-nodes", "-days", "2", *named, *files]
    subprocess.run(["openssl", "req", "-x509", *subject], check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings.write_text(
        f"user root\nlistener {port} 127.0.0.1\nallow_anonymous true\ncertfile {certificate}\nkeyfile {key}\n"
    )
    process = subprocess.Popen([program, "-c", settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield Broker(port, certificate)
    finally:
        process.terminate()
        process.wait()


def device(directory: Path, model: Path, at: Broker) -> Path:
    """A device of a fleet as it is after its last update and a restart: enrolled at a broker with TLS, the release with
    ``model`` in its slot, a file of samples as its source. Gives the agent's TOML file."""
    from edge_agent.updates.slots import Installed, Slots
    from shared.enrolment import FORMAT, BrokerAddress, Enrolment, save_enrolment
    from shared.manifest import load_manifest

    state = directory / "state"
    slots = Slots(state / "models" / MODEL, MODEL)
    slot, path = slots.free()
    labels = ",".join("abcdefghij")
    package = ["package", "--model", str(model), "--name", MODEL, "--labels", labels, "--out", str(path)]
    run([sys.executable, "-m", "cloud_trainer.cli", *package])
    slots.commit(Installed(1, path, slot))
    address = BrokerAddress("localhost", at.port, tls=True, ca=at.certificate.read_text())
    enrolment = Enrolment(FORMAT, "bench", "bench", (MODEL,), address, "http://127.0.0.1:9/", {}, {}, 0.0, "")
    save_enrolment(enrolment, state / "enrolment.json")
    shape = load_manifest(path).sample.shape
    x = 50 + 50 * np.random.default_rng(7).random((1000, *shape), np.float32)
    np.savez(directory / "samples.npz", x=x)
    config = directory / "agent.toml"
    config.write_text(CONFIG, encoding="utf-8")
    return config


def steady(config: Path, samples: int) -> Memory:
    """Of an ``edge-agent run`` that has learned its baseline, watches, reports, and has answered ``samples``."""
    from edge_agent.state import AgentStatus, StateDirectory

    state = StateDirectory(config.parent / "state")
    command = [sys.executable, "-m", "edge_agent.cli", "run", str(config)]
    log = config.with_name("log")
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=environment()
        )
    try:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and process.poll() is None:
            status = state.read(state.status, AgentStatus)
            if status and status.pid == process.pid and status.samples >= samples:
                if not (status.connected and status.last_report and status.learned >= status.learning > 0):
                    raise NotMeasuredError(f"the agent is not in its steady state: {status}")
                found = []
                for _ in range(5):
                    found.append(Memory.parse(Path(f"/proc/{process.pid}/smaps_rollup").read_text()))
                    time.sleep(0.3)
                return Memory(*(statistics.median(values) for values in zip(*found, strict=True)))
            time.sleep(0.2)
        last = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        raise NotMeasuredError(f"edge-agent run did not answer {samples} samples: {last[-1]}")
    finally:
        process.terminate()
        process.wait()


def memory(setting: Setting) -> list[Row]:
    """A whole agent in its steady state, then its parts without the service, beside the bare runtime."""
    models = {"onnxruntime": resnet8_onnx(setting.directory / "resnet8.onnx")}
    if setting.resnet8 is not None:
        models["litert"] = setting.resnet8
    rows = []
    with broker(setting.directory) as at:
        for runtime, target in TARGETS.items():
            names = (
                f"edge-agent run, MQTT with TLS, ResNet8: RSS, {NAMES[runtime]}",
                f"engine, monitor, outbox, MQTT with TLS, ResNet8: RSS, {NAMES[runtime]}",
            )
            if runtime not in models:
                why = "not measured: give --resnet8 FILE.tflite"
                rows += [Row(name, unit="MiB", target=target, why=why) for name in names]
                continue
            rounds = 1 if setting.quick else 3
            samples = SAMPLES // 2 if setting.quick else SAMPLES
            bare = Memory.parse(run([sys.executable, "-c", BARE[runtime] + "\n" + RESIDENT, str(models[runtime])]))
            wholes, parts = [], []
            for turn in range(rounds):
                directory = setting.directory / f"{runtime}{turn}"
                directory.mkdir()
                wholes.append(steady(device(directory, models[runtime], at), samples))
                given = [str(models[runtime]), str(at.port), str(at.certificate), str(directory / "parts.db")]
                parts.append(Memory.parse(run([sys.executable, "-c", PARTS + RESIDENT, *given])))
            raw = f"{bare.rss:.1f} MiB (PSS {bare.pss:.1f})"
            for name, found in zip(names, (wholes, parts), strict=True):
                pss = statistics.median(one.pss for one in found)
                values = tuple(one.rss for one in found)
                rows.append(Row(name, values, "MiB", target, raw=raw, why=f"PSS {pss:.1f} MiB"))
    return rows
