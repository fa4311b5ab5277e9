"""HTTP: the signed repository for devices, and the controller's state as JSON.

====================== =================================================================
GET /repository/...    TUF metadata and targets, as files
GET /healthz           200 while the broker is connected, else 503
GET /api/v1/fleet      devices, what they run, and the evidence about each release
GET /api/v1/incidents  all incidents, oldest first
GET /api/v1/rollouts   all rollouts, by model and release
====================== =================================================================

Nothing here writes. The port has no access control: it is for the loopback interface, or behind a proxy that has.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from cloud_trainer.controller import records, schema
from cloud_trainer.controller.store import Store
from shared.errors import UsageError

START_SECONDS = 10.0


def application(store: Store, repository: Path, health: Callable[[], tuple[bool, dict[str, Any]]]) -> Starlette:
    """The ASGI application. ``health`` gives (is it well, what there is to say)."""

    def healthz(_request: Request) -> Response:
        well, details = health()
        return JSONResponse({"status": "ok" if well else "degraded"} | details, 200 if well else 503)

    def fleet(_request: Request) -> Response:
        with store.reading() as connection:
            return JSONResponse(fleet_view(connection))

    def incidents(_request: Request) -> Response:
        with store.reading() as connection:
            return JSONResponse(msgspec.to_builtins(records.incidents_of(connection)))

    def rollouts(_request: Request) -> Response:
        with store.reading() as connection:
            return JSONResponse(msgspec.to_builtins(records.rollouts_of(connection)))

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/api/v1/fleet", fleet),
            Route("/api/v1/incidents", incidents),
            Route("/api/v1/rollouts", rollouts),
            # clients ask for 3.releases%2Fdigits.json; decoded, that is a file in a directory 3.releases
            Mount("/repository", StaticFiles(directory=repository)),
        ]
    )


def fleet_view(connection: sa.Connection) -> dict[str, Any]:
    """Devices with what they run, and detectors with their evidence."""
    running: dict[str, list[dict[str, Any]]] = {}
    for row in connection.execute(schema.device_models.select().order_by(schema.device_models.c.model)):
        running.setdefault(row.device, []).append(
            {
                "model": row.model,
                "release": row.release,
                "variant": row.variant,
                "refused": row.refused,
                "error": row.error,
                "state": json.loads(row.state),
            }
        )
    devices = [
        {
            "device": row.device,
            "online": bool(row.online),
            "seen": row.seen,
            "info": json.loads(row.info),
            "models": running.get(row.device, []),
        }
        for row in connection.execute(schema.devices.select().order_by(schema.devices.c.device))
    ]
    table = schema.detectors
    detectors = [
        {
            "model": row.model,
            "release": row.release,
            "variant": row.variant,
            "reports": row.reports,
            "evidence": row.evidence,
            "devices": json.loads(row.devices),
            "by_device": json.loads(row.by_device),
        }
        for row in connection.execute(table.select().order_by(table.c.model, table.c.release, table.c.variant))
    ]
    targets = {row.model: row.release for row in connection.execute(schema.targets.select())}
    return {"targets": targets, "devices": devices, "detectors": detectors}


class WebServer:
    """Serves ``application`` at ``listen`` ("host:port", port 0 for a free one) in a thread of its own.

    Raises:
        UsageError: the address is taken or not this machine's.
    """

    def __init__(self, app: Starlette, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host.strip("[]"), int(port)))
        except (OSError, OverflowError) as error:
            self._socket.close()
            reason = getattr(error, "strerror", None) or str(error)
            raise PortError(f"cannot listen on {listen}: {reason}; choose another address with listen = ...") from error
        self.host, self.port = self._socket.getsockname()[:2]
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1, ws="none"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="http", daemon=True
        )

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """The thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the thread; requests under way get a second."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(2)
        self._socket.close()


class PortError(UsageError):
    """The address cannot be listened on; exit code 1, because the same command works when the port is free."""

    exit_code = 1
