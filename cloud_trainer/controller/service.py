"""The controller as a process: one thread takes messages in, one decides, one serves HTTP, the main one waits.

A thread that fails ends the whole process with its error: all state is in the database, so starting again is safe,
and a controller that is half alive is worse than one that is down.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from cloud_trainer.config import ControllerConfig, load_task
from cloud_trainer.controller.controller import Controller
from cloud_trainer.controller.ingest import Link
from cloud_trainer.controller.retrain import TRAIN_COMMAND
from cloud_trainer.controller.store import Store
from cloud_trainer.controller.web import WebServer, application
from cloud_trainer.registry import Registry
from shared.errors import ConfigError, StoreError
from shared.files import write_atomic

WATCH_SECONDS = 0.2
SHORTEST_TICK_SECONDS = 0.05  # however many messages come

logger = logging.getLogger(__name__)


class Service:
    """A controller from its configuration.

    ``train_command`` starts a training; task, ``--out``, ``--version``, ``--parent``, ``--labelled`` and ``--json`` are
    appended (see :data:`cloud_trainer.controller.retrain.TRAIN_COMMAND`).

    Raises:
        ConfigError: a task or the fleet directory is wrong.
        StoreError: the database cannot be used, or another controller uses the workspace.
        PortError: the HTTP address is taken.
    """

    def __init__(self, config: ControllerConfig, *, train_command: Sequence[str] = TRAIN_COMMAND) -> None:
        tasks = [(Path(path), load_task(Path(path))) for path in config.tasks]
        names = [task.name for _, task in tasks]
        if len(set(names)) != len(names):
            raise ConfigError(f"tasks must have different names, got {', '.join(names)}")
        registry = Registry.open(Path(config.fleet))
        unknown = [name for name in names if name not in registry.models]
        if unknown:
            raise ConfigError(
                f"the fleet has no model {unknown[0]!r}; it has {', '.join(registry.models)}", file=config.fleet
            )
        workspace = Path(config.workspace)
        self._config = config
        self._store = Store.in_workspace(workspace, config.database)
        self._lock = _lock(workspace)
        self._store.claim("site", config.site)
        self._store.claim("fleet", registry.identity)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self.link = Link(self._store, config.site, config.broker, changed=self._wake.set)
        self._controller = Controller(
            self._store, registry, tasks, config.site, workspace, self.link, train_command=train_command
        )
        self.web = WebServer(application(self._store, registry.repository, self._health), config.listen)
        self._ticker = threading.Thread(target=self._tick_forever, name="ticker", daemon=True)

    def run(self, stop: threading.Event, *, ready_file: Path | None = None) -> None:
        """Serve until ``stop`` is set. ``ready_file`` is written, as JSON with ``url`` and ``pid``, as soon as HTTP is
        up and the broker has taken the subscription.

        Raises:
            SanderlingError: a thread failed.
        """
        self.web.start()
        self.link.start()
        self._ticker.start()
        url = f"http://{self.web.host}:{self.web.port}"
        logger.info("serving site %s, workspace %s", self._config.site, self._config.workspace)
        logger.info("devices fetch releases from %s/repository", url)
        try:
            while not stop.wait(WATCH_SECONDS):
                if ready_file and self.link.connected.is_set():
                    write_atomic(ready_file, json.dumps({"url": url, "pid": os.getpid()}).encode() + b"\n")
                    ready_file = None
                failure = self._failure or self.link.failure
                if failure is not None:
                    raise failure
                if not self.web.alive:
                    raise StoreError(f"the HTTP server on {url} has ended")
        finally:
            self._end()

    def close(self) -> None:
        """Release what the constructor took, for a service that never ran."""
        self.web.stop()
        self._store.close()
        self._lock.close()

    def _end(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._ticker.ident is not None:
            self._ticker.join(2)
        self._controller.end_trainings()  # also where the ticker failed or is stuck
        self.link.stop()
        self.close()

    def _tick_forever(self) -> None:
        try:
            while not self._stop.is_set():
                self._wake.wait(self._config.tick_seconds)
                self._wake.clear()
                if self._stop.is_set():
                    break
                self._tick()
                self._stop.wait(SHORTEST_TICK_SECONDS)
            self._controller.stop()
        except Exception as error:  # handed to the main thread, which ends with it
            self._failure = error

    def _tick(self) -> None:
        try:
            self._controller.tick(time.time())
        except StoreError as error:  # a full disk or a lock: the next tick finds the same rows
            logger.warning("%s", error)
            self._stop.wait(1.0)

    def _health(self) -> tuple[bool, dict[str, Any]]:
        counters = self.link.counters
        connected = self.link.connected.is_set()
        return connected and self._failure is None, {
            "broker": "connected" if connected else "down",
            "stored": counters.stored,
            "duplicates": counters.duplicates,
            "malformed": counters.malformed,
            "lost": counters.lost,
        }


def _lock(workspace: Path) -> IO[str]:
    """One controller a workspace: two would fold the same windows and train twice."""
    file = (workspace / "controller.lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StoreError(f"another controller is running with the workspace {workspace}") from None
    return file


def set_up_logging(level: str) -> None:
    """One line an event on standard error: time, level where it matters, text."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Format("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("tuf", "securesystemslib", "uvicorn", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Format(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno <= logging.INFO else f"{text} [{record.levelname.lower()}]"
