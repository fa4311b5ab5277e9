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

import logging
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import msgspec

from edge_agent.server.bodies import plain_body
from edge_agent.server.bulk import FOREIGN, BulkRunner
from edge_agent.server.clients import LIVE, READY, Clients
from edge_agent.server.config import HttpConfig
from edge_agent.server.connection import Connection
from edge_agent.server.exposition import render
from edge_agent.server.heads import Request
from edge_agent.server.metrics import ServerMetrics
from edge_agent.server.model import Model, server_metadata
from edge_agent.server.replies import CLOSE, JSON, TEXT, HttpError, binary_reply, error_body, reply, status_of
from edge_agent.server.request import Plan
from shared.errors import UNREADABLE, BackendError, InputError, SanderlingError, one_line

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from edge_agent.answers import Answer
    from edge_agent.engine import Engine
    from edge_agent.scheduler.config import SchedulerConfig
    from edge_agent.scheduler.loop import LoopScheduler

log = logging.getLogger(__name__)

KEPT_PATHS = 64
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


class App(Clients):
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
        super().__init__(config, token, loop)
        self.metrics = ServerMetrics()
        self._engine = engine
        self._current: Engine | None = None
        self._model: Model | None = None
        self._scheduler: LoopScheduler | None = None
        self._scheduler_config = scheduler
        self._bulk = BulkRunner(loop)
        self._more = metrics
        self._paths: dict[bytes, Route] = {}

    def refusal(self, error: HttpError) -> bytes:
        """The response to a request that could not be read."""
        self.metrics.count("refused", error.status)
        headers = CLOSE + error.headers
        return reply(error.status, error_body(str(error)), headers=headers, date=self.date)

    # requests

    def handle(self, request: Request, connection: Connection) -> None:
        """Find the route and answer."""
        route = None
        try:
            engine = self._engine()
            if engine is not self._current:
                self._use(engine)
            route = self._paths.get(request.head.url) or self._resolve(request.head.url)
            if request.head.method == route.method or (request.head.method == b"HEAD" and route.method == b"GET"):
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
        headers, data, begin = request.head.headers, request.data, request.start
        if b"content-encoding" in headers:
            data = plain_body(request.body, headers[b"content-encoding"], self.config.max_body_bytes)
            begin = 0
        header = headers.get(b"inference-header-content-length")
        plan, samples = model.read(data, None if header is None else _length(header), begin)
        self.metrics.received_bytes += len(data) - begin
        if request.alone and self.lone and plan.count == 1 and plan.deadline_ms is None:
            outcome = scheduler.infer_now(samples, plan.id)
            if outcome is not None:
                self._answered(outcome, plan, model, start, request, connection)
                return
        self._submit(plan, samples, model, start, request, connection)

    def _submit(
        self, plan: Plan, samples: Any, model: Model, start: float, request: Request, connection: Connection
    ) -> None:
        def done(outcome: Answer | Sequence[Answer] | SanderlingError) -> None:
            self._answered(outcome, plan, model, start, request, connection)

        if plan.count == 1:
            assert self._scheduler is not None
            self._scheduler.submit(samples, plan.id, plan.deadline_ms, done)
            return
        ids = None if plan.id is None else [f"{plan.id}-{index}" for index in range(plan.count)]
        self._bulk.submit(model.engine, samples, plan.count, ids, done)

    def _answered(
        self,
        outcome: Answer | Sequence[Answer] | SanderlingError,
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
        keep = request.head.keep
        if binaries:
            response = binary_reply(body, b"".join(binaries), self.date, keep=keep)
        else:
            response = reply(200, body, headers=b"" if keep else CLOSE, date=self.date)
        metrics = self.metrics
        metrics.count("infer", 200)
        metrics.sent_bytes += len(response)
        connection.respond(response, keep=keep)
        metrics.inferred(perf_counter() - start)

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
        keep = request.head.keep
        if not keep:
            headers += CLOSE
        response = reply(status, body, kind, headers=headers, date=self.date, head_only=request.head.method == b"HEAD")
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

    def close(self) -> None:
        """Cut every connection."""
        self._bulk.close()
        super().close()


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
