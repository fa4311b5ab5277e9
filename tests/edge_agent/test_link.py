from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Self

import pytest

from edge_agent.config import OutboxConfig
from edge_agent.connection import tls_context
from edge_agent.link import Link, LinkConfig
from edge_agent.outbox import Outbox
from shared import topics
from shared.enrolment import BrokerAddress, Enrolment, save_enrolment
from shared.errors import ConfigError
from shared.messages import Event, Info, Report, decode
from tests.brokers import Listener, free_port

FAST = LinkConfig(settle=0, will_delay=1, backoff_first=0.1, backoff_most=0.3, keepalive=5)
EVENT = topics.up("plant", "cam-1", "event", "fault")
REPORT = topics.up("plant", "cam-1", "report", "digits")
INFO = topics.up("plant", "cam-1", "info")
EVERYTHING = "sanderling/v1/#"


def enrolment(port: int, **broker) -> Enrolment:
    return Enrolment(
        format=1,
        site="plant",
        device="cam-1",
        models=("digits",),
        broker=BrokerAddress(host="127.0.0.1", port=port, **broker),
        repository="http://127.0.0.1:9/",
        root={},
        floors={},
        not_before=0.0,
        created="2026-01-01T00:00:00Z",
    )


def event(number: int) -> Event:
    return Event(device="cam-1", kind="fault", level="info", text=str(number))


def info() -> Info:
    return Info(
        device="cam-1",
        time=1.0,
        machine="x86_64",
        system="Linux",
        cpus=2,
        memory_mib=1,
        python="3",
        agent="0",
        backends={},
    )


def numbers(messages) -> list[int]:
    return [decode(m.payload, Event).sequence for m in messages if m.topic == EVENT]


def status(messages) -> list[str]:
    return [json.loads(m.payload)["state"] for m in messages if m.topic.endswith("up/status")]


class Device:
    """An outbox and a link, closed in the right order."""

    def __init__(self, tmp_path, port: int, *, boot: str = "b1", config: LinkConfig = FAST) -> None:
        self.outbox = Outbox(tmp_path / "outbox.db", OutboxConfig(group_rows=5, group_seconds=0.05), boot=boot)
        self.link = Link(enrolment(port), self.outbox, config=config)

    def __enter__(self) -> Self:
        self.link.start()
        return self

    def __exit__(self, *_) -> None:
        self.link.stop()
        self.outbox.close()


def eventually(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_rows_reach_the_broker_once_and_leave_the_outbox(broker, tmp_path):
    with Listener(broker.port, EVERYTHING) as listener, Device(tmp_path, broker.port) as device:
        for number in range(100):
            device.outbox.put(EVENT, event(number))
        report = Report(
            device="cam-1",
            model="digits",
            release=1,
            variant="v",
            baseline="default",
            profile="p",
            samples=1,
            seconds=1,
            counts={},
            evidence=0,
        )
        device.outbox.put(REPORT, report)
        messages = listener.wait(lambda found: len(numbers(found)) == 100 and any(m.topic == REPORT for m in found))
        eventually(lambda: device.outbox.rows == 0)
        assert numbers(messages) == list(range(1, 101))
        one = next(m for m in messages if m.topic == REPORT)
        assert (one.qos, one.content_type, one.user) == (1, "application/json", {"schema": "1"})
        assert decode(one.payload, Report).stream == "report/digits"
    with Device(tmp_path, broker.port, boot="b2") as again:
        assert again.outbox.rows == 0


def test_broker_that_is_down_at_start_gets_everything_later_and_is_told_of_once(broker, tmp_path, caplog):
    caplog.set_level(logging.INFO, "edge_agent.link")
    port = free_port()
    with Device(tmp_path, port) as device:
        for number in range(10):
            device.outbox.put(EVENT, event(number))
        device.link.retain(INFO, info())
        eventually(lambda: device.link.error not in {"", "not connected yet"})
        time.sleep(0.8)  # several attempts
        assert sum("no connection to the broker" in r.message for r in caplog.records) == 1
        assert not device.link.connected
        with Listener(broker.port, EVERYTHING) as listener, Proxy(broker.port, port):
            messages = listener.wait(lambda found: len(set(numbers(found))) == 10 and status(found))
            assert sorted(numbers(messages)) == list(range(1, 11))
            listener.wait(lambda found: any(m.topic == INFO for m in found))
            device.link.stop()


def test_broker_restarted_subscribed_again_retained_again_queue_delivered(broker, tmp_path):
    with Proxy(broker.port) as proxy, Device(tmp_path, proxy.port) as device:
        device.link.retain(INFO, info())
        eventually(lambda: device.link.connected)
        broker.stop()
        eventually(lambda: not device.link.connected)
        for number in range(30):
            device.outbox.put(EVENT, event(number))
        proxy.refuse = True
        broker.start()
        with Listener(broker.port, EVERYTHING) as listener:
            proxy.refuse = False
            messages = listener.wait(
                lambda found: (
                    len(set(numbers(found))) == 30
                    and {m.topic for m in found} >= {INFO, EVENT, topics.up("plant", "cam-1", "status")}
                )
            )
            assert status(messages)[-1] == "online"
            listener.publish(topics.down("plant", "cam-1", "cmd", "report"), b'{"id": "1"}')
            inbound = device.link.inbox.get(timeout=10)
            assert (inbound.kind, inbound.name, inbound.payload) == ("cmd", "report", b'{"id": "1"}')
            listener.wait(lambda found: set(numbers(found)) == set(range(1, 31)))


def test_commands_sent_while_the_connection_is_broken_arrive_afterwards(broker, tmp_path):
    with Proxy(broker.port) as proxy, Device(tmp_path, proxy.port) as device, Listener(broker.port) as controller:
        eventually(lambda: device.link.connected)
        time.sleep(0.2)  # the subscription is on its way
        proxy.cut(refuse=True)
        eventually(lambda: not device.link.connected)
        controller.publish(topics.down("plant", "cam-1", "cmd", "pause"), b"{}")
        proxy.refuse = False
        assert device.link.inbox.get(timeout=15).name == "pause"


def test_what_was_desired_while_the_agent_was_off_arrives_when_it_is_back(broker, tmp_path):
    desired = topics.down("plant", "cam-1", "desired", "digits")
    with Listener(broker.port) as controller:
        for boot, release in (("b1", b'{"release": 1}'), ("b2", b'{"release": 2}')):
            controller.publish(desired, release, retain=True)
            with Device(tmp_path, broker.port, boot=boot) as device:
                inbound = device.link.inbox.get(timeout=10)
                assert (inbound.kind, inbound.name, inbound.payload) == ("desired", "digits", release)


def test_clean_stop_says_offline_at_once(broker, tmp_path):
    patient = LinkConfig(settle=0, will_delay=600, backoff_first=0.1)
    with Listener(broker.port, EVERYTHING) as listener:
        with Device(tmp_path, broker.port, config=patient) as device:
            listener.wait(lambda found: "online" in status(found))
            device.outbox.put(EVENT, event(1))
        messages = listener.wait(lambda found: "offline" in status(found))
        assert numbers(messages) == [1]
    with Listener(broker.port, EVERYTHING) as late:
        assert status(late.wait(status)) == ["offline"]


DEVICE_PROCESS = """
import sys, time
from pathlib import Path
from edge_agent.config import OutboxConfig
from edge_agent.link import Link, LinkConfig
from edge_agent.outbox import Outbox
from shared.enrolment import load_enrolment

state = Path(sys.argv[1])
outbox = Outbox(state / "outbox.db", OutboxConfig(), boot=sys.argv[2])
link = Link(load_enrolment(state / "enrolment.json"), outbox, config=LinkConfig(will_delay=1))
link.start()
time.sleep(60)
"""


def test_killed_device_is_offline_by_its_will(broker, tmp_path):
    save_enrolment(enrolment(broker.port), tmp_path / "enrolment.json")
    with Listener(broker.port, EVERYTHING) as listener:
        with subprocess.Popen([sys.executable, "-c", DEVICE_PROCESS, str(tmp_path), "b1"]) as process:
            listener.wait(lambda found: "online" in status(found))
            os.kill(process.pid, signal.SIGKILL)
        listener.wait(lambda found: status(found)[-1] == "offline")


def test_after_a_lost_session_rows_wait_until_others_had_time_to_subscribe(broker, tmp_path):
    with Listener(broker.port, EVERYTHING) as listener:
        with Device(tmp_path, broker.port, config=LinkConfig(settle=3600)) as device:
            device.outbox.put(EVENT, event(1))
            listener.wait(lambda found: "online" in status(found))
            assert not numbers(listener.messages)
            assert device.outbox.rows == 1
        with Device(tmp_path, broker.port, boot="b2", config=LinkConfig(settle=3600)):  # the session is there now
            listener.wait(lambda found: numbers(found) == [1])


class Proxy:
    """TCP between device and broker; loses what the broker says on demand, or cuts."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.deaf = False  # swallow what comes from the broker
        self.refuse = False
        self._target = target
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._server = socket.create_server(("127.0.0.1", port))
        self.port = self._server.getsockname()[1]

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._server.accept()
            except OSError:
                return
            try:
                outer = socket.create_connection(("127.0.0.1", 9 if self.refuse else self._target))
            except ConnectionRefusedError:
                inner.close()
                continue
            self._pairs.append((inner, outer))
            self._begin(self._pump, inner, outer, False)
            self._begin(self._pump, outer, inner, True)

    def _begin(self, function, *args) -> None:
        thread = threading.Thread(target=function, args=args, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _pump(self, source: socket.socket, target: socket.socket, from_broker: bool) -> None:
        try:
            while data := source.recv(65536):
                if not (from_broker and self.deaf):
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def cut(self, *, refuse: bool = False) -> None:
        self.refuse = refuse
        for pair in self._pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
        self.deaf = False

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)
        for pair in self._pairs:
            for end in pair:
                end.close()


def test_two_agents_with_one_identity_are_told_so_once_and_slow_down(broker, tmp_path, caplog):
    caplog.set_level(logging.INFO, "edge_agent.link")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    slow = LinkConfig(settle=0, will_delay=1, backoff_first=0.05, backoff_most=5.0)
    with Device(tmp_path / "one", broker.port, config=slow), Device(tmp_path / "two", broker.port, config=slow):
        taken = "another client has taken over this identity (plant/cam-1)"
        eventually(lambda: sum(taken in r.getMessage() for r in caplog.records) == 2)
        time.sleep(1.0)
    messages = [r.getMessage() for r in caplog.records]
    assert sum(taken in message for message in messages) == 2  # one each
    assert len(messages) < 20


def test_a_broker_that_stops_has_closed_the_connection(broker, tmp_path):
    with Proxy(broker.port) as proxy, Device(tmp_path, proxy.port) as device:
        eventually(lambda: device.link.connected)
        proxy.cut(refuse=True)
        eventually(lambda: device.link.error)
        assert device.link.error in {"the broker closed the connection", "Connection refused"}


def test_lost_pubacks_bring_duplicates_with_the_same_number_and_nothing_else(broker, tmp_path):
    with Listener(broker.port, EVERYTHING) as listener, Proxy(broker.port) as proxy:
        with Device(tmp_path, proxy.port) as device:
            device.outbox.put(EVENT, event(1))
            listener.wait(lambda found: numbers(found) == [1])
            eventually(lambda: device.outbox.rows == 0)
            proxy.deaf = True
            for number in (2, 3, 4):
                device.outbox.put(EVENT, event(number))
            listener.wait(lambda found: numbers(found) == [1, 2, 3, 4])
            assert device.outbox.rows == 3
            proxy.cut()
            device.outbox.put(EVENT, event(5))
            listener.wait(lambda found: set(numbers(found)) == {1, 2, 3, 4, 5} and len(numbers(found)) == 8)
            eventually(lambda: device.outbox.rows == 0)
        messages = listener.wait(lambda found: status(found)[-1] == "offline")
    sent = [decode(m.payload, Event) for m in messages if m.topic == EVENT]
    assert sorted(m.sequence for m in sent) == [1, 2, 2, 3, 3, 4, 4, 5]
    assert all(m.text == str(m.sequence) and m.boot == "b1" for m in sent)


@pytest.mark.parametrize(
    ("code", "rows", "dropped"), [(0x00, 0, 0), (0x10, 0, 0), (0x97, 1, 0), (0x87, 1, 0), (0x95, 0, 1)]
)
def test_what_the_broker_says_decides_over_a_row(tmp_path, code, rows, dropped):
    outbox = Outbox(tmp_path / "outbox.db", OutboxConfig(), boot="b1")
    link = Link(enrolment(free_port()), outbox)
    outbox.put(EVENT, event(1))
    outbox.flush()
    link._rows[7] = outbox.take(1)[0].id
    link._on_puback(7, code, "said so")
    assert (outbox.rows, outbox.dropped) == (rows, dropped)
    assert len(outbox.take(1)) == rows
    outbox.close()


def test_certificate_that_is_none_is_one_clear_error():
    with pytest.raises(ConfigError, match=r"broker\.ca is no PEM certificate"):
        tls_context(BrokerAddress(host="h", port=1, tls=True, ca="nonsense"))
