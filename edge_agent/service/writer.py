"""Small files, written by a thread of their own: an fsync on an SD card takes longer than many inferences."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from msgspec import Struct

from edge_agent.state import StateDirectory

log = logging.getLogger("edge_agent.service")


class Writer:
    """Writes the latest value of each file; an older one that was not written yet is forgotten."""

    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self._waiting: dict[Path, Struct] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._failing: set[Path] = set()
        self._thread = threading.Thread(target=self._run, name="state-writer", daemon=True)
        self._thread.start()

    def put(self, path: Path, value: Struct) -> None:
        """Have ``value`` written to ``path`` soon."""
        with self._changed:
            self._waiting[path] = value
            self._changed.notify()

    def close(self) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if not self._waiting:
                    return
                path, value = self._waiting.popitem()
            try:
                self._state.write(path, value)
                self._failing.discard(path)
            except OSError as error:
                if path not in self._failing:
                    log.error("%s cannot be written: %s", path, error.strerror)  # noqa: TRY400  (told in full)
                    self._failing.add(path)
