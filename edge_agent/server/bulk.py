"""Requests of several samples: in the loop's thread while they are short, else beside it, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from shared.errors import BackendError, OverloadError, SanderlingError, one_line

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future, ThreadPoolExecutor

    from edge_agent.answers import Answer
    from edge_agent.engine import Engine

    Outcome = Sequence[Answer] | SanderlingError

INLINE_SECONDS = 0.002
"""The longest that the loop is held."""
WAITING = 16
FOREIGN = "the engine failed"
"""How the text of an error begins that is no backend's, here as in the schedulers: a fault of ours."""


class BulkRunner:
    """Runs ``infer_batch`` for one loop. What a sample costs is learned; the first batch runs beside the loop."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._pool: ThreadPoolExecutor | None = None
        self._waiting = 0
        self._row_seconds = 1.0

    def forget(self) -> None:
        """Another model comes."""
        self._row_seconds = 1.0

    def submit(
        self, engine: Engine, samples: Any, count: int, ids: Sequence[str] | None, done: Callable[[Outcome], None]
    ) -> None:
        """Answer ``count`` samples, then call ``done`` in the loop's thread, perhaps before this returns.

        Raises:
            OverloadError: too many wait already.
        """
        if not self._waiting and self._row_seconds * count < INLINE_SECONDS:
            done(self._run(engine, samples, count, ids))
            return
        if self._waiting >= WAITING:
            raise OverloadError(f"{WAITING} requests of several samples are waiting already; try again later")
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1, "http-bulk")
        self._waiting += 1
        future = self._pool.submit(self._run, engine, samples, count, ids)
        future.add_done_callback(lambda future: self._came_back(future, done))

    def _run(self, engine: Engine, samples: Any, count: int, ids: Sequence[str] | None) -> Outcome:
        start = perf_counter()
        try:
            answers = engine.infer_batch(samples, ids)
        except SanderlingError as error:
            return error
        except Exception as error:
            return BackendError(f"{FOREIGN}: {one_line(error)}")
        self._row_seconds = (perf_counter() - start) / count
        return answers

    def _came_back(self, future: Future[Outcome], done: Callable[[Outcome], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._tell, future, done)
        except RuntimeError:  # the loop was closed meanwhile
            return

    def _tell(self, future: Future[Outcome], done: Callable[[Outcome], None]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            done(future.result())

    def close(self) -> None:
        """Nothing more is begun; what runs ends by itself."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
