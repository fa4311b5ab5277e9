"""Local serving: the Open Inference Protocol v2 over HTTP, and metrics for Prometheus (extra ``http``).

``HttpConfig`` costs nothing to import; asyncio and httptools are loaded with ``Server``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge_agent.server.config import HttpConfig

if TYPE_CHECKING:
    from edge_agent.server.server import Server

__all__ = ["HttpConfig", "Server"]


def __getattr__(name: str) -> Any:
    if name == "Server":
        from edge_agent.server.server import Server

        return Server
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
