"""Answers as JSON lines in a file that is rotated."""

from __future__ import annotations

import os
from pathlib import Path

from edge_agent.sinks.config import FileSink
from edge_agent.sinks.lines import LineSink
from shared.errors import ConfigError
from shared.files import reason

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class File(LineSink):
    """Appends to ``path``; what would exceed ``max_bytes`` starts a new file, the old one becomes ``<path>.1``.

    Raises:
        ConfigError: the file cannot be opened for writing.
    """

    def __init__(self, config: FileSink) -> None:
        self._path = Path(config.path)
        self._max_bytes = config.max_bytes
        try:
            descriptor = os.open(self._path, FLAGS, 0o644)
        except OSError as error:
            raise ConfigError(f"sink: cannot be written: {reason(error)}", file=config.path) from error
        super().__init__(config.path, descriptor)

    def prepare(self, size: int) -> None:
        """Rotate when the file would grow too large."""
        held = os.fstat(self._descriptor).st_size
        if held and held + size > self._max_bytes:
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            fresh = os.open(self._path, FLAGS, 0o644)
            os.close(self._descriptor)
            self._descriptor = fresh

    def close(self) -> None:
        """See :class:`edge_agent.sinks.Sink`."""
        if self._descriptor >= 0:
            self.flush()
            os.close(self._descriptor)
            self._descriptor = -1
