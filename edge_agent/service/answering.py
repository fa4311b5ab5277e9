"""The answering half of an agent: samples from a source, through an engine, to the sinks. Both the agent of a fleet
(``loop.py``) and the one that runs alone (``local.py``) are this with something around it.

Invariants, held by ``tests/edge_agent/service``:

1. Engines are swapped between two inferences; no sample is lost or answered twice because of it.
2. A bad sample, a failing source or sink ends nothing: it is counted and told.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.config import AgentConfig, StdinSource
from edge_agent.scheduler.config import SchedulerConfig
from edge_agent.service.complaint import Complaint, Trouble
from edge_agent.service.records import answer_record, recent_answer
from edge_agent.service.stepping import Counted
from edge_agent.service.tap import Tap
from edge_agent.sinks import FLUSH_SECONDS, Sink
from edge_agent.sources import Sample, Source, check_source, open_source
from edge_agent.state import RecentAnswer
from shared.errors import SanderlingError

if TYPE_CHECKING:
    from edge_agent.engine import Answer, Engine
    from edge_agent.scheduler import Scheduler

log = logging.getLogger("edge_agent.service")

POLL_SECONDS = 0.05
FAILURES_IN_A_ROW = 100
RECENT = 10

Fault = Callable[[str, int], None]
"""Tells that something is broken: text, and the release that it is about (0: none)."""
Answered = Callable[[Sample, "Answer", float], None]
"""Gets every answer of the source's samples, with its time in seconds since 1970."""


class Answering:
    """One source, one engine at a time, any number of sinks. Called from the main loop only.

    ``memory`` is the directory for what a source remembers. Where requests come from elsewhere too, the source's
    samples stand in line with those (:attr:`scheduler`).

    Raises:
        ConfigError: the source's file or folder is missing.
        MissingExtraError: the source's library is not installed.
    """

    def __init__(
        self,
        config: AgentConfig,
        sinks: Sequence[Sink],
        memory: Path,
        *,
        fault: Fault,
        answered: Answered | None = None,
    ) -> None:
        if config.source is not None:
            check_source(config.source)  # now, and not with the first release
        self.sinks = tuple(sinks)
        self.over = False
        """Whether standard input, when that is the source, has ended."""
        self.ended = False
        """Whether nothing will come from the source any more."""
        self.paused = False
        self._config = config
        self._memory = memory
        self._fault = fault
        self._answered = answered
        self.scheduler: Scheduler | None = None
        """What stands before the engine; None where samples come from the source only."""
        self.served: Tap | None = None
        """The engine as the HTTP server gets it, so that its answers come to the sinks too; None without HTTP."""
        self._engine: Engine | None = None
        self._source: Source | None = None
        self._bad_before = 0  # samples that earlier sources could not read
        self._failures = 0
        self._lost_before = 0  # answers over HTTP that earlier engines' sinks did not get
        self._source_complaint, self._failure_complaint = Complaint(), Complaint()
        self._source_trouble = Trouble()
        self._sink_troubles = [Trouble() for _ in self.sinks]
        self._recent: deque[tuple[Answer, float]] = deque(maxlen=RECENT)
        self._next_flush = 0.0

    # ---- what it says about itself ------------------------------------------------------------------------------

    @property
    def bad(self) -> int:
        """Samples that could not be read."""
        return self._bad_before + (self._source.bad if self._source else 0)

    @property
    def lost(self) -> int:
        """Answers that the sinks could not give out."""
        tapped = self._lost_before + (self.served.lost if self.served else 0)
        return sum(sink.lost for sink in self.sinks) + (tapped if self.sinks else 0)

    @property
    def source_text(self) -> str:
        """What the source does, for people."""
        if self._config.source is None:
            return "none"
        if self._source is None:
            return "waits for a release"
        if self._source.ended:
            return "has ended"
        return self._source.last_error or "running"

    @property
    def source_trouble(self) -> str:
        """Why the source stands still; empty while it runs."""
        return self._source.trouble if self._source else ""

    @property
    def sink_troubles(self) -> tuple[str, ...]:
        """Of the sinks that cannot give out answers now, why."""
        return tuple(sink.trouble for sink in self.sinks if sink.trouble)

    @property
    def queue(self) -> int:
        """Requests that wait for the engine."""
        return self.scheduler.stats().queued if self.scheduler else 0

    @property
    def recent(self) -> tuple[RecentAnswer, ...]:
        """The last answers to the source's samples, oldest first."""
        return tuple(recent_answer(answer, when) for answer, when in self._recent)

    def counted(self) -> Counted:
        """What the step to another variant is decided by."""
        misses = self.scheduler.stats().refused["deadline"] if self.scheduler else 0
        health = self._engine.health if self._engine else None
        if health is None:
            return Counted(0.0, 0, 0)
        return Counted(health.percentiles()[1], misses, health.samples + misses)

    def metrics(self) -> dict[str, float]:
        """Numbers of the agent, for ``/metrics``."""
        return {
            "samples_bad": float(self.bad),
            "answers_lost": float(self.lost),
            "source_ok": float(not self.source_trouble),
        }

    # ---- the work -----------------------------------------------------------------------------------------------

    def run_with(self, engine: Engine, *, same_samples: bool) -> None:
        """Answer with ``engine`` from now on. The source is opened (again) unless the samples stay as they were."""
        self._engine, self._failures = engine, 0
        self._schedule(engine)
        if self._config.http is not None:
            self._hear()
            self._lost_before += self.served.lost if self.served else 0
            self.served = Tap(engine)
        if self._config.source is None or same_samples:
            return
        if self._source is not None:
            self._bad_before += self._source.bad
            self._source.stop()
        self._source = open_source(self._config.source, engine.signature, self._memory)
        self.ended = False

    def _schedule(self, engine: Engine) -> None:
        config = self._config.scheduler
        if config is None and self._config.http is None:
            return
        if self.scheduler is None:
            from edge_agent.scheduler import Scheduler

            self.scheduler = Scheduler(engine, config or SchedulerConfig())
        else:
            self.scheduler.swap(engine)

    def step(self) -> None:
        """Answer what is there, waiting a moment for the first sample."""
        self._hear()
        source, engine = self._source, self._engine
        if source is None or engine is None or self.ended:
            time.sleep(POLL_SECONDS)
            return
        samples = source.poll(POLL_SECONDS)
        if self.paused:  # what came meanwhile would be stale when the work goes on
            return
        infer = engine.infer if self.scheduler is None else self.scheduler.infer
        for sample in samples:
            self._answer(engine, infer, sample)
        if source.last_error and not source.trouble:  # trouble is told by the source itself
            self._source_complaint.tell(
                source.last_error, f"source: {source.last_error} ({self.bad} bad samples so far)"
            )
        if source.ended:
            self._ended()

    def tick(self, now: float) -> None:
        """What is due by the clock (monotonic): sinks give out what they hold, troubles are told."""
        if now < self._next_flush:
            return
        self._next_flush = now + FLUSH_SECONDS
        for sink, trouble in zip(self.sinks, self._sink_troubles, strict=True):
            sink.flush()
            if trouble.news(sink.trouble):
                self._fault(f"a sink cannot give out answers: {sink.trouble}", 0)
        if self._source is not None and self._source_trouble.news(self._source.trouble):
            self._fault(f"the source stands still: {self._source.trouble}", 0)

    def stop(self) -> None:
        """End the source."""
        if self._source is not None:
            self._source.stop()

    def close(self) -> None:
        """Let go of the sinks and of who waits."""
        self._hear()
        if self.scheduler is not None:
            self.scheduler.close()
        for sink in self.sinks:
            sink.close()

    def _answer(self, engine: Engine, infer: Callable[..., Answer], sample: Sample) -> None:
        try:
            answer = infer(sample.data, id=sample.id)
        except SanderlingError as error:
            self._failed(engine, str(error))
            return
        self._failures = 0
        self._given(engine, sample, answer)

    def _hear(self) -> None:
        """Give out what was answered over HTTP."""
        if self.served is not None:
            for data, answer in self.served.heard():
                self._given(self.served.engine, Sample(answer.id, data), answer)

    def _given(self, engine: Engine, sample: Sample, answer: Answer) -> None:
        now = time.time()
        self._recent.append((answer, now))
        if self._answered is not None:
            self._answered(sample, answer, now)
        if self.sinks:
            record = answer_record(answer, now, engine.manifest.version, engine.variant.id)
            for sink in self.sinks:
                sink.write(record)

    def _failed(self, engine: Engine, error: str) -> None:
        self._failures += 1
        self._failure_complaint.tell(error, f"a sample could not be answered: {error}")
        if self._failures == FAILURES_IN_A_ROW:
            text = f"{FAILURES_IN_A_ROW} samples in a row could not be answered: {error}"
            self._fault(text, engine.manifest.version)

    def _ended(self) -> None:
        self.ended = True
        if isinstance(self._config.source, StdinSource):
            log.info("standard input has ended; stopping")
            self.over = True
        else:
            log.info("the source has ended; the agent stays")
