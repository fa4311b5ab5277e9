"""Connections without sockets: what is fed is answered before ``feed`` returns."""

from __future__ import annotations

import itertools
import time
from collections import deque
from typing import Any

from edge_agent.scheduler.config import SchedulerConfig
from edge_agent.server.app import App
from edge_agent.server.config import HttpConfig
from edge_agent.server.connection import Connection
from tests.edge_agent.server.client import infer_json, request
from tests.edge_agent.server.engines import LinearEngine


class Loop:
    """The part of an event loop that ``App`` uses. Timers wait until they are called."""

    def __init__(self) -> None:
        self.soon: deque[Any] = deque()
        self.later: deque[Any] = deque()
        self.turns = 0

    def time(self) -> float:
        return time.monotonic()

    def call_soon(self, call: Any, *given: Any) -> None:
        self.turns += 1
        self.soon.append((call, given))

    call_soon_threadsafe = call_soon

    def call_later(self, _seconds: float, call: Any, *given: Any) -> None:
        self.later.append((call, given))

    def run(self) -> None:
        while self.soon:
            call, given = self.soon.popleft()
            call(*given)


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    write_eof = abort = close

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Peer:
    """A server without a thread, and its clients. After ``warm`` calls it knows that the engine is quick."""

    def __init__(self, engine: Any = None, *, token: bytes | None = None, warm: int = 3, **config: Any) -> None:
        self.loop = Loop()
        self.engine = LinearEngine() if engine is None else engine
        scheduler = config.pop("scheduler", SchedulerConfig())
        self.app = App(lambda: self.engine, HttpConfig(port=0, **config), scheduler, None, token, self.loop)
        self.app._use(self.engine)
        ticks = itertools.count()
        self.app._scheduler._clock = lambda: next(ticks) * 1e-5  # quick, also where the machine is not
        client = Client(self)
        for _ in range(warm):
            headers = {} if token is None else {"authorization": "bearer " + token.decode()}
            client.feed(request("POST", "/v2/models/compass/infer", infer_json([[1.0] * 16]), **headers))
        client.leave()

    def tick(self) -> None:
        call, given = self.loop.later.popleft()
        call(*given)


class Client:
    """One connection to a ``Peer``."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.connection = Connection(peer.app)
        self.transport = Transport()
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]
        peer.app.date = b""

    def give(self, data: bytes) -> None:
        """Like a packet; callbacks of the loop wait."""
        if not self.transport.closed:
            self.connection.data_received(data)

    def feed(self, *packets: bytes) -> bytes:
        """All that was written since the last call."""
        for packet in packets:
            self.give(packet)
            end = time.monotonic() + 10
            self.peer.loop.run()
            while self.connection.busy:
                assert time.monotonic() < end, "no answer"
                self.peer.loop.run()
        written, self.transport.written = self.transport.written, b""
        return written

    def leave(self) -> None:
        self.connection.connection_lost(None)
