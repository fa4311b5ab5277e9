"""One site for a system test: a real broker, a signed repository behind a real HTTP server, real agent processes."""

from __future__ import annotations

import functools
import http.server
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from cloud_trainer.registry import Registry
from shared import messages, topics
from shared.enrolment import BrokerAddress, save_enrolment
from shared.manifest import DriftPolicy
from tests.brokers import Listener, TestBroker
from tests.releases import digits, make_release

SITE, MODEL = "plant", "digits"
M = TypeVar("M", bound=messages.Message)


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Keep the test's output readable."""


class Agent:
    """An ``edge-agent run`` process and its state directory."""

    def __init__(self, directory: Path, device: str) -> None:
        self.directory, self.device = directory, device
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> Self:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge_agent.cli", "run", str(self.directory / "agent.toml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def kill(self) -> None:
        """As a power cut would: no goodbye."""
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        """As an operator would; the exit code."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def answers(self) -> list[dict[str, Any]]:
        """All complete lines of the file sink."""
        path = self.directory / "answers.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]


class Site:
    """Starts everything, ends everything that it started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.broker = TestBroker()
        self.registry = Registry.create(directory / "fleet", [MODEL], now=time.time())
        handler = functools.partial(_Handler, directory=str(self.registry.repository))
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        self.agents: list[Agent] = []

    def __enter__(self) -> Self:
        self.broker.start()
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.listener = Listener(self.broker.port, f"{topics.ROOT}/{SITE}/#")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for agent in self.agents:
            if agent.process and agent.process.poll() is None:
                agent.kill()
            if error:
                print(f"--- {agent.device}\n{agent.log}")
        self.listener.close()
        self.http.shutdown()
        self.http.server_close()
        self.broker.__exit__(None, None, None)

    def publish(self, version: int, *, drift: DriftPolicy | None = None, **options: Any) -> Path:
        """Make release ``version`` and sign it into the repository; the directory that was signed."""
        release = self.directory / "made" / str(version)
        make_release(release, version=version, drift=drift or DriftPolicy(tolerance=0.25), seed=version, **options)
        self.registry.publish(release, now=time.time())
        return release

    def agent(
        self, device: str, *, samples: int = 4000, rate: float = 200.0, enrolled_by: Registry | None = None
    ) -> Agent:
        """A device with an enrolment file, a configuration and a stream of its own; not started."""
        directory = self.directory / device
        (directory / "state").mkdir(parents=True)
        x, _ = digits(samples, seed=sum(map(ord, device)))
        np.savez(directory / "stream.npz", x=x, ids=np.array([f"{device}-{i:06d}" for i in range(samples)]))
        enrolment = (enrolled_by or self.registry).enrol(
            device,
            site=SITE,
            broker=BrokerAddress("127.0.0.1", self.broker.port),
            url=self.url,
            models=[MODEL],
            now=time.time(),
        )
        save_enrolment(enrolment, directory / "enrolment.json")
        (directory / "agent.toml").write_text(
            f"""
state = "state"
model = "{MODEL}"
[source]
kind = "npz"
path = "stream.npz"
rate_hz = {rate}
[[sinks]]
kind = "file"
path = "answers.jsonl"
[selection]
measure_seconds = 0.05
[report]
every_seconds = 0.5
[outbox]
group_seconds = 0.2
""",
            encoding="utf-8",
        )
        done = subprocess.run(
            [sys.executable, "-m", "edge_agent.cli", "enroll", "enrolment.json", "--state", "state"],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        agent = Agent(directory, device)
        self.agents.append(agent)
        return agent

    def desire(self, device: str, version: int) -> None:
        """Ask a device to run a release, as the controller does."""
        wanted = messages.Desired(model=MODEL, release=version, time=time.time(), reason="test")
        topic = topics.down(SITE, device, "desired", MODEL)
        self.listener.publish(topic, messages.encode(wanted), retain=True)

    def messages(self, device: str, leaf: str, type_: type[M]) -> list[M]:
        """Messages so far of one device and leaf, decoded."""
        return [messages.decode(m.payload, type_) for m in self.listener.on(f"/{device}/{leaf}")]

    def wait(self, what: str, condition: Callable[[], Any], seconds: float = 30) -> Any:
        """Wait for a condition; a failing agent ends the wait with its log."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.05)
        raise TimeoutError(f"waited {seconds} s in vain for: {what}")

    def wait_release(self, device: str, version: int) -> messages.Reported:
        """Wait until the device says that it runs ``version``."""
        return self.wait(
            f"{device} to run release {version}",
            lambda: next(
                (
                    r
                    for r in reversed(self.messages(device, f"up/reported/{MODEL}", messages.Reported))
                    if r.release == version
                ),
                None,
            ),
        )
