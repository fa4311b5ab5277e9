"""The HTTP server in a thread of its own: beside whatever feeds the engine otherwise.

::

    server = Server(lambda: engine, HttpConfig(port=8000))
    server.start()
    ...
    server.stop()
"""

from __future__ import annotations

import asyncio
import logging
import socket
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.server.config import HttpConfig
from shared.errors import ConfigError, MissingExtraError
from shared.files import reason

if TYPE_CHECKING:
    from edge_agent.engine import Engine
    from edge_agent.scheduler.config import SchedulerConfig
    from edge_agent.server.app import App

log = logging.getLogger(__name__)

BACKLOG = 128
STOP_SECONDS = 1.0
DRAIN_SECONDS = 0.8
"""For requests that are under way when the server is stopped."""
MAX_TOKEN = 4096


class Server:
    """Serves what ``engine()`` gives at the time, ``None`` while there is no release. ``metrics()`` adds scalars of
    the agent to ``/metrics``; both are called from the server's thread."""

    def __init__(
        self,
        engine: Callable[[], Engine | None],
        config: HttpConfig,
        metrics: Callable[[], Mapping[str, float]] | None = None,
        scheduler: SchedulerConfig | None = None,
    ) -> None:
        self._engine = engine
        self._config = config
        self._metrics = metrics
        self._scheduler = scheduler
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self.port = 0
        """Where it listens, once it is started."""

    def start(self) -> None:
        """Listen and return.

        Raises:
            ConfigError: the address cannot be used, or the token file not read.
            MissingExtraError: httptools is not installed.
        """
        try:
            import httptools  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("the HTTP server", "http") from error
        config = self._config
        token = None if config.token_file is None else read_token(Path(config.token_file))
        self._socket = _listen(config)
        self.port = self._socket.getsockname()[1]
        if not config.loopback and token is None:
            log.warning(
                "HTTP server on %s:%d: whoever reaches this address may use the model; set token_file, or listen on "
                "127.0.0.1",
                config.host,
                self.port,
            )
        self._loop = _new_loop()
        self._started.clear()
        self._thread = threading.Thread(target=self._run, args=(token,), name="http", daemon=True)
        self._thread.start()
        self._started.wait()
        log.info("HTTP server on %s:%d", config.host, self.port)

    def _run(self, token: bytes | None) -> None:
        from edge_agent.scheduler.config import SchedulerConfig
        from edge_agent.server.app import App
        from edge_agent.server.connection import Connection

        loop, listening = self._loop, self._socket
        assert loop is not None
        assert listening is not None
        asyncio.set_event_loop(loop)
        app = App(self._engine, self._config, self._scheduler or SchedulerConfig(), self._metrics, token, loop)
        server = loop.run_until_complete(loop.create_server(lambda: Connection(app), sock=listening, backlog=BACKLOG))
        self._started.set()
        try:
            loop.run_forever()
        finally:
            server.close()
            self._finish(app, loop)

    @staticmethod
    def _finish(app: App, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(app.drain(DRAIN_SECONDS))
        app.close()
        loop.run_until_complete(asyncio.sleep(0))  # what was cut is told so
        asyncio.set_event_loop(None)
        loop.close()

    def stop(self) -> None:
        """Close the socket, answer what is under way, and close every connection, within a second. May be called
        twice, and before ``start``."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._loop = self._thread = None
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_SECONDS)
        if thread.is_alive():
            log.warning("the HTTP server is still in an inference; it ends with it")


def read_token(path: Path) -> bytes:
    """The bearer token in ``path``: one line.

    Raises:
        ConfigError: it cannot be read, or holds no usable token.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            token = file.read(MAX_TOKEN + 1).strip()
    except OSError as error:
        raise ConfigError(f"HTTP token file {path} cannot be read: {reason(error)}") from error
    if not token or len(token) > MAX_TOKEN or any(not 33 <= byte < 127 for byte in token):
        raise ConfigError(f"HTTP token file {path}: expected one line of visible ASCII characters, at most {MAX_TOKEN}")
    if mode & 0o044:
        log.warning("HTTP token file %s can be read by others on this machine; chmod 600 it", path)
    return token


def _listen(config: HttpConfig) -> socket.socket:
    where = f"{config.host}:{config.port}"
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)  # another process that listens there is found now and not in the thread
        except BaseException:
            listening.close()
            raise
    except (OSError, UnicodeError) as error:
        told = reason(error) if isinstance(error, OSError) else str(error)
        raise ConfigError(f"HTTP server cannot listen on {where}: {told}") from error
    return listening


def _new_loop() -> asyncio.AbstractEventLoop:
    """The loop of uvloop where it is installed: a third more requests of a small model a second (docs/adr/0006)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
