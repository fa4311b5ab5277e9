"""One publisher at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from shared.errors import StoreError

WAIT_SECONDS = 10.0
POLL_SECONDS = 0.05


@contextlib.contextmanager
def publishing(
    path: Path, *, wait_seconds: float | None = None, sleep: Callable[[float], None] = time.sleep
) -> Iterator[None]:
    """Hold the lock file ``path``. The kernel lets go of it when the process dies, however it dies.

    Raises:
        StoreError: somebody else still holds it after ``wait_seconds`` (default: ``WAIT_SECONDS``).
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        tries = max(1, round((WAIT_SECONDS if wait_seconds is None else wait_seconds) / POLL_SECONDS))
        for left in reversed(range(tries)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise StoreError(
                        f"{path.parent}: another process is publishing; try again when it is done"
                    ) from None
                sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)
