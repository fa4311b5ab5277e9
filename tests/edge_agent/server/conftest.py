from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_agent.scheduler.config import SchedulerConfig
from edge_agent.server import HttpConfig, Server
from edge_agent.server import server as server_module
from tests.edge_agent.server.engines import LinearEngine

Serve = Callable[..., Server]


@pytest.fixture(params=["uvloop", "asyncio"])
def serve(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts servers, ``serve(engine, **config)``, and stops them in the end; on either event loop."""
    if request.param == "asyncio":
        monkeypatch.setattr(server_module, "_new_loop", asyncio.SelectorEventLoop)
    else:
        pytest.importorskip("uvloop", reason="there is no uvloop for this machine")
    with contextlib.ExitStack() as stack:

        def start(engine: Any = None, *, scheduler: SchedulerConfig | None = None, metrics: Any = None, **config: Any):
            found = LinearEngine() if engine is None else engine
            server = Server(
                found if callable(found) else lambda: found, HttpConfig(port=0, **config), metrics, scheduler
            )
            server.start()
            stack.callback(server.stop)
            return server

        yield start
