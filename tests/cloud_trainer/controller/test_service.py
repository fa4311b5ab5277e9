"""The controller as a process: over a real broker, killed at every step, and stopped."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_trainer.config import load_controller
from cloud_trainer.controller.service import Service
from cloud_trainer.registry import Registry
from shared.errors import StoreError
from tests.cloud_trainer.controller.fake import MODEL, ROOT, Device, Process, Site

pytestmark = pytest.mark.timeout(90)


@contextmanager
def fleet(site: Site, port: int, *drifted: str, clean: tuple[str, ...] = ()) -> Iterator[list[Device]]:
    devices = [Device(port, name, site.release, drifted=True) for name in drifted]
    devices += [Device(port, name, site.release) for name in clean]
    try:
        yield devices
    finally:
        for device in devices:
            device.stop()


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


DEATHS = [
    "suspected",
    "confirmed",
    "collecting",
    "labelling",
    "training",
    "-gating",
    "gating",
    "releasing",
    "canary",
    "-expanding",
    "-resolved",
]


def test_a_controller_that_is_killed_at_every_step_goes_on_to_the_end(site, broker, until):
    site.configure(broker.port)
    site.task.write_text(site.task.read_text().replace("samples_per_device = 60", "samples_per_device = 120"))
    with fleet(site, broker.port, "cam-1", "cam-2", clean=("cam-3",)) as devices:
        for death in DEATHS:
            process = Process(site, death)
            assert process.process.wait(30) == -signal.SIGKILL, site.log.read_text()
        with Process(site):
            until(lambda: "resolved" in site.states(), 30)
            until(lambda: [d.running for d in devices] == [2, 2, 2])
            lines = site.timeline()
    assert [line["id"] for line in lines] == list(range(1, len(lines) + 1))
    assert list(dict.fromkeys(site.states())) == [
        "suspected",
        "confirmed",
        "collecting",
        "labelling",
        "training",
        "gating",
        "releasing",
        "resolved",
    ]
    assert site.states("rollout") == ["staged", "canary", "expanding", "done"]
    assert site.registry.releases(MODEL) == [1, 2]
    (resolved,) = [line for line in lines if line["state"] == "resolved"]
    assert resolved["details"]["devices"] == ["cam-1", "cam-2"]
    assert devices[2].commands == []


def test_sigterm_stops_within_seconds_and_takes_the_training_along(site, broker, until):
    site.configure(broker.port)
    site.directory.joinpath("trainer.json").write_text(json.dumps({"wait_for": "/nonexistent"}))
    with fleet(site, broker.port, "cam-1", "cam-2"):
        process = Process(site)
        until(lambda: list(site.workspace.glob("incidents/1/attempt-1/started")), 40)
        url = process.wait_ready()["url"]
        (incident,) = json.loads(get(f"{url}/api/v1/incidents")[1])
        pid = incident["pid"]
        assert Path(f"/proc/{pid}").exists()
        started = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - started < 3 + 2  # the promise is 3 s; the machine of a test may be busy
        assert not Path(f"/proc/{pid}").exists()


def test_http_serves_the_repository_and_the_state(site, broker, until):
    site.configure(broker.port)
    with Process(site) as process:
        url = process.wait_ready()["url"]
        assert get(f"{url}/healthz")[0] == 200
        status, timestamp = get(f"{url}/repository/metadata/timestamp.json")
        assert (status, json.loads(timestamp)["signed"]["_type"]) == (200, "timestamp")
        *_, role = sorted(site.registry.repository.glob("metadata/*.releases/digits.json"))
        quoted = role.parent.name + "%2Fdigits.json"
        assert get(f"{url}/repository/metadata/{quoted}") == (200, role.read_bytes())
        assert get(f"{url}/repository/../keys/online/snapshot.pem")[0] == 404
        assert get(f"{url}/repository/%2e%2e/keys/online/snapshot.pem")[0] == 404
        until(lambda: json.loads(get(f"{url}/api/v1/fleet")[1])["targets"] == {MODEL: 1})
        assert json.loads(get(f"{url}/api/v1/incidents")[1]) == []
        assert json.loads(get(f"{url}/api/v1/rollouts")[1]) == []
        broker.stop()
        until(lambda: get(f"{url}/healthz")[0] == 503)
        assert process.stop(signal.SIGINT) == 0
        broker.start()


def serve(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cloud_trainer.cli", "serve", str(site.config), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=ROOT, check=False)


def test_a_port_that_is_taken_is_one_line_and_exit_code_1(site):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        site.configure(1, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        done = serve(site)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cannot listen on 127.0.0.1:" in done.stderr


def test_a_fleet_that_is_missing_is_one_line_and_exit_code_2(site):
    site.config.write_text(site.config.read_text().replace('fleet = "fleet"', 'fleet = "elsewhere"'))
    done = serve(site)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "fleet init" in done.stderr


def test_a_second_controller_in_the_same_workspace_is_refused(site):
    config = load_controller(site.config)
    first = Service(config)
    with pytest.raises(StoreError, match="another controller"):
        Service(config)
    first.close()
    Service(config).close()


def test_a_workspace_that_belongs_to_another_fleet_is_one_line_and_exit_code_1(site, tmp_path):
    Service(load_controller(site.config)).close()
    Registry.create(tmp_path / "other", [MODEL], now=time.time())
    site.config.write_text(site.config.read_text().replace('fleet = "fleet"', f'fleet = "{tmp_path / "other"}"'))
    done = serve(site)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is about fleet" in done.stderr


def test_a_service_whose_http_has_ended_ends(site, broker):
    site.configure(broker.port)
    service = Service(load_controller(site.config))
    service.web._server.should_exit = True
    with pytest.raises(StoreError, match="the HTTP server on http"):
        service.run(threading.Event())
