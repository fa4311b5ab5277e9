"""Starts the demo's processes, notices when one fails, and ends them all, whatever happens.

What holds:

1. Every child has a session of its own, so a Ctrl-C on the terminal reaches the demo alone, which then stops them in
   order: everyone asks the broker for the last time before the broker goes.
2. No child outlives the demo: what did not stop is killed, and so is what children started (``orphans.sweep``). If the
   demo itself is killed, the guard does it (``guard.py``).
3. A child that ends when it should not is an error that quotes the child's own last lines.
4. What children print goes to files; a full pipe never stops one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from cloud_trainer.demo.orphans import POLL_SECONDS, VARIABLE, sweep
from shared.errors import SanderlingError

STOP_SECONDS = 6.0
QUOTED_LINES = 3
TAIL_BYTES = 8192


class DemoError(SanderlingError):
    """The demo could not go on: a process failed, or something did not happen in time."""


class DemoTimeoutError(DemoError):
    """Something did not happen in time, though every process is well."""


class Child:
    """One process. ``log`` is its standard error, ``out`` its standard output."""

    def __init__(self, name: str, command: Sequence[str], logs: Path, mark: str, threads: int) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self.out = logs / f"{name}.out"
        environment = {
            **os.environ,
            VARIABLE: mark,
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": str(threads),
        }
        with self.out.open("ab") as out, self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    @property
    def code(self) -> int | None:
        """Exit code, ``None`` while it runs."""
        return self.process.poll()

    def failure(self) -> DemoError:
        """The error that says how this child ended, in its own words."""
        code = self.process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return DemoError(f"{self.name} {how}: {last_lines(self.log) or 'it said nothing'} (log: {self.log})")

    def send(self, number: signal.Signals) -> None:
        """Signal the child's whole process group, unless it is gone."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)


def last_lines(path: Path, count: int = QUOTED_LINES) -> str:
    """The end of a log as one line: a traceback's last line, or the last ``count`` lines."""
    lines = tail(path)
    if any(line.startswith("Traceback ") for line in lines):
        return lines[-1]
    return " | ".join(lines[-count:])


def tail(path: Path) -> list[str]:
    """The last lines of a log, stripped, without empty ones."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]


class Supervisor:
    """The demo's processes, as a context that leaves none behind. ``threads`` bounds each child's numeric threads."""

    def __init__(self, logs: Path, *, threads: int = 1) -> None:
        self.mark = uuid.uuid4().hex
        self.children: list[Child] = []
        self._logs = logs
        self._threads = threads
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "cloud_trainer.demo.guard", self.mark],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.stop()
        finally:
            if self._guard is not None:
                assert self._guard.stdin is not None
                self._guard.stdin.close()
                self._guard.wait()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def start(self, name: str, command: Sequence[str], *, threads: int | None = None) -> Child:
        """Start a process that is to run until the end."""
        child = Child(name, command, self._logs, self.mark, threads or self._threads)
        self.children.append(child)
        return child

    def check(self) -> None:
        """See that all are well.

        Raises:
            DemoError: a process ended.
        """
        for child in self.children:
            if child.code is not None:
                raise child.failure()

    def run(
        self,
        name: str,
        command: Sequence[str],
        seconds: float,
        on_line: Callable[[str], None] | None = None,
        *,
        threads: int | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> str:
        """Run a command to its end and return its standard output; ``on_line`` gets its standard error as it comes.

        Raises:
            DemoError: it failed, took longer than ``seconds``, or another process ended meanwhile.
        """
        child = Child(name, command, self._logs, self.mark, threads or self._threads)
        lines = follow(child.log)
        end = time.monotonic() + seconds
        try:
            while child.code is None:
                self.check()
                if time.monotonic() > end:
                    raise DemoError(f"{name} took longer than {seconds:.0f} s (log: {child.log})")
                _hand_over(lines, on_line)
                tick()
                time.sleep(POLL_SECONDS)
            _hand_over(lines, on_line)
        finally:
            _end([child], signal.SIGTERM)
        if child.process.returncode != 0:
            raise child.failure()
        return child.out.read_text(encoding="utf-8")

    def wait(
        self,
        what: str,
        ready: Callable[[], bool],
        seconds: float,
        *,
        poll_seconds: float = 0.1,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Wait until ``ready()``, while all are well; ``tick`` is called meanwhile.

        Raises:
            DemoError: a process ended.
            DemoTimeoutError: it took too long.
        """
        end = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > end:
                raise DemoTimeoutError(f"{what} did not happen within {seconds:.0f} s (logs: {self._logs})")
            tick()
            time.sleep(poll_seconds)

    def stop(self) -> None:
        """Stop all, the one that was started first (the broker) last.

        Raises:
            DemoError: something could not be ended even by force.
        """
        if self.children:
            _end(self.children[1:], signal.SIGTERM)
            _end(self.children[:1], signal.SIGTERM)
        self.children = []
        left = sweep(self.mark)
        if left:
            raise DemoError(f"these processes could not be ended: {', '.join(map(str, left))}")


def _end(children: Sequence[Child], number: signal.Signals) -> None:
    """Signal ``children``, wait, kill what stays."""
    for child in children:
        child.send(number)
    end = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.send(signal.SIGKILL)
            child.process.wait()


def follow(path: Path) -> Iterator[list[str]]:
    """Whole lines as a growing file gets them: each step gives those that are new. The file need not exist yet."""
    position, rest = 0, b""
    while True:
        data = b""
        if path.exists():
            with path.open("rb") as file:
                file.seek(position)
                data = file.read()
        position += len(data)
        *whole, rest = (rest + data).split(b"\n")
        yield [line.decode("utf-8", "replace") for line in whole]


def _hand_over(lines: Iterator[list[str]], on_line: Callable[[str], None] | None) -> None:
    for line in next(lines):
        if on_line is not None and line.strip():
            on_line(line)
