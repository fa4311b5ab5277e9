"""The network side of MQTT: one paho client, one thread, and events for whoever publishes.

paho's callbacks only put an :class:`Event` into a queue: an exception in one would end its network thread while
``is_connected()`` stays true.
"""

from __future__ import annotations

import logging
import queue
import random
import ssl
import threading
import time
from typing import Any, Literal, NamedTuple

import paho.mqtt.client as mqtt
from msgspec import Struct
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.breaks import Breaks
from shared.enrolment import BrokerAddress
from shared.errors import ConfigError
from shared.messages import JSON, SCHEMA

log = logging.getLogger("edge_agent.link")


class LinkConfig(Struct, frozen=True):
    """Times of the connection in seconds, and how much may be under way."""

    keepalive: int = 30
    session_expiry: int = 86_400
    will_delay: int = 10  # a short break is no news
    connect_timeout: float = 10.0
    backoff_first: float = 0.5
    backoff_most: float = 60.0
    refused_pause: float = 5.0
    settle: float = 3.0  # after a lost session, before rows go out: others have to subscribe again too
    in_flight: int = 20


def backoff(attempt: int, config: LinkConfig, fraction: float) -> float:
    """Seconds before connection attempt ``attempt`` (from 1): doubling, with the upper half left to chance so that a
    fleet does not return in step. ``fraction`` is a random number in [0, 1).

    >>> [backoff(n, LinkConfig(), 0.0) for n in (1, 2, 3, 20)]
    [0.25, 0.5, 1.0, 30.0]
    """
    most = min(config.backoff_most, config.backoff_first * 2.0 ** min(attempt - 1, 30))
    return float(most * (0.5 + 0.5 * fraction))


class Event(NamedTuple):
    """Something that happened on the network, or that the publishing thread is asked to do."""

    what: Literal["connect", "disconnect", "puback", "inbound", "wake", "message", "stop"]
    value: Any = None


class Publication(NamedTuple):
    """A message on its way out."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False
    content_type: str = JSON


class Connection:
    """Connects, serves, and connects again until it is stopped. A broker that is away is no error, only an event.

    Events: ``connect`` (session present), ``disconnect`` (reason), ``puback`` (message id, reason code, its name),
    ``inbound`` (paho's message).

    Raises:
        ConfigError: ``broker.ca`` is no certificate.
    """

    def __init__(
        self,
        broker: BrokerAddress,
        identity: str,
        will: Publication,
        config: LinkConfig,
        events: queue.SimpleQueue[Event],
    ) -> None:
        self._broker = broker
        self._config = config
        self._events = events
        self._stopping = threading.Event()
        self._breaks = Breaks(identity)
        client_id = identity.replace("/", ".")  # a slash kills the broker that iotcore embeds
        self._thread = threading.Thread(target=self._serve, name="mqtt-network", daemon=True)
        self._client = client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
        client.connect_timeout = config.connect_timeout
        client.max_inflight_messages_set(2 * config.in_flight)  # rows, and the retained topics beside them
        client.suppress_exceptions = True
        if broker.tls:
            client.tls_set_context(tls_context(broker))
        if broker.username:
            client.username_pw_set(broker.username, broker.password or None)
        properties = _properties(PacketTypes.WILLMESSAGE, will.content_type)
        properties.WillDelayInterval = config.will_delay
        client.will_set(will.topic, will.payload, qos=will.qos, retain=will.retain, properties=properties)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        # Without this paho writes to the socket from whichever thread publishes; with it only the network thread does.
        client.on_socket_register_write = lambda *_: None

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Say goodbye to the broker (no Will) and end the thread; one that hangs in a connect is left behind."""
        self._stopping.set()
        self._client.disconnect()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def subscribe(self, topic_filter: str) -> None:
        """Subscribe with QoS 1."""
        self._client.subscribe(topic_filter, options=SubscribeOptions(qos=1))

    def publish(self, message: Publication) -> int | None:
        """Hand ``message`` to paho, which delivers it once there is a connection; its message id.

        None when paho did not take it: its queue has that id in use still.
        """
        info = self._client.publish(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            _properties(PacketTypes.PUBLISH, message.content_type),
        )
        return None if info.rc == mqtt.MQTT_ERR_QUEUE_SIZE else info.mid

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self._breaks.trying()
            try:
                self._session()
            except OSError as error:
                self._failed(error.strerror or str(error) or type(error).__name__)
            except Exception as error:
                log.exception("the MQTT client failed; connecting again")
                self._failed(str(error) or type(error).__name__)
            self._stopping.wait(backoff(self._breaks.attempt, self._config, random.random()))  # noqa: S311  (no secret)

    @property
    def contested(self) -> bool:
        """Whether another client seems to have our identity too."""
        return self._breaks.contested

    def _failed(self, reason: str) -> None:
        self._breaks.failed()
        self._events.put(Event("disconnect", reason))

    def _session(self) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no annotation here
        properties.SessionExpiryInterval = self._config.session_expiry
        properties.ReceiveMaximum = self._config.in_flight
        self._client.connect(
            self._broker.host,
            self._broker.port,
            keepalive=self._config.keepalive,
            clean_start=False,
            properties=properties,
        )
        if self._stopping.is_set():  # disconnect() came before there was anything to disconnect
            self._client.disconnect()
        while self._client.loop(timeout=1.0) == mqtt.MQTT_ERR_SUCCESS:
            pass

    def _on_connect(self, _client: Any, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._failed(f"the broker refuses us: {reason}")
        else:
            self._breaks.begun(time.monotonic())
            self._events.put(Event("connect", flags.session_present))

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if self._breaks.connected:  # else the refusal was told already
            told = flags.is_disconnect_packet_from_server
            why = self._breaks.broke(reason.value, str(reason), time.monotonic(), told=told)
            self._events.put(Event("disconnect", why))

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        self._events.put(Event("puback", (mid, reason.value, str(reason))))

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._events.put(Event("inbound", message))


def _properties(packet: int, content_type: str) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]  # paho has no annotation here
    properties.ContentType = content_type
    properties.UserProperty = [("schema", str(SCHEMA))]
    return properties


def tls_context(broker: BrokerAddress) -> ssl.SSLContext:
    """TLS that checks the broker's certificate, against ``ca`` when the enrolment has one.

    Raises:
        ConfigError: ``ca`` is no certificate.
    """
    try:
        return ssl.create_default_context(cadata=broker.ca or None)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"the enrolment's broker.ca is no PEM certificate: {error}") from error
