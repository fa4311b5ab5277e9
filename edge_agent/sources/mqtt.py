"""Samples from a topic of a broker of the user's, e.g. one on the same machine that sensors publish to.

A client of its own: the agent's link speaks to the controller's broker only. paho's network loop runs in the source's
thread; its callback does nothing but parse and queue. MQTT 5 is tried first and 3.1.1 next, as there are brokers that
speak only one of them; what has worked is kept.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.retry import Retry
from edge_agent.sources import Sample
from edge_agent.sources.config import MqttSource
from edge_agent.sources.pumped import Pumped
from edge_agent.sources.values import parse_raw, parse_values
from shared.errors import ConfigError, InputError
from shared.files import reason
from shared.manifest import SampleSpec

log = logging.getLogger("edge_agent.source")

LOOP_SECONDS = 0.5
CONNECT_SECONDS = 10.0
KEEPALIVE = 30
TOPIC_MAX_BYTES = 65_535
VERSIONS = {mqtt.MQTTv5: mqtt.MQTTv311, mqtt.MQTTv311: mqtt.MQTTv5}
"""The other version of each."""
UNSUPPORTED = 132
"""MQTT 5's reason code for a version that the broker does not speak."""


class _Stranger(OSError):  # noqa: N818  (a reason to speak otherwise, no failure yet)
    """The broker does not know the version of MQTT that we speak, as it seems."""


class Mqtt(Pumped):
    """Messages of one topic filter. Retained ones are samples like the others; nothing waits at the broker while the
    agent is away.

    Raises:
        ConfigError: the password cannot be read, the topic is none, or raw values are wanted for several inputs.
    """

    def __init__(self, config: MqttSource, signature: Sequence[SampleSpec], *, retry: Retry | None = None) -> None:
        super().__init__(
            f"mqtt {config.host}:{config.port} {config.topic}", capacity=config.queue, newest_wins=True, retry=retry
        )
        if config.encoding == "raw" and len(signature) > 1:
            raise ConfigError('source: encoding "raw" is for models with one input; use "json"')
        check_topic(config.topic)
        self._version = mqtt.MQTTv5
        self._config = config
        self._signature = tuple(signature)
        self._parse = parse_values if config.encoding == "json" else parse_raw
        self._password = _password(config.password_file)

    def produce(self) -> Iterator[Sample | None]:
        """See :class:`Pumped`."""
        try:
            self._listen(self._version)
        except _Stranger:
            self._version = VERSIONS[self._version]
            self._listen(self._version)
        yield from ()

    def _listen(self, version: Any) -> None:
        """Until ``stop``.

        Raises:
            OSError: the broker is away, refuses us, or has closed the connection.
        """
        known = False
        refused: list[OSError] = []
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"sanderling-source-{os.urandom(4).hex()}", protocol=version
        )
        client.connect_timeout = CONNECT_SECONDS
        client.suppress_exceptions = True
        if self._config.tls:
            client.tls_set()
        if self._config.username:
            client.username_pw_set(self._config.username, self._password)

        def on_connect(_client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
            nonlocal known
            if code.is_failure:
                kind = _Stranger if code.value == UNSUPPORTED else OSError
                refused.append(kind(f"the broker refuses us: {code}"))
            else:
                known = True
                client.subscribe(self._config.topic, self._config.qos)

        def on_subscribe(_client: Any, _data: Any, _mid: Any, codes: Any, _properties: Any) -> None:
            failed = [str(code) for code in codes if code.is_failure]
            if failed:
                refused.append(OSError(f"the broker refuses the topic: {failed[0]}"))
            else:
                self.well()

        client.on_connect = on_connect
        client.on_subscribe = on_subscribe
        client.on_message = self._on_message
        try:
            client.connect(self._config.host, self._config.port, keepalive=KEEPALIVE)
            while not self.stopping.is_set():
                code = client.loop(LOOP_SECONDS)
                if refused:
                    raise refused[0]
                if code != mqtt.MQTT_ERR_SUCCESS:
                    raise (OSError if known else _Stranger)("the broker closed the connection")
        finally:
            client.disconnect()
            client.loop(0.0)
            client.on_connect = client.on_subscribe = None  # they hold the client: it could not go

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            self.put(self._parse(bytes(message.payload), self._signature))
        except InputError as error:
            self.spoilt(f"{message.topic}: {error}")
        except Exception as error:  # paho would swallow it, and the message would be neither answered nor counted
            log.exception("a message on %s cannot be read", message.topic)
            self.spoilt(f"{message.topic}: {type(error).__name__}: {error}")


def check_topic(topic: str) -> None:
    """Whether ``topic`` is a filter as MQTT has them. A broker would only close the connection, over and over.

    Raises:
        ConfigError: it is none.

    >>> check_topic("plant/+/temperature"), check_topic("plant/#")
    (None, None)
    """
    levels = topic.split("/")
    wrong = next((one for one in levels if ("+" in one or "#" in one) and len(one) > 1), None)
    if wrong is not None or "#" in levels[:-1] or "\0" in topic or len(topic.encode()) > TOPIC_MAX_BYTES:
        raise ConfigError(
            f"source: topic {topic!r} is no MQTT filter: '+' stands for one whole level, '#' for all the last ones"
        )


def _password(name: str) -> str | None:
    if not name:
        return None
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        told = reason(error) if isinstance(error, OSError) else str(error)
        raise ConfigError(f"source: password_file cannot be read: {told}", file=name) from error
