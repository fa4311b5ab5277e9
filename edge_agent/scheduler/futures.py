"""The thread for requests that nobody waits for: it runs them when no other thread can, and tells futures.

Callbacks of futures run here and only here, while this thread has neither the engine's turn nor an errand to take it:
a callback may call the scheduler again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING

from edge_agent.scheduler.runner import Outcome
from edge_agent.scheduler.turn import TURN, Box

if TYPE_CHECKING:
    from concurrent.futures import Future

    from edge_agent.answers import Answer


class FutureThread:
    """See the module. ``lead`` runs a batch, holding the turn, and gives it up; ``told`` is called when all futures
    have been told. ``untold`` is guarded by ``mutex``, the scheduler's."""

    def __init__(self, mutex: threading.Lock, lead: Callable[[], None], told: Callable[[], object]) -> None:
        self.box: Box = SimpleQueue()
        self.untold = 0
        self._mutex = mutex
        self._lead = lead
        self._told = told
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it unless it runs."""
        with self._mutex:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="scheduler", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Tell what is left to tell, and end."""
        if self._thread is not None:
            self.box.put(None)
            if self._thread is not threading.current_thread():
                self._thread.join()

    def _work(self) -> None:
        while True:
            errand = self.box.get()
            if errand is None:
                return
            if errand is TURN:
                self._lead()
                continue
            tell(*errand)
            with self._mutex:
                self.untold -= 1
                free = not self.untold
            if free:
                self._told()


def tell(future: Future[Answer], outcome: Outcome) -> None:
    """Set ``future`` unless it was cancelled."""
    if not future.running() and not future.set_running_or_notify_cancel():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
