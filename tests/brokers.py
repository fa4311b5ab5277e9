"""A real MQTT broker (iotcore) for tests: on a free loopback port, MQTT 5, restartable on the same port.

::

    def test_something(broker):                    # after: from tests.brokers import broker  (noqa: F401)
        with Listener(broker.port, "sanderling/v1/#") as listener:
            ...
            listener.wait(lambda messages: len(messages) == 3)
            broker.restart()                       # forgets sessions and retained messages
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import paho.mqtt.client as mqtt
import pytest
from iotcore import Broker
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from cloud_trainer.demo.broker import write_config

HOST = "127.0.0.1"


def free_port() -> int:
    """A loopback TCP port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class TestBroker:
    """The broker process. ``stop`` and ``start`` as a test needs it; a broker that starts again has forgotten all."""

    __test__ = False  # the name is no test class

    def __init__(self, port: int | None = None) -> None:
        self.host = HOST
        self.port = port or free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="broker-"))
        path = self._directory / "broker.toml"
        write_config(path, HOST, self.port)
        self._broker = Broker(config_path=str(path))

    def start(self) -> Self:
        """Listen; returns when connections are accepted."""
        self._broker.start()
        return self

    def stop(self) -> None:
        """End the process; the port is free again."""
        self._broker.stop()

    def restart(self) -> None:
        """Stop and start on the same port."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)


@pytest.fixture
def broker() -> Iterator[TestBroker]:
    """A running broker for one test."""
    with TestBroker() as running:
        yield running


class Received(NamedTuple):
    """One message as a listener got it."""

    topic: str
    payload: bytes
    qos: int
    retained: bool
    content_type: str
    user: dict[str, str]


class Listener:
    """An MQTT client that keeps what it receives, and can publish. Connects again by itself."""

    def __init__(self, port: int, *filters: str, client_id: str = "", host: str = HOST) -> None:
        self.messages: list[Received] = []
        self.connects = 0
        self._filters = filters
        self._ready = threading.Event()
        self._changed = threading.Condition()
        self._client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id or f"listener-{id(self)}", protocol=mqtt.MQTTv5
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._client.connect_async(host, port, keepalive=10)
        self._client.loop_start()
        if not self._ready.wait(10):
            raise TimeoutError(f"no broker on {host}:{port}")

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        self.connects += 1
        if self._filters:
            client.subscribe([(name, mqtt.SubscribeOptions(qos=1)) for name in self._filters])
        else:
            self._ready.set()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        properties = message.properties
        received = Received(
            message.topic,
            bytes(message.payload),
            message.qos,
            message.retain,
            getattr(properties, "ContentType", ""),
            dict(getattr(properties, "UserProperty", [])),
        )
        with self._changed:
            self.messages.append(received)
            self._changed.notify_all()

    def wait(self, condition: Callable[[list[Received]], Any], seconds: float = 20) -> list[Received]:
        """Wait until ``condition(messages)`` is true; a copy of the messages. TimeoutError names what there is."""
        end = time.monotonic() + seconds
        with self._changed:
            while not condition(self.messages):
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError("waited in vain; got " + ", ".join(m.topic for m in self.messages))
                self._changed.wait(min(left, 0.2))
            return list(self.messages)

    def on(self, leaf: str) -> list[Received]:
        """Messages so far whose topic ends in ``leaf``."""
        with self._changed:
            return [message for message in self.messages if message.topic.endswith(leaf)]

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, content_type: str = "application/json"
    ) -> None:
        """Publish and wait for the broker's PUBACK."""
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = content_type
        properties.UserProperty = [("schema", "1")]
        self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties).wait_for_publish(10)

    def close(self) -> None:
        """Disconnect and end the network thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
