from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_agent.scheduler.config import SchedulerConfig
from edge_agent.server import HttpConfig, Server
from tests.edge_agent.server.engines import LinearEngine

Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers, ``serve(engine, **config)``, and stops them in the end."""
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
