"""Which request is answered how: the routes of the protocol, ours beside them, the token, the errors.

=====================================  ==============================================================
``GET /v2``                            the server's name and extensions
``GET /v2/health/live``, ``ready``     for probes; need no token
``GET /v2/models/M[/versions/V]``      metadata; ``/ready``, ``/config``
``POST /v2/models/M[...]/infer``       answers
``POST /v2/models/M[...]/feedback``    ours: the truth about an answer
``POST /v2/repository/index``          the one model that there is
``GET /metrics``                       for Prometheus
=====================================  ==============================================================
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from time import perf_counter, time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import msgspec

from edge_agent.server.bodies import plain_body
from edge_agent.server.bulk import FOREIGN, BulkRunner
from edge_agent.server.config import HttpConfig
from edge_agent.server.connection import Connection, Request
from edge_agent.server.exposition import render
from edge_agent.server.metrics import ServerMetrics
from edge_agent.server.model import Model, server_metadata
from edge_agent.server.replies import BINARY, JSON, TEXT, HttpError, error_body, reply, status_of
from edge_agent.server.request import Plan, first_of
from shared.errors import UNREADABLE, BackendError, InputError, SanderlingError, one_line

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from edge_agent.answers import Answer
    from edge_agent.engine import Engine
    from edge_agent.scheduler.config import SchedulerConfig
    from edge_agent.scheduler.loop import LoopScheduler

log = logging.getLogger(__name__)

LIVE, READY = b"/v2/health/live", b"/v2/health/ready"
KEPT_PATHS = 64
DRAIN_EVERY = 0.005
NOT_READY = "no release is loaded yet; try again later"

Handler = Callable[[Request, Connection], None]


class Route(msgspec.Struct, frozen=True):
    """One path: its name in the metrics, its method and who answers."""

    name: str
    method: bytes
    handler: Handler


class Truth(msgspec.Struct):
    """Body of ``feedback``."""

    id: str
    truth: str | float


class App:
    """Answers requests in one loop. ``engine`` is asked for each request: it changes with an update."""

    def __init__(
        self,
        engine: Callable[[], Engine | None],
        config: HttpConfig,
        scheduler: SchedulerConfig,
        metrics: Callable[[], Mapping[str, float]] | None,
        token: bytes | None,
        loop: AbstractEventLoop,
    ) -> None:
        self.config = config
        self.held = 0
        self.now = loop.time()
        self.connections: set[Connection] = set()
        self.metrics = ServerMetrics()
        self._engine = engine
        self._current: Engine | None = None
        self._model: Model | None = None
        self._scheduler: LoopScheduler | None = None
        self._scheduler_config = scheduler
        self._bulk = BulkRunner(loop)
        self._more = metrics
        self._authorization = None if token is None else b"bearer " + token
        self._loop = loop
        self._date = b""
        self._ticking = False
        self._paths: dict[bytes, Route] = {}

    # connections

    def opened(self, connection: Connection) -> None:
        """A client came. Where there is no room, the one that has been idle longest makes it."""
        if not self._ticking:
            self._ticking = True
            self._tick()
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
        self.now = self._loop.time()
        self._date = b"Date: %b\r\n" % formatdate(time(), usegmt=True).encode()
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

    def refusal(self, error: HttpError) -> bytes:
        """The response to a request that could not be read."""
        self.metrics.count("refused", error.status)
        headers = b"Connection: close\r\n" + error.headers
        return reply(error.status, error_body(str(error)), headers=headers, date=self._date)

    # requests

    def handle(self, request: Request, connection: Connection) -> None:
        """Find the route and answer."""
        route = None
        try:
            engine = self._engine()
            if engine is not self._current:
                self._use(engine)
            route = self._paths.get(request.url) or self._resolve(request.url)
            if request.method == route.method or (request.method == b"HEAD" and route.method == b"GET"):
                route.handler(request, connection)
            else:
                error = HttpError(405, f"expected {route.method.decode()} here", b"Allow: %b\r\n" % route.method)
                self._fail(route.name, error, request, connection)
        except Exception as error:
            self._fail(route.name if route else "none", error, request, connection)

    def _use(self, engine: Engine | None) -> None:
        """Another engine: an update, the first release, or none."""
        self._paths.clear()
        self._bulk.forget()
        self._model = None if engine is None else Model(engine, max_batch=self.config.max_batch)
        self._current = engine
        if engine is None:
            return
        if self._scheduler is None:
            from edge_agent.scheduler.loop import LoopScheduler

            self._scheduler = LoopScheduler(engine, self._scheduler_config, self._loop)
        else:
            self._scheduler.swap(engine)

    def _resolve(self, url: bytes) -> Route:
        path = unquote_to_bytes(url.partition(b"?")[0])
        route = self._route(path)
        if len(self._paths) >= KEPT_PATHS:
            self._paths.clear()
        self._paths[url] = route
        return route

    def _route(self, path: bytes) -> Route:
        fixed: dict[bytes, Route] = {
            b"/v2": Route("server", b"GET", self._server),
            b"/v2/": Route("server", b"GET", self._server),
            LIVE: Route("live", b"GET", self._live),
            READY: Route("ready", b"GET", self._ready),
            b"/v2/repository/index": Route("index", b"POST", self._index),
            b"/metrics": Route("metrics", b"GET", self._metrics),
        }
        if path in fixed:
            return fixed[path]
        parts = path.decode("utf-8", "replace").split("/")
        if parts[:3] != ["", "v2", "models"] or len(parts) < 4:
            raise HttpError(404, f"nothing is at {_short(path)}")
        name, rest = parts[3], parts[4:]
        if self._model is None:
            raise HttpError(503, NOT_READY, b"Retry-After: 1\r\n")
        if name != self._model.name:
            raise HttpError(404, f"no model {name[:64]!r} is here; it is {self._model.name!r}")
        if rest[:1] == ["versions"] and len(rest) > 1:
            if rest[1] not in {self._model.version, ""}:
                raise HttpError(404, f"model {name} has version {self._model.version} here, not {rest[1][:64]!r}")
            rest = rest[2:]
        model: dict[str, Route] = {
            "": Route("model", b"GET", self._metadata),
            "ready": Route("model_ready", b"GET", self._model_ready),
            "config": Route("config", b"GET", self._configuration),
            "infer": Route("infer", b"POST", self._infer),
            "feedback": Route("feedback", b"POST", self._feedback),
        }
        found = model.get("/".join(rest))
        if found is None:
            raise HttpError(404, f"nothing is at {_short(path)}")
        return found

    def _infer(self, request: Request, connection: Connection) -> None:
        start = perf_counter()
        model, scheduler = self._model, self._scheduler
        assert model is not None
        assert scheduler is not None
        headers = request.headers
        body = request.body
        if b"content-encoding" in headers:
            body = plain_body(body, headers[b"content-encoding"], self.config.max_body_bytes)
        header = headers.get(b"inference-header-content-length")
        plan, samples = model.read(body, None if header is None else _length(header))
        self.metrics.received_bytes += len(body)
        if plan.count == 1:

            def done(outcome: Answer | SanderlingError) -> None:
                found = outcome if isinstance(outcome, SanderlingError) else (outcome,)
                self._answered(found, plan, model, start, request, connection)

            scheduler.submit(first_of(samples), plan.id, plan.deadline_ms, done)
        else:
            ids = None if plan.id is None else [f"{plan.id}-{index}" for index in range(plan.count)]
            self._bulk.submit(
                model.engine,
                samples,
                plan.count,
                ids,
                lambda outcome: self._answered(outcome, plan, model, start, request, connection),
            )

    def _answered(
        self,
        outcome: Sequence[Answer] | SanderlingError,
        plan: Plan,
        model: Model,
        start: float,
        request: Request,
        connection: Connection,
    ) -> None:
        if isinstance(outcome, SanderlingError):
            self._fail("infer", _blamed(outcome, model), request, connection)
            return
        try:
            body, binaries = model.body(plan, outcome)
        except Exception as error:
            self._fail("infer", error, request, connection)
            return
        if binaries:
            headers = b"Inference-Header-Content-Length: %d\r\n" % len(body)
            self._send("infer", b"".join((body, *binaries)), request, connection, kind=BINARY, headers=headers)
        else:
            self._send("infer", body, request, connection)
        self.metrics.inferred(perf_counter() - start)

    def _feedback(self, request: Request, connection: Connection) -> None:
        assert self._current is not None
        try:
            truth = msgspec.json.decode(request.body, type=Truth)
        except UNREADABLE as error:
            raise InputError(f'expected {{"id": ..., "truth": ...}}: {error}') from error
        said = self._current.feedback(truth.id, truth.truth)
        answer: dict[str, Any] = {"known": said is not None}
        if said is not None:
            answer["correct" if isinstance(said, bool) else "error"] = said
        self._json("feedback", answer, request, connection)

    def _server(self, request: Request, connection: Connection) -> None:
        self._json("server", server_metadata(), request, connection)

    def _live(self, request: Request, connection: Connection) -> None:
        self._json("live", {"live": True}, request, connection)

    def _ready(self, request: Request, connection: Connection) -> None:
        if self._model is None:
            raise HttpError(503, NOT_READY, b"Retry-After: 1\r\n")
        self._json("ready", {"ready": True}, request, connection)

    def _metadata(self, request: Request, connection: Connection) -> None:
        model = self._model
        assert model is not None
        found = {"name": model.name, "versions": [model.version], "platform": model.platform}
        self._json("model", {**found, "inputs": model.inputs(), "outputs": model.outputs()}, request, connection)

    def _model_ready(self, request: Request, connection: Connection) -> None:
        assert self._model is not None
        self._json("model_ready", {"name": self._model.name, "ready": True}, request, connection)

    def _configuration(self, request: Request, connection: Connection) -> None:
        assert self._model is not None
        self._json("config", self._model.configuration(), request, connection)

    def _index(self, request: Request, connection: Connection) -> None:
        model = self._model
        found = (
            [] if model is None else [{"name": model.name, "version": model.version, "state": "READY", "reason": ""}]
        )
        self._json("index", found, request, connection)

    def _metrics(self, request: Request, connection: Connection) -> None:
        self.metrics.connections = len(self.connections)
        stats = self._scheduler.stats() if self._scheduler is not None else None
        text = render(self.metrics, self._current, stats, self._more)
        self._send("metrics", text.encode(), request, connection, kind=TEXT)

    # responses

    def _json(self, route: str, value: Any, request: Request, connection: Connection) -> None:
        self._send(route, msgspec.json.encode(value), request, connection)

    def _send(
        self,
        route: str,
        body: bytes,
        request: Request,
        connection: Connection,
        *,
        status: int = 200,
        kind: bytes = JSON,
        headers: bytes = b"",
    ) -> None:
        self.metrics.count(route, status)
        keep = request.keep
        if not keep:
            headers += b"Connection: close\r\n"
        response = reply(status, body, kind, headers=headers, date=self._date, head_only=request.method == b"HEAD")
        self.metrics.sent_bytes += len(response)
        connection.respond(response, keep=keep)

    def _fail(self, route: str, error: Exception, request: Request, connection: Connection) -> None:
        if isinstance(error, SanderlingError):
            status, headers = status_of(error)
            message = str(error)
            if status == 500:
                log.error("HTTP request failed: %s", message)
        else:
            log.error("HTTP request failed, which is a fault of the server", exc_info=error)
            status, headers, message = 500, b"", f"the server failed: {one_line(error)}"
        self._send(route, error_body(message), request, connection, status=status, headers=headers)

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
        self._bulk.close()
        for connection in tuple(self.connections):
            connection.abort()


def _blamed(error: SanderlingError, model: Model) -> SanderlingError:
    """A runtime that fails on this sample but runs on others failed because of the sample: an index beyond a table,
    sizes that do not fit together, numbers so large that their sum is none."""
    if isinstance(error, BackendError) and not str(error).startswith(FOREIGN) and model.works():
        return InputError(f"the model cannot answer this sample: {error}")
    return error


def _length(header: bytes) -> int:
    if not header.isdigit() or len(header) > 12:
        raise InputError("Inference-Header-Content-Length must be the length of the JSON in bytes")
    return int(header)


def _short(path: bytes) -> str:
    return repr(path[:100].decode("utf-8", "replace"))
