"""MQTT: carries the outbox to the broker, keeps the retained topics true, hands in what the controller sends.

Invariants, held by ``tests/edge_agent/test_link.py``:

1. A row leaves the outbox on its PUBACK and on nothing else. It is handed to paho once, which sends it again itself
   after a broken connection; an offline publish returns an error *and* is delivered later, so that is never retried.
2. One thread, :meth:`Link._run`, publishes and commits the outbox; :mod:`edge_agent.connection` does the network.
3. After a lost session the device subscribes again and publishes its retained topics again. Rows wait a moment then:
   the broker that forgot us forgot the controller as well, and acknowledges what nobody hears.
4. A broker that is away costs memory for 20 rows and one log line a change, nothing else.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import paho.mqtt.client as mqtt

from edge_agent.breaks import STEADY_SECONDS
from edge_agent.connection import Connection, Event, LinkConfig, Publication
from edge_agent.outbox import Outbox
from shared import topics
from shared.enrolment import Enrolment
from shared.errors import MessageError
from shared.messages import JSON, Message, Status, encode

__all__ = ["Inbound", "Link", "LinkConfig"]

log = logging.getLogger("edge_agent.link")

INBOX_MAX = 1000
PLAIN_IN_FLIGHT_MAX = 100  # QoS 0 messages that paho may hold before more are dropped
POISON = frozenset({0x90, 0x95, 0x99})  # topic name invalid, packet too large, payload format invalid: never retry
GOODBYE_SECONDS = 0.7


class Inbound(NamedTuple):
    """A message from below ``down/``: ``kind`` is ``desired`` or ``cmd``, ``name`` the model or the verb."""

    kind: str
    name: str
    payload: bytes
    content_type: str


class Link:
    """One device's connection. ``start`` never fails because of a broker that is away: it goes on trying.

    Raises:
        ConfigError: the enrolment's TLS certificate is not usable.
    """

    def __init__(
        self,
        enrolment: Enrolment,
        outbox: Outbox,
        *,
        config: LinkConfig | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.inbox: queue.Queue[Inbound] = queue.Queue(INBOX_MAX)
        self.connected = False
        self.since = clock()
        """When ``connected`` changed last, by ``clock``."""
        self.error = "not connected yet"
        """Why there is no connection; empty while there is one."""
        self._told = ""  # the trouble that was logged last
        self._enrolment = enrolment
        self._outbox = outbox
        self._config = config or LinkConfig()
        self._clock = clock
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._retained: dict[str, Publication] = {}
        self._dirty: dict[str, None] = {}  # retained topics to be published, in order
        self._rows: dict[int, int] = {}  # MQTT message id -> outbox row
        self._awaiting: set[int] = set()  # message ids of retained messages without their PUBACK
        self._plain: set[int] = set()  # message ids of QoS 0 messages that paho still holds
        self._paused_until = 0.0
        self._stopping = False
        self._first_connect = True
        self._status_topic = topics.up(enrolment.site, enrolment.device, "status")
        will = Publication(self._status_topic, encode(self._status("offline")), qos=1, retain=True)
        identity = f"{enrolment.site}/{enrolment.device}"
        self._connection = Connection(enrolment.broker, identity, will, self._config, self._events)
        self._thread = threading.Thread(target=self._run, name="mqtt-publish", daemon=True)
        outbox.wake = lambda: self._events.put(Event("wake"))

    def start(self) -> None:
        """Begin to connect and to publish."""
        self.retain(self._status_topic, self._status("online"))
        self._thread.start()
        self._connection.start()

    def retain(self, topic: str, message: Message, *, qos: int = 1) -> None:
        """Make ``message`` the retained one of ``topic``, now or when there is a connection. Only the latest counts."""
        with self._lock:
            self._retained[topic] = Publication(topic, encode(message), qos, retain=True)
            self._dirty[topic] = None
        self._events.put(Event("wake"))

    def send(self, topic: str, message: Message) -> bool:
        """Publish with QoS 0, not retained; False when it was dropped (no connection, or the network is too slow)."""
        if not self.connected or len(self._plain) >= PLAIN_IN_FLIGHT_MAX:
            return False
        self._events.put(Event("message", Publication(topic, encode(message), qos=0)))
        return True

    def stop(self, seconds: float = 1.0) -> None:
        """Write the outbox to disk, send what goes within ``seconds``, publish ``offline``, disconnect."""
        if self._thread.is_alive():
            self._events.put(Event("stop", time.monotonic() + seconds))
            self._thread.join(seconds + GOODBYE_SECONDS + 1)
        self._connection.stop(0.5)
        self.connected = False

    def _status(self, state: str) -> Status:
        return Status(device=self._enrolment.device, state=state, time=self._clock())

    def _run(self) -> None:
        deadline: float | None = None
        while deadline is None or not self._drained(deadline):
            event = self._next(deadline)
            try:
                if event is not None and event.what == "stop":
                    deadline, self._stopping = event.value, True
                    self._outbox.flush()
                elif event is not None:
                    self._handle(event)
                self._outbox.commit()
                self._publish_retained()
                self._publish_rows()
            except Exception:  # this thread must outlive everything; what went wrong is told in full
                log.exception("publishing failed; going on")
        self._outbox.flush()
        if self.connected:
            self._say_offline()

    def _drained(self, deadline: float) -> bool:
        return not self.connected or time.monotonic() >= deadline or not (self._rows or self._outbox.rows)

    def _say_offline(self) -> None:
        self.retain(self._status_topic, self._status("offline"))
        self._publish_retained()
        deadline = time.monotonic() + GOODBYE_SECONDS
        while self.connected and self._awaiting and time.monotonic() < deadline:
            event = self._next(deadline)
            if event is not None:
                self._handle(event)
        self._outbox.flush()

    def _next(self, deadline: float | None) -> Event | None:
        due = [self._outbox.due_in(), self._pause(), None if deadline is None else deadline - time.monotonic()]
        waits = [max(0.0, seconds) for seconds in due if seconds is not None]
        try:
            return self._events.get(timeout=min(waits) if waits else None)
        except queue.Empty:
            return None

    def _pause(self) -> float | None:
        left = self._paused_until - time.monotonic()
        return left if left > 0 else None

    def _handle(self, event: Event) -> None:
        match event.what:
            case "connect":
                self._on_connected(session_present=event.value)
            case "disconnect":
                self._on_disconnected(event.value)
            case "puback":
                self._on_puback(*event.value)
            case "inbound":
                self._on_inbound(event.value)
            case "message" if self.connected:
                self._publish(event.value)

    def _on_connected(self, *, session_present: bool) -> None:
        self.connected, self.error, self.since = True, "", self._clock()
        broker = self._enrolment.broker
        level = logging.DEBUG if self._connection.contested else logging.INFO  # in a tug of war it would come for ever
        log.log(level, "connected to the broker at %s:%d", broker.host, broker.port)
        anew = self._first_connect or not session_present
        self._first_connect = False
        if anew:
            # Brokers differ in whether a subscriber that they know sees the retained messages again; who needs the
            # last desired release across processes must remember it.
            self._connection.subscribe(topics.device_filter(self._enrolment.site, self._enrolment.device))
        if not session_present:
            self._paused_until = time.monotonic() + self._config.settle
        with self._lock:
            self._dirty.update(dict.fromkeys(self._retained if anew else [self._status_topic]))

    def _on_disconnected(self, reason: str) -> None:
        if self.connected:
            if self._clock() - self.since >= STEADY_SECONDS:
                self._told = ""
            self.since = self._clock()
        if reason != self._told:
            log.warning("no connection to the broker: %s; messages wait in the outbox", reason)
            self._told = reason
        self.connected, self.error = False, reason
        self._plain.clear()

    def _on_puback(self, mid: int, code: int, reason: str) -> None:
        self._plain.discard(mid)
        self._awaiting.discard(mid)
        row = self._rows.pop(mid, None)
        if row is None:
            return
        if code < 0x80:
            self._outbox.acknowledge(row)
        elif code in POISON:
            log.error("the broker will never take a message, it is dropped: %s", reason)
            self._outbox.discard(row)
        else:
            log.warning("the broker refused a message: %s; trying again later", reason)
            self._outbox.release(row)
            self._paused_until = time.monotonic() + self._config.refused_pause

    def _on_inbound(self, message: mqtt.MQTTMessage) -> None:
        try:
            topic = topics.parse(message.topic)
        except MessageError as error:
            log.warning("ignored: %s", error)
            return
        content_type = getattr(message.properties, "ContentType", JSON)
        try:
            self.inbox.put_nowait(Inbound(topic.kind, topic.name, bytes(message.payload), content_type))
        except queue.Full:
            log.warning("too many messages from the controller: ignored one on %s", message.topic)

    def _publish_retained(self) -> None:
        if not self.connected:
            return
        with self._lock:
            waiting = [self._retained[topic] for topic in self._dirty]
            self._dirty.clear()
        for message in waiting:
            self._publish(message)

    def _publish_rows(self) -> None:
        free = self._config.in_flight - len(self._rows)
        if not self.connected or self._pause() is not None or free <= 0:
            return
        for row in self._outbox.take(free):
            mid = self._connection.publish(Publication(row.topic, row.payload, 1, content_type=row.content_type))
            if mid is None:
                self._outbox.release(row.id)
            else:
                self._rows[mid] = row.id

    def _publish(self, message: Publication) -> None:
        mid = self._connection.publish(message)
        if mid is not None:
            (self._awaiting if message.qos else self._plain).add(mid)
