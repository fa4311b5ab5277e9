"""Samples from a program that writes JSON lines to its standard output, e.g. one that drives a camera.

The program runs in a process group of its own, which is killed as a whole; when it ends, it is started again, later
each time while it does not live long. Its standard error is the agent's.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from edge_agent.retry import Backoff, Retry
from edge_agent.sources import Sample
from edge_agent.sources.config import CommandSource
from edge_agent.sources.lines import LineReader, LineSource
from shared.manifest import SampleSpec

log = logging.getLogger("edge_agent.source")

DELAY_MAX_FACTOR = 60.0
TERMINATE_SECONDS = 1.0


class Command(LineSource):
    """The program and its samples. It is started by the first ``poll``."""

    ended = False

    def __init__(
        self,
        config: CommandSource,
        signature: Sequence[SampleSpec],
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(signature)
        self.starts = 0
        self._config = config
        seconds = config.restart_seconds
        self._retry = Retry(Backoff(first=seconds, most=seconds * DELAY_MAX_FACTOR), clock=clock, chance=chance)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: LineReader | None = None

    def poll(self, seconds: float) -> list[Sample]:
        """See :class:`edge_agent.sources.Source`."""
        if self._reader is None:
            wait = self._retry.wait()
            if wait > 0:
                time.sleep(min(wait, seconds))
            if wait > seconds or not self._start():
                return []
        reader = self._reader
        assert reader is not None
        lines = reader.read(seconds)
        samples = self.parse(lines)
        if samples and self.trouble:
            if self.last_error == self.trouble:  # not a bad line that has come since
                self.last_error = ""
            self.trouble = ""
        if reader.ended:
            self._has_ended()
        return samples

    def stop(self) -> None:
        """End the program and what it started: SIGTERM, and a second later SIGKILL."""
        process, self._process, self._reader = self._process, None, None
        if process is None:
            return
        _signal_group(process, signal.SIGTERM)
        try:
            process.wait(TERMINATE_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("the source %s does not end on SIGTERM; killing it", self._config.command[0])
        _signal_group(process, signal.SIGKILL)  # what it started may outlive it
        process.wait()
        if process.stdout:
            process.stdout.close()

    def _start(self) -> bool:
        self.starts += 1
        self._retry.begun()
        try:
            self._process = subprocess.Popen(
                self._config.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                cwd=self._config.directory,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self._plan_restart(f"cannot be started: {error.strerror}")
            return False
        assert self._process.stdout is not None
        self._reader = LineReader(self._process.stdout.fileno())
        return True

    def _has_ended(self) -> None:
        process = self._process
        assert process is not None
        try:
            code: int | None = process.wait(0.2)
        except subprocess.TimeoutExpired:  # it closed its output and lives on
            code = None
        self.stop()
        self._plan_restart("closed its output" if code is None else f"ended with exit code {code}")

    def _plan_restart(self, what: str) -> None:
        self.trouble = self.last_error = f"the source {self._config.command[0]} {what}"
        log.warning("%s; starting it again in %.3g s", self.last_error, self._retry.failed())


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:  # all of them have ended
        return
