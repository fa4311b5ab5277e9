"""Samples of an ``.npz`` file, played at a steady rate: for trials, and for tests."""

from __future__ import annotations

import time
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

from edge_agent.sources import Sample
from edge_agent.sources.config import NpzSource
from edge_agent.sources.pace import Pace
from shared.errors import ConfigError
from shared.files import reason


class Npz:
    """Plays array ``x`` (n, ...) with ``ids`` (n,). Without them, and from the second round of a loop on, the engine
    makes ids: labels go by id, and row numbers would come again with the next run and on the next device.

    Raises:
        ConfigError: the file is missing, no ``.npz``, or without ``x``.
    """

    ended = False

    def __init__(
        self,
        config: NpzSource,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.bad = 0
        self.last_error = self.trouble = ""
        try:
            with zipfile.ZipFile(config.path), np.load(config.path, allow_pickle=False) as file:
                self._x = file["x"]
                self._ids = [str(name) for name in file["ids"]] if "ids" in file else None
        except OSError as error:
            raise ConfigError(f"source: {reason(error)}", file=config.path) from error
        except (KeyError, ValueError, IndexError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise ConfigError(f"source: expected an .npz file with array x: {error}", file=config.path) from error
        if not self._x.ndim:
            raise ConfigError("source: array x is a single number; expected (n, *shape)", file=config.path)
        if self._ids is not None and len(self._ids) != len(self._x):
            raise ConfigError(f"source: {len(self._ids)} ids for {len(self._x)} samples", file=config.path)
        self._pace = Pace(config.rate_hz, clock=clock, sleep=sleep)
        self._sleep = sleep
        self._loop = config.loop and len(self._x) > 0
        self._next = 0

    def poll(self, seconds: float) -> list[Sample]:
        """See :class:`edge_agent.sources.Source`."""
        if self._next >= len(self._x) and not self._loop:
            self.ended = True
            self._sleep(seconds)
            return []
        samples = []
        for _ in range(self._pace.due(seconds)):
            if self._next >= len(self._x):
                if not self._loop:
                    break
                self._next, self._ids = 0, None
            samples.append(Sample(self._ids[self._next] if self._ids else None, self._x[self._next]))
            self._next += 1
        return samples

    def stop(self) -> None:
        """Nothing was started."""
