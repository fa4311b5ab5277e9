"""A scheduler for one asyncio loop: callbacks, no task and no future a request.

What is submitted in one turn of the loop is run together if that pays (learned), right in the loop's thread if a call
is shorter than two milliseconds, else in one thread beside it, so that the loop goes on. Between two batches the loop
reads its sockets. Only the loop's thread may call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from edge_agent.answers import Answer
from edge_agent.scheduler.config import DEFAULT, SchedulerConfig
from edge_agent.scheduler.queue import Refused, Request, RequestQueue, State
from edge_agent.scheduler.runner import (
    Clock,
    Outcome,
    Runner,
    in_time,
    key_of,
    run_requests,
    shared_outcome,
    stateful,
)
from edge_agent.scheduler.stats import Counters, SchedulerStats
from edge_agent.scheduler.times import SHORT_SECONDS, ServiceTimes
from shared.errors import BackendError, SanderlingError, UsageError, one_line

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future, ThreadPoolExecutor

_TOLD = (Answer, SanderlingError)
Done = Callable[[Answer | SanderlingError], None]

FOREVER = float("inf")
INLINE_SECONDS = SHORT_SECONDS
"""The longest that the loop's own thread runs the model at a time; a thread beside it costs some 50 µs a batch."""


class LoopScheduler:
    """See the module. ``engine`` may be an ``Engine`` or a :class:`~edge_agent.scheduler.threads.Scheduler` that
    other threads use too.

    A loop must not wait, so ``overflow = "block"`` refuses like ``"reject"``; ``max_wait_us`` holds a batch back with a
    timer. ``done`` is called exactly once, from the loop and never from inside :meth:`submit`.
    """

    def __init__(
        self,
        engine: Runner,
        config: SchedulerConfig = DEFAULT,
        loop: AbstractEventLoop | None = None,
        clock: Clock = perf_counter,
    ) -> None:
        self.config = config
        self._clock = clock
        self._loop = loop or _running_loop()
        self._queue = RequestQueue(config.queue, "reject" if config.overflow == "block" else config.overflow)
        self._waiting = self._queue.waiting
        self._counters = Counters()
        self._wait = config.max_wait_us / 1e6
        self._deadline = None if config.deadline_ms is None else config.deadline_ms / 1000
        self._woken = False  # whether a flush is under way: called soon, or a batch runs in the thread
        self._running = 0
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self._use(engine)

    def _use(self, engine: Runner) -> None:
        self._engine = engine
        ordered = stateful(engine)
        self._limit = 1 if ordered else self.config.max_batch
        self._coalesce = self.config.coalesce and not ordered
        self._times = ServiceTimes()

    def submit(self, sample: Any, id: str | None, deadline_ms: float | None, done: Done) -> None:  # noqa: A002
        """Answer ``sample``, then ``done(answer)``, or ``done(error)``: ``InputError``, ``OverloadError``,
        ``DeadlineError``, ... A foreign exception of the engine comes as ``BackendError``.

        Raises:
            UsageError: the scheduler is closed.
        """
        if self._closed:
            raise UsageError("the scheduler is closed")
        request = Request(sample, id, FOREVER, key_of(sample) if self._coalesce else None, done)
        now = row = run = 0.0
        if deadline_ms is not None or self._deadline is not None:
            now = self._clock()
            request.deadline = now + (self._deadline or 0.0 if deadline_ms is None else deadline_ms / 1000)
            row, run = self._times.row_seconds(now), self._times.run_seconds(now)
        refused = self._queue.offer(request, now, row_seconds=row, run_seconds=run)
        if refused:
            self._loop.call_soon(self._refuse, refused)
        if not self._woken and self._waiting:
            self._woken = True
            if self._wait and self._times.pays:
                self._loop.call_later(self._wait, self._flush)
            else:
                self._loop.call_soon(self._flush)

    def infer_now(self, sample: Any, id: str | None) -> Answer | SanderlingError | None:  # noqa: A002
        """The outcome of ``sample``, run before this returns, or ``None``: it must be submitted.

        Only what :meth:`submit` would run alone and next anyway is run: calls are known to be short, nothing waits,
        nothing runs beside the loop, no deadline holds and no timer gathers a batch. For a caller who knows that
        nobody else is about to submit.
        """
        if self._woken or self._waiting or self._closed or self._wait or not self._times.short:
            return None
        return None if self._deadline is not None else self._run_one(sample, id)

    def swap(self, engine: Runner) -> None:
        """Run ``engine`` from the next batch on. One that runs in the thread beside ends with the old one."""
        self._use(engine)

    def stats(self) -> SchedulerStats:
        """What was done so far, and what waits now."""
        return self._counters.stats(
            queued=len(self._queue), running=self._running, gain=self._times.gain, single=self._times.single
        )

    def close(self) -> None:
        """Refuse what waits and what comes; wait for the batch that runs beside the loop. The engine stays open."""
        self._closed = True
        waiting = self._queue.clear()
        self._counters.refused["closed"] += len(waiting)
        for request in waiting:
            self._tell(request, UsageError("the server is closing"))
        if self._pool is not None:
            self._pool.shutdown()

    def _flush(self) -> None:
        """Run what waits, for two milliseconds at most; then let the loop read its sockets."""
        clock, times, waiting = self._clock, self._times, self._waiting
        now = clock()
        end = now + INLINE_SECONDS
        while waiting and now < end:
            rows = times.rows(len(waiting), self._limit)
            if times.short and rows == 1 and self._queue.plain:
                now = self._run_plain(waiting.popleft())
                continue
            if times.short and rows > 1:
                rows = max(1, min(rows, int(INLINE_SECONDS / max(times.row_seconds(now), 1e-9))))
            batch, late = self._queue.take(now, rows, run_seconds=times.run_seconds(now))
            if late:
                self._refuse(late)
            if batch and not times.short:
                self._run_beside(batch)
                return
            if batch:
                self._tell_all(batch, self._outcomes(self._engine, times, batch))
            now = clock()
        self._again()

    def _run_plain(self, request: Request) -> float:
        """The path of most requests: no deadline, nothing shared. Returns the time after it."""
        request.state = State.GONE
        self._tell(request, self._run_one(request.sample, request.id))
        return self._clock()

    def _run_one(self, sample: Any, id: str | None) -> Answer | SanderlingError:  # noqa: A002
        clock = self._clock
        start = clock()
        try:
            answer = self._engine.infer(sample, id)
        except Exception as error:
            self._counters.outcome(error)
            return _told(error)
        end = clock()
        self._times.add(1, end - start, end)
        self._counters.done += 1
        return answer

    def _again(self) -> None:
        self._woken = bool(self._waiting)
        if self._woken:
            self._loop.call_soon(self._flush)

    def _outcomes(self, engine: Runner, times: ServiceTimes, batch: Sequence[Request]) -> Sequence[Outcome]:
        """In the loop's thread or the one beside it. Bad samples are found before they can spoil a batch."""
        if len(batch) == 1:
            return run_requests(engine, batch, times, self._clock)
        fit = []
        outcomes: dict[int, Outcome] = {}
        for request in batch:
            try:
                engine.check_one(request.sample)
            except SanderlingError:
                outcomes[id(request)] = run_requests(engine, [request], times, self._clock)[0]
            else:
                fit.append(request)
        if fit:
            found = run_requests(engine, fit, times, self._clock)
            outcomes.update(zip(map(id, fit), found, strict=True))
        return [outcomes[id(request)] for request in batch]

    def _run_beside(self, batch: list[Request]) -> None:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1, "scheduler")
        self._running = len(batch)
        future = self._pool.submit(self._outcomes, self._engine, self._times, batch)
        future.add_done_callback(lambda future: self._came_back(batch, future))

    def _came_back(self, batch: list[Request], future: Future[Sequence[Outcome]]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ran_beside, batch, future)
        except RuntimeError:  # the loop was closed meanwhile: nobody is left to be told
            return

    def _ran_beside(self, batch: list[Request], future: Future[Sequence[Outcome]]) -> None:
        self._running = 0
        self._again()
        error = future.exception()
        if error is not None:  # not even an Exception: SystemExit in the engine
            self._tell_all(batch, [BackendError(one_line(error))] * len(batch))
        else:
            self._tell_all(batch, future.result())

    def _tell_all(self, batch: Sequence[Request], outcomes: Sequence[Outcome]) -> None:
        counters, finish = self._counters, self._queue.finish
        if len(batch) > 1:
            counters.batch(len(batch))
        for request, outcome in zip(batch, outcomes, strict=True):
            joined = finish(request)
            self._leave(request, outcome)
            if joined:
                counters.coalesced += len(joined)
                for other in joined:
                    self._leave(other, shared_outcome(outcome, other))

    def _leave(self, request: Request, outcome: Outcome) -> None:
        if request.deadline != FOREVER:
            outcome = in_time(outcome, request, self._clock())
        self._counters.outcome(outcome)
        self._tell(request, outcome)

    def _refuse(self, refused: Refused) -> None:
        for request, error in refused:
            self._counters.outcome(error)
            self._tell(request, error)

    def _tell(self, request: Request, outcome: Outcome) -> None:
        try:
            request.caller(_told(outcome))
        except Exception as error:
            self._loop.call_exception_handler({"message": "a callback of the scheduler failed", "exception": error})


def _told(outcome: Outcome) -> Answer | SanderlingError:
    """What is none of our errors is a fault of the engine."""
    if isinstance(outcome, _TOLD):
        return outcome
    return BackendError(f"the engine failed: {one_line(outcome)}")


def _running_loop() -> AbstractEventLoop:
    from asyncio import get_running_loop

    return get_running_loop()
