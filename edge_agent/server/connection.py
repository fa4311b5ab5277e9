"""One client's connection: httptools reads, ``App`` answers, in the order in which the requests came.

Invariants, held by ``tests/edge_agent/server/test_connection.py`` and the fuzz tests:

1. Each request gets one response, in its order; while one is answered at most what one read brought waits behind it.
2. What a client can make the server keep is bounded: header, body, requests that wait, responses that it does not read.
3. A request that cannot be read is refused, and with it the rest of the connection; what came before it is answered.

A client sends the same head again and again, so what httptools made of one is kept (:class:`Heads`) and found by its
bytes. Only a request that comes alone and whole, between two others, is looked for there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, cast

import httptools

from edge_agent.server.heads import HEAD_END, Head, Heads, Request
from edge_agent.server.replies import HttpError

if TYPE_CHECKING:
    from edge_agent.server.config import HttpConfig

PIPELINED = 16
"""Requests that may wait behind the one that is answered before reading stops."""
BODY_RATE = 64 << 10
"""Bytes a second that a client must keep up."""
LINGER = 2.0
"""Seconds in which a refused client may read why, before its connection is cut."""
CHUNKED_OVERHEAD = 2


class Handler(Protocol):
    """What a connection needs of the application. ``now`` is the loop's time, some seconds old at most."""

    config: HttpConfig
    now: float
    held: int
    heads: Heads

    def opened(self, connection: Connection) -> None:
        """A client came."""

    def closed(self, connection: Connection) -> None:
        """It went."""

    def admit(self, method: bytes, url: bytes, headers: dict[bytes, bytes]) -> HttpError | None:
        """Why a request is refused before its body is read."""

    def handle(self, request: Request, connection: Connection) -> None:
        """Answer with one call of ``connection.respond``, now or later. Never raises."""

    def refusal(self, error: HttpError) -> bytes:
        """The response to a request that could not be read."""


class Connection(asyncio.Protocol):
    """See the module."""

    def __init__(self, app: Handler) -> None:
        self.app = app
        self.config = app.config
        self.busy = False  # a request is being answered
        self.pending: deque[Request | HttpError] = deque()
        self.idle_since = app.now
        self.served = False
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._heads = app.heads
        self._first: bytes | None = None  # what one read brought, while the request at its beginning is read
        self._pumping = False
        self._paused = False  # the client does not read
        self._stopped = False  # we do not
        self._final = False  # nothing more is read from this client
        self._lingering = False
        self._since = app.now
        self._received = 0
        self._held = 0
        self._reading = self._in_head = self._upgrade = False
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._chunks: list[bytes] = []
        self._size = 0

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self._transport = cast("asyncio.Transport", transport)
        self.app.opened(self)
        self.idle_since = self._since = self.app.now

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        """It went, or was cut. An answer under way finds nobody."""
        self._transport = None
        self._final = True
        self.pending.clear()
        self._release()
        self.app.closed(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of any number of requests."""
        if self._final:
            return
        if not (self._reading or self.busy or self._paused):  # then nothing waits, either
            end = data.find(HEAD_END) + 4
            head = self._heads.find(data[:end])
            if head is not None and len(data) == end + head.length:
                self.busy = True
                self.app.handle(Request(head, data, end, alone=True), self)
                return
            self._first = data
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            self._ignore_upgrade(data[error.args[0] :])
        except httptools.HttpParserError as error:
            self.refuse(HttpError(400, f"malformed HTTP request: {error}"))
        self._first = None
        if self._reading and not self._final:
            if self._in_head and self._received > self.config.max_header_bytes:
                self.refuse(HttpError(431, f"the header is longer than {self.config.max_header_bytes} bytes"))
            elif self._received > self.config.max_header_bytes + CHUNKED_OVERHEAD * self.config.max_body_bytes:
                self.refuse(self._too_large())
        if len(self.pending) >= PIPELINED and not self._stopped and self._transport is not None:
            self._stopped = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more, but may still read what it asked for."""
        self._final = True
        return self.busy or bool(self.pending)

    def pause_writing(self) -> None:
        """The client does not read its responses."""
        self._paused = True
        self._since = self.app.now
        if not self._stopped and self._transport is not None:
            self._stopped = True
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused = False
        self._pump()

    # what httptools calls

    def on_message_begin(self) -> None:
        """A request begins."""
        self._reading = self._in_head = True
        self._upgrade = False
        self._since = self.app.now
        self._url = b""
        self._headers = {}
        self._chunks = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        """The target, or a part of it."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line, or a trailer after a chunked body, which nobody needs."""
        if self._in_head:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Everything but the body: the time to refuse."""
        self._in_head = False
        if self._final:
            return
        headers, config = self._headers, self.config
        if self._received > config.max_header_bytes:
            head = len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers.items())
            if head > config.max_header_bytes:
                self.refuse(HttpError(431, f"the header is longer than {config.max_header_bytes} bytes"))
                return
        length = headers.get(b"content-length")
        if length is not None and int(length) > config.max_body_bytes:
            self.refuse(self._too_large())
            return
        error = self.app.admit(self._parser.get_method(), self._url, headers)
        if error is not None:
            self.refuse(error)
            return
        if b"upgrade" in headers or self._parser.get_method() == b"CONNECT":
            self._upgrade = self._parser.should_upgrade()
        if headers.get(b"expect", b"").lower() == b"100-continue" and not self.busy and not self.pending:
            assert self._transport is not None
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        if self._final:
            return
        self._size += len(body)
        if self._chunks:  # what comes in one read is not worth counting
            self._held += len(body)
            self.app.held += len(body)
            if self._size > self.config.max_body_bytes:
                self.refuse(self._too_large())
                return
            if self.app.held > 4 * self.config.max_body_bytes:
                self.refuse(HttpError(503, "too many large requests at once; try again", b"Retry-After: 1\r\n"))
                return
        elif self._size > self.config.max_body_bytes:
            self.refuse(self._too_large())
            return
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        """A whole request."""
        self._reading = False
        self._received = 0
        if self._final or self._upgrade:
            return
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if self._held:
            self._release()
        keep = self._parser.should_keep_alive() and (
            b"connection" not in self._headers or self._parser.get_http_version() != "1.0"
        )
        self._final = not keep
        head = Head(self._parser.get_method(), self._url, self._headers, len(body), keep=keep)
        if self._first is not None:
            self._heads.keep(self._first, head)
            self._first = None
        request = Request(head, body)
        if self.busy or self._paused or self.pending:
            self.pending.append(request)
        else:
            self.busy = True
            self.app.handle(request, self)

    # answering

    def respond(self, response: bytes, *, keep: bool) -> None:
        """Send the response to the request that ``App.handle`` was given last."""
        if self._transport is None:
            return
        self._transport.write(response)
        self.busy = False
        self.served = True
        self.idle_since = self.app.now
        if not keep or (self._final and not self.pending):
            self._transport.close()
        elif self.pending and not self._pumping:
            self._pump()

    def _pump(self) -> None:
        """Answer what waits, until one takes its time or the client stops reading."""
        self._pumping = True
        pending = self.pending
        while pending and not self.busy and not self._paused and self._transport is not None:
            item = pending.popleft()
            if isinstance(item, HttpError):
                self._send_refusal(item)
            else:
                self.busy = True
                self.app.handle(item, self)
        self._pumping = False
        if self._stopped and not self._paused and len(pending) < PIPELINED and self._transport is not None:
            self._stopped = False
            self._since = self.app.now
            self._transport.resume_reading()

    def refuse(self, error: HttpError) -> None:
        """Nothing more is read; ``error`` is said after the answers that are due."""
        if self._final:
            return
        self._final = True
        self._reading = False
        self._chunks = []
        self._release()
        self.pending.append(error)
        if not self._pumping:
            self._pump()

    def _send_refusal(self, error: HttpError) -> None:
        """Closing at once would reset the connection while the client still sends: it would never read why."""
        assert self._transport is not None
        self._transport.write(self.app.refusal(error))
        self._lingering = True
        self._since = self.app.now
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """A server may go on in HTTP/1.1 as if no upgrade were offered (RFC 9110, 7.8): Java's client offers h2c with
        every request. httptools would skip the body, so a new parser reads the request without the offer."""
        method = self._parser.get_method()
        if self._final:
            return
        if method == b"CONNECT":
            self.refuse(HttpError(405, "CONNECT is not supported", b"Allow: GET, POST\r\n"))
            return
        lines = [
            b"%b: %b\r\n" % (name, value)
            for name, value in self._headers.items()
            if name not in {b"upgrade", b"connection", b"http2-settings", b"expect"}
        ]
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self._url, b"".join(lines)) + rest)

    def _too_large(self) -> HttpError:
        return HttpError(413, f"the body is larger than {self.config.max_body_bytes} bytes")

    def _release(self) -> None:
        self.app.held -= self._held
        self._held = 0

    # time

    def check(self, now: float) -> None:
        """Called about once a second: end what takes too long."""
        transport, config = self._transport, self.config
        if transport is None:
            return
        waited = now - self._since
        if self._lingering:
            if waited > LINGER:
                transport.abort()
        elif self._paused:
            if waited > config.read_seconds:
                transport.abort()
        elif self.busy or self._stopped:
            self._since = now
        elif self._reading:
            if waited > config.read_seconds + self._received / BODY_RATE:
                self.refuse(HttpError(408, "the request came too slowly"))
        elif now - self.idle_since > (config.idle_seconds if self.served else config.read_seconds):
            transport.close()

    @property
    def idle(self) -> bool:
        """Whether closing would lose nothing."""
        return not (self.busy or self.pending or self._reading or self._lingering)

    def close(self) -> None:
        """Close after what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut."""
        if self._transport is not None:
            self._transport.abort()
