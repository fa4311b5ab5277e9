"""MQTT in and out: messages are committed in groups, and acknowledged to the broker only after their commit.

paho's callbacks only enqueue (an exception in one would kill paho's network thread unnoticed); one thread commits.
A broker that lost our session is subscribed to again, and tells everyone who has to publish retained topics again.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import paho.mqtt.client as mqtt
import sqlalchemy as sa
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from cloud_trainer.controller.inbox import Arrived, store_bad, take
from cloud_trainer.controller.store import Store
from shared import topics
from shared.enrolment import BrokerAddress
from shared.errors import LinkError, MessageError, StoreError, one_line
from shared.messages import JSON, SCHEMA, Message, encode

GROUP_ROWS = 200
GROUP_SECONDS = 0.02
SESSION_SECONDS = 7 * 86_400
KEEPALIVE_SECONDS = 20
RECEIVE_MAXIMUM = 500  # unacknowledged messages that the broker may send: bounds what waits for a commit
QUEUE_MAX = 5000  # from here on messages of QoS 0, which no window bounds, are dropped
COMPLAINT_SECONDS = 10.0
RETRY_SECONDS = 1.0

# Whatever a message can do to the code that stores it. One that got past these would never be acknowledged, come again
# after each restart, and stop the controller for good.
SPOILED = (
    MessageError,
    ArithmeticError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    sa.exc.DataError,
    sa.exc.IntegrityError,
)

logger = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    arrived: Arrived
    mid: int
    qos: int
    connection: int  # number of the connection that delivered it: only that one may acknowledge it


class Counters(msgspec.Struct):
    """What came in since the start."""

    stored: int = 0
    duplicates: int = 0
    malformed: int = 0
    lost: int = 0  # QoS 0 messages that found the queue full


def commit_group(store: Store, site: str, group: Sequence[Arrived], complain: Callable[[str], None]) -> Counters:
    """Store a group in one transaction; a malformed message spoils only itself.

    Raises:
        StoreError: the database failed; nothing of the group is stored, so nothing may be acknowledged.
    """
    counters = Counters()
    with store.transaction() as connection:
        for arrived in group:
            savepoint = connection.begin_nested()
            try:
                new = take(connection, site, arrived)
            except SPOILED as error:
                savepoint.rollback()
                reason = one_line(error)
                store_bad(connection, arrived, reason)
                complain(f"{arrived.topic[:200]}: {reason}")
                counters.malformed += 1
                continue
            savepoint.commit()
            counters.stored += new
            counters.duplicates += not new
    return counters


class Link:
    """The controller's connection to the broker. ``changed`` is called, from its threads, whenever rows were committed
    or the connection came up."""

    def __init__(
        self,
        store: Store,
        site: str,
        broker: BrokerAddress,
        *,
        changed: Callable[[], None],
        client_id: str = "",
    ) -> None:
        self.counters = Counters()
        self.connected = threading.Event()
        self.connects = 0
        self.failure: BaseException | None = None  # what ended the committing thread, if anything did
        self._store, self._site, self._broker = store, site, broker
        self._changed = changed
        self._queue: queue.Queue[_Waiting] = queue.Queue()
        self._tokens: dict[int, str] = {}
        self._sent: deque[int] = deque()
        self._stop = threading.Event()
        self._complained = 0.0
        self._silent = 0
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or f"sanderling-controller-{site}",
            protocol=mqtt.MQTTv5,
            manual_ack=True,
        )
        self._client.reconnect_delay_set(1, 30)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_connect_fail = self._refused
        self._client.on_message = self._message
        self._client.on_publish = self._published
        self._client.on_subscribe = self._subscribed
        if broker.username:
            self._client.username_pw_set(broker.username, broker.password or None)
        if broker.tls:
            _use_tls(self._client, broker)
        self._committer = threading.Thread(target=self._commit_forever, name="ingest", daemon=True)
        self._told_down = False

    def start(self) -> None:
        """Connect, in the background: a broker that is down is said once and tried again until it is up."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no annotation here
        properties.SessionExpiryInterval = SESSION_SECONDS
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        self._committer.start()
        self._client.connect_async(
            self._broker.host,
            self._broker.port,
            keepalive=KEEPALIVE_SECONDS,
            clean_start=False,
            properties=properties,
        )
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect and end both threads. What is not committed was not acknowledged and comes again; what was
        committed is acknowledged first."""
        self._stop.set()
        if self._committer.ident is not None:
            self._committer.join(2)
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def online(self) -> bool:
        """There is a connection, and the broker has taken the subscription."""
        return self.connected.is_set()

    def publish(self, topic: str, message: Message, *, retain: bool = False, token: str = "") -> bool:
        """Hand a message to the broker, QoS 1; false if there is no connection: try again later.

        ``token`` comes back from :meth:`take_sent` after the broker's PUBACK. Call both from one thread.
        """
        if not self.online:
            return False
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho has no annotation here
        properties.ContentType = JSON
        properties.UserProperty = [("schema", str(SCHEMA))]
        sent = self._client.publish(topic, encode(message), qos=1, retain=retain, properties=properties)
        if token:
            self._tokens[sent.mid] = token
        return True

    def take_sent(self) -> list[str]:
        """Tokens of what the broker has acknowledged since the last call."""
        mids = [self._sent.popleft() for _ in range(len(self._sent))]
        return [token for token in (self._tokens.pop(mid, "") for mid in mids) if token]

    # callbacks of paho's network thread: they only enqueue, log and set flags

    def _connected(self, client: mqtt.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._tell_down(f"the broker refuses us: {reason}")
            return
        self.connects += 1
        self._told_down = False
        logger.info("connected to the broker at %s:%d", self._broker.host, self._broker.port)
        if flags.session_present:
            self._ready()
        else:
            client.subscribe([(name, SubscribeOptions(qos=1)) for name in topics.controller_filters(self._site)])

    def _subscribed(self, _client: mqtt.Client, _data: Any, _mid: int, codes: Any, _properties: Any) -> None:
        refused = [str(code) for code in codes if code.is_failure]
        if refused:
            logger.error("the broker refuses our subscription: %s", ", ".join(refused))
            return
        self._ready()

    def _ready(self) -> None:
        self.connected.set()
        self._changed()

    def _disconnected(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.connected.clear()
        if not self._stop.is_set():
            self._tell_down(f"connection to the broker lost: {reason}")

    def _refused(self, _client: mqtt.Client, _data: Any) -> None:
        self._tell_down(f"no broker at {self._broker.host}:{self._broker.port}")

    def _tell_down(self, text: str) -> None:
        if not self._told_down:
            logger.warning("%s; trying again until it answers", text)
        self._told_down = True

    def _message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        content_type = getattr(message.properties, "ContentType", JSON)
        # bytes that are no UTF-8 make paho's .topic raise, here where nobody would see it
        topic = message._topic.decode("utf-8", "replace")  # noqa: SLF001  (paho keeps the raw topic nowhere else)
        arrived = Arrived(topic, bytes(message.payload), content_type, time.time())
        waiting = _Waiting(arrived, message.mid, message.qos, self.connects)
        if not message.qos and self._queue.qsize() >= QUEUE_MAX:
            self.counters.lost += 1
        else:
            self._queue.put(waiting)

    def _published(self, _client: mqtt.Client, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        # paho holds a lock of its own here that publish() needs too: take no other
        self._sent.append(mid)
        self._changed()

    # the committing thread

    def _commit_forever(self) -> None:
        try:
            while not self._stop.is_set():
                group = self._group()
                if group:
                    self._commit(group)
        except Exception as error:  # reported by the service, which ends: a controller that is deaf must not look alive
            self.failure = error
            self._changed()

    def _group(self) -> list[_Waiting]:
        try:
            first = self._queue.get(timeout=0.2)
        except queue.Empty:
            return []
        group = [first]
        end = time.monotonic() + GROUP_SECONDS
        while len(group) < GROUP_ROWS:
            try:
                group.append(self._queue.get(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                break
        return group

    def _commit(self, group: Sequence[_Waiting]) -> None:
        while True:
            try:
                counters = commit_group(self._store, self._site, [w.arrived for w in group], self._complain)
                break
            except StoreError as error:  # disk full, locked: nothing is acknowledged, so nothing is lost by waiting
                self._complain(str(error))
                if self._stop.wait(RETRY_SECONDS):
                    return
        self.counters.stored += counters.stored
        self.counters.duplicates += counters.duplicates
        self.counters.malformed += counters.malformed
        for waiting in group:
            # a packet number means another message on another connection
            if waiting.qos and waiting.connection == self.connects:
                self._client.ack(waiting.mid, waiting.qos)
        self._changed()

    def _complain(self, text: str) -> None:
        now = time.monotonic()
        if self._complained and now - self._complained < COMPLAINT_SECONDS:
            self._silent += 1
            return
        more = f" (and {self._silent} more like it)" if self._silent else ""
        self._complained, self._silent = now, 0
        logger.warning("%s%s", text, more)


def _use_tls(client: mqtt.Client, broker: BrokerAddress) -> None:
    import ssl

    try:
        client.tls_set_context(ssl.create_default_context(cadata=broker.ca or None))
    except ssl.SSLError as error:
        raise LinkError(f"broker.ca is not a certificate in PEM text: {error.reason}") from error
