"""Who is connected: room, time limits, the token, and whether one client has the server to itself."""

from __future__ import annotations

import asyncio
import hmac
from email.utils import formatdate
from time import time
from typing import TYPE_CHECKING

from edge_agent.server.config import HttpConfig
from edge_agent.server.connection import Connection
from edge_agent.server.heads import Heads
from edge_agent.server.replies import HttpError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

LIVE, READY = b"/v2/health/live", b"/v2/health/ready"
DRAIN_EVERY = 0.005


class Clients:
    """The connections of one loop. ``token``: the bearer token that requests need, if any."""

    def __init__(self, config: HttpConfig, token: bytes | None, loop: AbstractEventLoop) -> None:
        self.config = config
        self.held = 0
        self.heads = Heads()
        self.now = loop.time()
        self.date = b""
        """The Date header."""
        self.lone = True
        """Whether at most one connection asked for anything since the last tick: then nobody's request could be run
        together with another's, and none is held back for it."""
        self.connections: set[Connection] = set()
        self._authorization = None if token is None else b"bearer " + token
        self._loop = loop
        self._ticking = False

    def opened(self, connection: Connection) -> None:
        """A client came. Where there is no room, the one that has been idle longest makes it."""
        if not self._ticking:
            self._ticking = True
            self._tick()
        self.lone = not self.connections
        if len(self.connections) >= self.config.max_connections:
            idle = min((c for c in self.connections if c.idle), key=lambda c: c.idle_since, default=None)
            if idle is None:
                connection.refuse(HttpError(503, "too many connections; try again later", b"Retry-After: 1\r\n"))
            else:
                idle.close()
                self.connections.discard(idle)
        self.connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """A client went."""
        self.connections.discard(connection)

    def _tick(self) -> None:
        """The clock of the timeouts and of the Date header; it stops when nobody is connected."""
        self.lone = sum(c.busy or c.idle_since >= self.now for c in self.connections) < 2
        self.now = self._loop.time()
        self.date = b"Date: %b\r\n" % formatdate(time(), usegmt=True).encode()
        for connection in tuple(self.connections):
            connection.check(self.now)
        if self.connections:
            self._loop.call_later(min(1.0, self.config.read_seconds / 4, self.config.idle_seconds / 4), self._tick)
        else:
            self._ticking = False

    def admit(self, method: bytes, url: bytes, headers: dict[bytes, bytes]) -> HttpError | None:
        """Who has no token gets no further than the health checks; a body needs its length."""
        if self._authorization is not None and url not in {LIVE, READY}:
            scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
            given = scheme.lower() + b" " + token.strip()
            if not hmac.compare_digest(given, self._authorization):
                return HttpError(401, "a bearer token is needed", b"WWW-Authenticate: Bearer\r\n")
        if method == b"POST" and b"content-length" not in headers and b"transfer-encoding" not in headers:
            return HttpError(411, "a POST needs a Content-Length, 0 where there is no body")
        return None

    async def drain(self, seconds: float) -> None:
        """Wait for requests that are under way, but no longer than ``seconds``; close the connections without any."""
        end = self._loop.time() + seconds
        while True:
            for connection in tuple(self.connections):
                if connection.idle:
                    connection.close()
            await asyncio.sleep(DRAIN_EVERY)
            if not self.connections or self._loop.time() >= end:
                return

    def close(self) -> None:
        """Cut every connection."""
        for connection in tuple(self.connections):
            connection.abort()
