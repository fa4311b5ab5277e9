"""The HTTP server beside the main loop, if the configuration asks for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from edge_agent.config import AgentConfig

if TYPE_CHECKING:
    from edge_agent.engine import Engine
    from edge_agent.server import Server
    from edge_agent.service.tap import Tap


class Serving:
    """Starts and stops the server. ``engine`` gives what answers at the time.

    Raises:
        MissingExtraError: the server's library is not installed.
    """

    def __init__(
        self, config: AgentConfig, engine: Callable[[], Tap | None], metrics: Callable[[], Mapping[str, float]]
    ) -> None:
        self._server: Server | None = None
        self._host = config.http.host if config.http else ""
        if config.http is not None:
            from edge_agent.server import Server

            given = cast("Callable[[], Engine | None]", engine)  # a Tap is an engine to all that the server asks of it
            self._server = Server(given, config.http, metrics, config.scheduler)

    @property
    def port(self) -> int:
        """Where it listens; 0 where it does not."""
        return self._server.port if self._server else 0

    @property
    def address(self) -> str:
        """For people: ``HOST:PORT``, empty where nothing is served."""
        if not self.port:
            return ""
        return f"[{self._host}]:{self.port}" if ":" in self._host else f"{self._host}:{self.port}"

    def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: the address cannot be used, or the token file not read.
        """
        if self._server is not None:
            self._server.start()

    def stop(self) -> None:
        """Close every connection."""
        if self._server is not None:
            self._server.stop()
