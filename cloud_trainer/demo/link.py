"""A plain MQTT 5 connection for the demo's onlookers: the labeller and the demo itself.

paho's callbacks only enqueue; whoever holds the connection takes messages from the queue in a thread of his own.
"""

from __future__ import annotations

import queue
from types import TracebackType
from typing import Any, NamedTuple, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from shared import messages
from shared.errors import LinkError


class Received(NamedTuple):
    """One message as it came in."""

    topic: str
    payload: bytes
    content_type: str


class Link:
    """Connected, subscribed to ``filters`` and again after every loss of the connection.

    Raises:
        LinkError: nobody listens at ``host:port``.
    """

    def __init__(self, host: str, port: int, client_id: str, filters: tuple[str, ...]) -> None:
        self._queue: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self._filters = filters
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
        client.on_connect = self._subscribe
        client.on_message = self._enqueue
        client.reconnect_delay_set(min_delay=1, max_delay=5)
        try:
            client.connect(host, port, keepalive=20, clean_start=True)
        except OSError as error:
            raise LinkError(f"no MQTT broker answers at {host}:{port}: {error}") from error
        client.loop_start()
        self._client = client

    def _subscribe(self, client: mqtt.Client, _user: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if not reason.is_failure:
            client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._filters])

    def _enqueue(self, _client: mqtt.Client, _user: Any, message: mqtt.MQTTMessage) -> None:
        content_type = getattr(message.properties, "ContentType", messages.JSON)
        self._queue.put(Received(message.topic, bytes(message.payload), content_type))

    def take(self, seconds: float) -> Received | None:
        """The next message, or ``None`` if none came within ``seconds``."""
        try:
            return self._queue.get(timeout=seconds) if seconds > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None

    def publish(self, topic: str, message: messages.Message) -> None:
        """Send one message, QoS 1."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho
        properties.ContentType = messages.JSON
        properties.UserProperty = [("schema", str(messages.SCHEMA))]
        self._client.publish(topic, messages.encode(message), qos=1, properties=properties)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()
