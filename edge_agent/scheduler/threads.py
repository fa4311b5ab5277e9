"""A scheduler for threads, without a thread of its own.

One caller at a time has the *turn* (``turn.py``): it runs the engine. Who finds the engine idle takes the turn and
runs in its own thread; who does not stands in line. At the end of its call the one with the turn gives it to the next
in line, who runs what has queued up meanwhile and tells the others their answers. Only requests that nobody waits for
(``submit``) need a thread (``futures.py``); it is started with the first.

Invariants, held by ``tests/edge_agent/scheduler/test_threads.py``:

1. The engine is called by one thread at a time, in the order of the line; an idle engine runs a lone request at once.
2. Every request gets one outcome, its own; an answer after the deadline is a ``DeadlineError``.
3. A failure belongs to the sample that caused it; an interrupted thread leaves nobody waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, Self

from edge_agent.answers import Answer
from edge_agent.scheduler.config import DEFAULT, SchedulerConfig
from edge_agent.scheduler.futures import FutureThread, tell
from edge_agent.scheduler.queue import Refused, Request, RequestQueue, State, too_late
from edge_agent.scheduler.runner import (
    Clock,
    Outcome,
    Runner,
    broken_off,
    in_time,
    key_of,
    run_requests,
    shared_outcome,
    stateful,
)
from edge_agent.scheduler.stats import Counters, SchedulerStats
from edge_agent.scheduler.times import ChunkSize, ServiceTimes
from edge_agent.scheduler.turn import TURN, Box, Turn
from shared.errors import DeadlineError, InputError, SanderlingError, UsageError

if TYPE_CHECKING:
    from concurrent.futures import Future

FOREVER = float("inf")
YIELD_SECONDS = 50e-6
"""After a chunk bulk work lets go of the interpreter for so long: else a woken caller, though it has the turn, would
wait for the interpreter's switch interval (5 ms)."""


class Scheduler:
    """Many threads, one engine. See the module; ``engine`` is an :class:`~edge_agent.engine.Engine`.

    ::

        with Scheduler(engine, SchedulerConfig(queue=64, deadline_ms=50)) as scheduler:
            answer = scheduler.infer(sample)
            for answers in scheduler.infer_bulk(many):    # gives way to infer
                ...

    Also a ``Runner`` itself, so that an event loop's scheduler can stand on it.
    """

    def __init__(self, engine: Runner, config: SchedulerConfig = DEFAULT, clock: Clock = perf_counter) -> None:
        self.config = config
        self._clock = clock
        self._mutex = threading.Lock()  # guards lines and counters; never held while the engine runs
        self._room = threading.Condition(self._mutex)
        self._full = threading.Event()
        self._queue = RequestQueue(config.queue, config.overflow)
        patience = config.chunk_ms / 1000 * (1 / config.bulk_share - 1)
        self._turn = Turn(self._mutex, clock, patience, self._queue.waiting, self._leader)
        self._futures = FutureThread(self._mutex, self._lead, self._turn.offer)
        self._counters = Counters()
        self._running = 0
        self._closed = False
        self._use(engine)

    def _use(self, engine: Runner) -> None:
        self._engine = engine
        self._infer = engine.infer
        ordered = stateful(engine)
        self._limit = 1 if ordered else self.config.max_batch
        self._coalesce = self.config.coalesce and not ordered
        self._wait = 0.0 if ordered else self.config.max_wait_us / 1e6
        self._direct = self.config.deadline_ms is None and not self._wait and not self._closed
        self._times = ServiceTimes()
        self._chunk = ChunkSize(self.config.chunk_ms / 1000)

    def infer(self, sample: Any, id: str | None = None, *, deadline_ms: float | None = None) -> Answer:  # noqa: A002
        """Answer one sample: at once and in this thread if the engine is idle.

        Raises:
            OverloadError: too many wait already, or a newer request took this one's place.
            DeadlineError: no answer in time; known as early as the measured times allow. A call that had begun is
                not stopped, its answer is thrown away.
            UsageError: the scheduler is closed.
            SanderlingError: as ``Engine.infer``.
        """
        if self._direct and deadline_ms is None and self._turn.acquire(False):
            try:
                clock = self._clock
                start = clock()
                answer = self._infer(sample, id)
                end = clock()
                self._times.add(1, end - start, end)
                self._counters.done += 1
            except Exception as error:
                with self._mutex:
                    self._counters.outcome(error)
                raise
            else:
                return answer
            finally:
                self._turn.leave()
        request = self._request(sample, id, deadline_ms, SimpleQueue())
        if not self._wait and self._turn.acquire(False):
            return _raised(self._run_now(request))
        refusal = self._misfit(sample, id)
        if refusal is not None:
            return _raised(refusal)
        self._refuse(self._line_up(request))
        return self._outcome(request)

    def submit(
        self,
        sample: Any,
        id: str | None = None,  # noqa: A002  (the field's name)
        *,
        deadline_ms: float | None = None,
    ) -> Future[Answer]:
        """As :meth:`infer`, in another thread; every error but one is the future's.

        A future that is cancelled before its turn costs nothing; one whose deadline passes is told when the engine is
        next free. With ``overflow = "block"`` this call waits for room. Callbacks run in the scheduler's thread.

        Raises:
            UsageError: the scheduler is closed.
        """
        from concurrent.futures import Future

        future: Future[Answer] = Future()
        request = self._request(sample, id, deadline_ms, future)
        refusal = self._misfit(sample, id)
        if refusal is not None:
            tell(future, refusal)
            return future
        self._futures.start()
        self._refuse(self._line_up(request), own=request)
        if request.state is State.BLOCKED:
            self._wait_for_room(request)
        return future

    def infer_batch(self, samples: Any, ids: Sequence[str] | None = None) -> list[Answer]:
        """The engine's ``infer_batch`` in one call, in turn, before requests that wait.

        Raises:
            UsageError: the scheduler is closed.
            SanderlingError: as ``Engine.infer_batch``.
        """
        self._open()
        with self._turn.alone(urgent=True):
            answers = self._engine.infer_batch(samples, ids)
            self._counters.done += len(answers)
            self._counters.batch(len(answers))
            return answers

    def infer_bulk(self, samples: Any, ids: Sequence[str] | None = None) -> Iterator[list[Answer]]:
        """The batch lane: answers of ``samples`` (n, *shape) or a dict of those, in order, a chunk at a time.

        Between chunks real-time requests go first. A chunk is as many rows as take about ``chunk_ms``.

        Raises:
            InputError: ``ids`` are not one for each sample; or, while iterating, rows do not fit: which ones.
            SanderlingError: as ``Engine.infer_batch``.
        """
        columns = list(samples.values()) if isinstance(samples, Mapping) else [samples]
        lengths = {len(column) for column in columns}
        if len(lengths) != 1:
            raise InputError(f"every input must have as many rows as the others, got {sorted(lengths)}")
        rows = lengths.pop()
        if ids is not None and len(ids) != rows:
            raise InputError(f"{len(ids)} ids for {rows} samples")
        self._open()
        return self._chunks(samples, ids, rows)

    def check_one(self, sample: Any) -> Any:
        """As ``Engine.check_one``.

        Raises:
            InputError: ``sample`` does not fit.
        """
        return self._engine.check_one(sample)

    def swap(self, engine: Runner) -> Runner:
        """Run ``engine`` from the next call on; what was learned about the old one is forgotten. Returns the old one,
        which no call uses any more. Requests that wait get their answers from the new one."""
        with self._turn.alone(urgent=True):
            old = self._engine
            self._use(engine)
            return old

    def stats(self) -> SchedulerStats:
        """What was done so far, and what waits now."""
        with self._mutex:
            return self._counters.stats(
                queued=len(self._queue) + len(self._queue.blocked),
                running=self._running or int(self._turn.taken()),
                gain=self._times.gain,
                single=self._times.single,
            )

    def close(self) -> None:
        """Refuse what waits and what comes, with ``UsageError``; wait for the call that runs. The engine stays open."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            self._direct = False
            waiting = self._queue.clear()
            self._counters.refused["closed"] += len(waiting)
            self._tell_all([(r, UsageError("the scheduler was closed while this sample waited")) for r in waiting])
            self._room.notify_all()
        with self._turn.alone(urgent=True):
            pass
        self._futures.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        if self._closed:
            raise UsageError("the scheduler is closed")

    def _request(self, sample: Any, id: str | None, deadline_ms: float | None, caller: Any) -> Request:  # noqa: A002
        self._open()
        limit = self.config.deadline_ms if deadline_ms is None else deadline_ms
        deadline = FOREVER if limit is None else self._clock() + limit / 1000
        return Request(sample, id, deadline, key_of(sample) if self._coalesce else None, caller)

    def _misfit(self, sample: Any, id: str | None) -> Outcome | None:  # noqa: A002  (the field's name)
        """The outcome of a sample that does not fit, before it lines up; the engine's health and drift see it."""
        try:
            self._engine.check_one(sample)
        except SanderlingError:
            try:
                return self._engine.infer(sample, id)
            except SanderlingError as error:
                with self._mutex:
                    self._counters.outcome(error)
                return error
        return None

    def _run_now(self, request: Request) -> Outcome:
        """Holding the turn: the direct path of a request with a deadline."""
        try:
            start = self._clock()
            needed = self._times.run_seconds(start)
            outcome: Outcome
            if start + needed > request.deadline:
                outcome = too_late(request, start, needed)
            else:
                outcome = run_requests(self._engine, [request], self._times, self._clock)[0]
                outcome = in_time(outcome, request, self._clock())
            with self._mutex:
                self._counters.outcome(outcome)
            return outcome
        finally:
            self._turn.leave()

    def _line_up(self, request: Request) -> Refused:
        with self._mutex:
            self._open()
            now, times = self._clock(), self._times
            refused = self._queue.offer(
                request, now, row_seconds=times.row_seconds(now), run_seconds=times.run_seconds(now)
            )
            if self._wait and len(self._queue.waiting) >= self._limit:
                self._full.set()
        self._turn.offer()  # free after all, or since the line was looked at
        return refused

    def _wait_for_room(self, request: Request) -> None:
        with self._room:
            left = None if request.deadline == FOREVER else max(request.deadline - self._clock(), 0.0)
            admitted = self._room.wait_for(lambda: request.state is not State.BLOCKED, left)
            gone = not admitted and self._queue.cancel(request)
        if gone:
            self._refuse([(request, too_late(request, self._clock(), 0.0))], own=request)

    def _outcome(self, request: Request) -> Answer:
        """Wait for it; run the line's next batch when the turn comes to this thread."""
        box: Box = request.caller
        while True:
            left = None if request.deadline == FOREVER else max(request.deadline - self._clock(), 0.0)
            try:
                message = box.get(timeout=left)
            except BaseException as error:  # no answer in time, or this thread is interrupted
                self._abandon(request, box)
                if isinstance(error, Empty):
                    raise DeadlineError("no answer before the deadline") from None
                raise
            if message is not TURN:
                return _raised(message)
            self._lead()

    def _abandon(self, request: Request, box: Box) -> None:
        given = False
        with self._mutex:
            if self._queue.cancel(request):
                self._counters.refused["deadline"] += 1
                self._room.notify_all()
            while not box.empty():
                given |= box.get_nowait() is TURN
        if given:
            self._turn.leave()

    def _leader(self) -> Box | None:
        """Who could run the requests that wait: the first of them, the futures' thread unless it is in a callback,
        else any thread that waits."""
        waiting = self._queue.waiting
        if not waiting:
            return None
        box = waiting[0].caller
        if type(box) is SimpleQueue:
            return box
        if not self._futures.untold:
            return self._futures.box
        return next((r.caller for r in self._queue.everyone() if type(r.caller) is SimpleQueue), None)

    def _lead(self) -> None:
        """Holding the turn: run the line's next batch, pass the turn on, tell everybody."""
        told: list[tuple[Request, Outcome]] = []
        try:
            if self._wait and self._times.pays:
                self._gather()
            with self._mutex:
                now, times = self._clock(), self._times
                rows = times.rows(len(self._queue.waiting), self._limit)
                batch, late = self._queue.take(now, rows, run_seconds=times.run_seconds(now))
                batch = [request for request in batch if not self._cancelled(request)]
                self._running = len(batch)
                self._room.notify_all()
            told += late
            if batch:
                self._run(batch, told)
        finally:
            with self._mutex:
                self._running = 0
                for _, outcome in told:
                    self._counters.outcome(outcome)
                self._tell_all(told)
            self._turn.leave()

    def _run(self, batch: Sequence[Request], told: list[tuple[Request, Outcome]]) -> None:
        outcomes: list[Outcome] = []
        try:
            outcomes = run_requests(self._engine, batch, self._times, self._clock)
        except BaseException as error:
            outcomes = [broken_off(error)] * len(batch)
            raise
        finally:
            now = self._clock()
            with self._mutex:
                self._counters.batch(len(batch))
                for request, outcome in zip(batch, outcomes, strict=True):
                    told.append((request, in_time(outcome, request, now)))
                    joined = self._queue.finish(request)
                    self._counters.coalesced += len(joined)
                    told.extend((other, in_time(shared_outcome(outcome, other), other, now)) for other in joined)
                self._room.notify_all()

    def _refuse(self, refused: Refused, own: Request | None = None) -> None:
        """Tell those who were refused; ``own`` is a future that nobody else knows yet."""
        if not refused:
            return
        with self._mutex:
            for _, error in refused:
                self._counters.outcome(error)
            self._tell_all([(request, error) for request, error in refused if request is not own])
        for request, error in refused:
            if request is own:
                tell(request.caller, error)

    def _tell_all(self, told: Sequence[tuple[Request, Outcome]]) -> None:
        """Under the mutex: threads find it in their box, futures are left to their thread."""
        for request, outcome in told:
            if type(request.caller) is SimpleQueue:
                request.caller.put(outcome)
            else:
                self._futures.untold += 1
                self._futures.box.put((request.caller, outcome))

    def _cancelled(self, request: Request) -> bool:
        """Whether nobody wants this answer any more: then it is let go."""
        caller = request.caller
        if type(caller) is SimpleQueue or request.joined or caller.set_running_or_notify_cancel():
            return False
        self._queue.finish(request)
        self._counters.refused["cancelled"] += 1
        return True

    def _gather(self) -> None:
        """Wait for company, as long as the configuration says and the first deadline allows."""
        self._full.clear()
        with self._mutex:
            waiting = self._queue.waiting
            first = min((request.deadline for request in waiting), default=FOREVER)
            enough = not waiting or len(waiting) >= self._limit
        now = self._clock()
        left = first - now - self._times.run_seconds(now)
        if not enough and left > 0:
            self._full.wait(min(self._wait, left))

    def _chunks(self, samples: Any, ids: Sequence[str] | None, rows: int) -> Iterator[list[Answer]]:
        start = 0
        while start < rows:
            self._open()
            with self._turn.alone(urgent=False):
                chunk = self._chunk
                end = min(start + chunk.rows, rows)
                begun = self._clock()
                try:
                    part = _rows(samples, start, end)
                    answers = self._engine.infer_batch(part, None if ids is None else ids[start:end])
                except InputError as error:
                    raise InputError(f"rows {start} to {end - 1}: {error}") from error
                chunk.add(end - start, self._clock() - begun)
                self._counters.bulk += len(answers)
            sleep(YIELD_SECONDS)
            yield answers
            start = end


def _rows(samples: Any, start: int, end: int) -> Any:
    if isinstance(samples, Mapping):
        return {name: column[start:end] for name, column in samples.items()}
    return samples[start:end]


def _raised(outcome: Outcome) -> Answer:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
