"""Finds and ends every process of one demo, however it came to be and whoever its parent is now.

Every child gets the environment variable :data:`VARIABLE` with the demo's own mark, and hands it on to its children
(an agent to its camera, the controller to its training). So they can be told from everything else on the machine, also
after their parents are gone. Where there is no ``/proc`` (not Linux), only process groups are ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

VARIABLE = "SANDERLING_DEMO"
GRACE_SECONDS = 4.0
KILL_SECONDS = 4.0
POLL_SECONDS = 0.05


def marked(mark: str) -> list[int]:
    """Ids of the living processes that carry ``mark``, this one excepted."""
    wanted = f"{VARIABLE}={mark}".encode()
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            environment = (directory / "environ").read_bytes()
        except OSError:  # gone meanwhile, or another user's
            continue
        if wanted in environment.split(b"\0") and int(directory.name) != os.getpid():
            found.append(int(directory.name))
    return sorted(found)


def sweep(mark: str, *, grace_seconds: float = GRACE_SECONDS) -> list[int]:
    """Ask all processes with ``mark`` to stop, then make them; returns those that are still there (none, normally)."""
    end = time.monotonic() + grace_seconds
    asked: set[int] = set()
    while left := marked(mark):
        for pid in set(left) - asked:
            _send(pid, signal.SIGTERM)
        asked.update(left)
        if time.monotonic() > end:
            break
        time.sleep(POLL_SECONDS)
    end = time.monotonic() + KILL_SECONDS
    while (left := marked(mark)) and time.monotonic() < end:
        for pid in left:
            _send(pid, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    return left


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
