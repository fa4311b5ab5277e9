"""The main loop. Samples are answered in this thread; everything slow (network, disk, updates) has its own.

Invariants, held by ``tests/edge_agent/test_service.py``:

1. Engines are swapped between two inferences; no sample is lost or answered twice because of an update.
2. A bad sample, a failing source, sink, broker, repository or release ends nothing: it is counted and told.
3. A drift alarm is told once until it is acknowledged, also across restarts.
"""

from __future__ import annotations

import logging
import time
import uuid
from pathlib import Path

from edge_agent.config import AgentConfig, NpzSource, StdinSource
from edge_agent.engine import Engine
from edge_agent.link import Inbound, Link, LinkConfig
from edge_agent.outbox import Outbox
from edge_agent.samples import StoredSample
from edge_agent.service import reporting
from edge_agent.service.commands import Commands, Refusal
from edge_agent.service.engines import Engines
from edge_agent.service.rate import Rate
from edge_agent.service.releases import Releases
from edge_agent.service.samples import SampleDesk
from edge_agent.service.telemetry import Telemetry
from edge_agent.service.updating import Updates
from edge_agent.service.writer import Writer
from edge_agent.sinks import FLUSH_SECONDS, Sink, open_sink
from edge_agent.sources import Sample, Source, open_source
from edge_agent.state import StateDirectory
from shared import topics
from shared.enrolment import Enrolment
from shared.errors import ConfigError, MessageError, SanderlingError
from shared.messages import AnswerRecord, Desired, decode

log = logging.getLogger("edge_agent.service")

POLL_SECONDS = 0.05
STATUS_SECONDS = 2.0
FAILURES_IN_A_ROW = 100
COMPLAINT_SECONDS = 10.0


class _Complaint:
    """Logs what is wrong once; another text, as of bad samples that are bad in many ways, not before ten seconds."""

    def __init__(self) -> None:
        self._told, self._next = "", 0.0

    def tell(self, what: str, text: str) -> None:
        """Log ``text`` if ``what`` is wrong is news."""
        if what != self._told and time.monotonic() >= self._next:
            self._told, self._next = what, time.monotonic() + COMPLAINT_SECONDS
            log.warning("%s", text)


class Service:
    """One agent. ``run`` blocks until :meth:`stop` is called from a signal handler or another thread.

    Raises:
        StoreError: the outbox cannot be used.
        ConfigError: a source's or sink's file is unusable, or the enrolment's certificate.
    """

    def __init__(
        self,
        config: AgentConfig,
        enrolment: Enrolment,
        state: StateDirectory,
        updates: Updates,
        *,
        link: LinkConfig | None = None,
    ) -> None:
        if isinstance(config.source, NpzSource) and not (path := Path(config.source.path)).is_file():
            what = "is a directory, not a file" if path.is_dir() else "no such file"
            raise ConfigError(f"source: {what}", file=str(path))  # now, and not with the first release
        self._config = config
        self._enrolment = enrolment
        self._state = state
        self.left_behind = False
        """Whether an update was still under way in its thread when ``run`` returned."""
        self._stopping = False
        self._paused = False
        self._started = time.time()
        self._source: Source | None = None
        self._source_complaint, self._failure_complaint = _Complaint(), _Complaint()
        self._source_over = False
        self._bad_before = 0  # samples that earlier sources could not read
        self._failures = 0
        self._outbox = Outbox(state.outbox, config.outbox, boot=uuid.uuid4().hex[:12])
        self._link = Link(enrolment, self._outbox, config=link)
        self._writer = Writer(state)
        self._telemetry = Telemetry(enrolment, config.model, self._outbox, self._link, state, self._writer)
        topic = topics.up(enrolment.site, enrolment.device, "samples", config.model)
        room = config.outbox.max_bytes // 2
        self._desk = SampleDesk(config.samples, enrolment.device, topic, config.model, self._outbox, room)
        self._sinks: list[Sink] = [open_sink(sink, self._telemetry.predictions) for sink in config.sinks]
        self._commands = Commands(config.model, self, self._telemetry.reply)
        self._releases = Releases(
            config.model,
            state,
            updates,
            Engines(config, enrolment.device, state.selection),
            self._telemetry,
            self._writer,
            changed=self._engine_changed,
            leaving=self._engine_leaves,
            answer=lambda command, ok, text: self._commands.answer(command, "select", ok=ok, text=text),
        )
        self._rate = Rate()
        now = time.monotonic()
        self._next_flush, self._next_status = now, now
        self._next_report = now + config.report.every_seconds

    def stop(self) -> None:
        """Make ``run`` return soon. Safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Start everything, loop, and stop everything in order."""
        try:
            self._start()
            while not self._stopping:
                self._hear()
                self._tick()
                self._answer_some()
        finally:
            self._shut_down()

    # ---- start and stop -----------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._link.start()
        if self._outbox.moved_aside:
            self._telemetry.event("fault", "error", f"the outbox was damaged; kept as {self._outbox.moved_aside.name}")
        self._telemetry.info()
        self._releases.start()
        self._telemetry.state(self._engine, bad=0, lost=0)

    def _shut_down(self) -> None:
        if self._source is not None:
            self._source.stop()
        if self._engine is not None:
            self._telemetry.report(self._engine, self._bad)
        for sink in self._sinks:
            sink.close()
        self.left_behind = not self._releases.stop(1.0)
        self._link.stop()
        self._outbox.close()
        self._write_status()
        self._writer.close()
        if self._engine is not None:
            self._engine.close()

    # ---- samples ------------------------------------------------------------------------------------------------

    @property
    def _engine(self) -> Engine | None:
        return self._releases.engine

    @property
    def _bad(self) -> int:
        return self._bad_before + (self._source.bad if self._source else 0)

    def _answer_some(self) -> None:
        source, engine = self._source, self._engine
        if source is None or engine is None or self._source_over:
            time.sleep(POLL_SECONDS)
            return
        samples = source.poll(POLL_SECONDS)
        if self._paused:  # what came meanwhile would be stale when the work goes on
            return
        for sample in samples:
            self._answer(engine, sample)
        if source.last_error:
            self._source_complaint.tell(
                source.last_error, f"source: {source.last_error} ({self._bad} bad samples so far)"
            )
        if source.ended:
            self._source_ended()

    def _answer(self, engine: Engine, sample: Sample) -> None:
        try:
            answer = engine.infer(sample.data, id=sample.id)
        except SanderlingError as error:
            self._failed(engine, str(error))
            return
        self._failures = 0
        now = time.time()
        stored = StoredSample(answer.id, sample.data, answer.label, answer.score, now)
        self._desk.offer(stored, time.monotonic())
        if self._sinks:
            record = AnswerRecord(
                id=answer.id,
                label=answer.label,
                score=answer.score,
                time=now,
                latency_us=answer.latency_us,
                release=engine.manifest.version,
                variant=engine.variant.id,
            )
            for sink in self._sinks:
                sink.write(record)

    def _failed(self, engine: Engine, error: str) -> None:
        self._failures += 1
        self._failure_complaint.tell(error, f"a sample could not be answered: {error}")
        if self._failures == FAILURES_IN_A_ROW:
            text = f"{FAILURES_IN_A_ROW} samples in a row could not be answered: {error}"
            self._telemetry.event("fault", "error", text, release=engine.manifest.version)

    def _source_ended(self) -> None:
        self._source_over = True
        if isinstance(self._config.source, StdinSource):
            log.info("standard input has ended; stopping")
            self._stopping = True
        else:
            log.info("the source has ended; the agent stays for commands and updates")

    # ---- what comes in ------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        while not self._link.inbox.empty():
            inbound = self._link.inbox.get()
            try:
                self._hear_one(inbound)
            except MessageError as error:
                log.warning("ignored what came on %s/%s: %s", inbound.kind, inbound.name, error)
        self._releases.hear()

    def _hear_one(self, inbound: Inbound) -> None:
        if inbound.kind == "cmd":
            self._commands.handle(inbound.name, inbound.payload, inbound.content_type)
        elif inbound.kind == "desired" and inbound.name == self._config.model:
            message = decode(inbound.payload, Desired, inbound.content_type)
            if message.model != self._config.model:
                raise MessageError(f"it names the model {message.model}")
            self._releases.desire(message)

    def _engine_changed(self, previous: Engine | None, engine: Engine) -> None:
        self._failures, self._next_status = 0, 0.0
        same_samples = previous is not None and previous.manifest.sample == engine.manifest.sample
        if not same_samples:
            self._open_source(engine)
        if previous is not None and previous.manifest.version != engine.manifest.version:
            self._desk.new_release(same_samples=same_samples)

    def _engine_leaves(self, engine: Engine) -> None:
        self._telemetry.report(engine, self._bad)

    def _open_source(self, engine: Engine) -> None:
        if self._source is not None:
            self._bad_before += self._source.bad
            self._source.stop()
        self._source = open_source(self._config.source, engine.manifest.sample)
        self._source_over = False

    # ---- what the controller may ask for (edge_agent.service.commands.Actions) ----------------------------------

    def report_now(self) -> str:
        """Verb ``report``."""
        engine = self._required()
        samples = self._telemetry.report(engine, self._bad)
        self._telemetry.state(engine, bad=self._bad, lost=self._lost)
        self._next_report = time.monotonic() + self._config.report.every_seconds
        return f"reported a window of {samples} samples"

    def send_samples(self, request: str, count: int, since: float) -> str:
        """Verb ``samples``."""
        return self._desk.request(request, count, since, self._required().manifest.sample)

    def acknowledge(self, *, keep: bool) -> str:
        """Verb ``acknowledge``."""
        self._telemetry.acknowledge(self._required(), keep=keep)
        return "alarm ended; " + ("what was seen is kept" if keep else "watching starts anew")

    def select_again(self, command: str) -> str | None:
        """Verb ``select``: the reply comes when it is done."""
        self._required()
        if not self._releases.select_again(command):
            raise Refusal("the variants are about to be measured already")
        return None

    def pause(self) -> str:
        """Verb ``pause``."""
        self._paused = True
        log.info("paused by the controller")
        return "paused"

    def resume(self) -> str:
        """Verb ``resume``."""
        self._paused = False
        log.info("goes on")
        return "goes on"

    def _required(self) -> Engine:
        if self._engine is None:
            raise Refusal("no release is installed yet")
        return self._engine

    # ---- what is due by the clock -------------------------------------------------------------------------------

    @property
    def _lost(self) -> int:
        return sum(sink.lost for sink in self._sinks)

    def _tick(self) -> None:
        now = time.monotonic()
        if now >= self._next_flush:
            self._next_flush = now + FLUSH_SECONDS
            for sink in self._sinks:
                sink.flush()
            if self._engine is not None:
                self._telemetry.check_alarm(self._engine)
        if now >= self._next_report:
            self._next_report = now + self._config.report.every_seconds
            if self._engine is not None:
                self._telemetry.report(self._engine, self._bad)
            self._telemetry.state(self._engine, bad=self._bad, lost=self._lost)
        if now >= self._next_status:
            self._next_status = now + STATUS_SECONDS
            self._write_status()
        if self._engine is not None:
            self._desk.send(self._engine.manifest.version, now, time.time())

    def _write_status(self) -> None:
        self._writer.put(
            self._state.status,
            reporting.agent_status(
                self._enrolment,
                self._config.model,
                self._engine,
                self._releases.slot,
                self._link,
                self._outbox,
                now=time.time(),
                started=self._started,
                paused=self._paused,
                bad=self._bad,
                lost=self._lost,
                rate_hz=self._rate(self._engine.health.samples if self._engine else 0),
                source=self._source_text(),
                last_report=self._telemetry.last_report,
                update=self._releases.text,
            ),
        )

    def _source_text(self) -> str:
        if self._source is None:
            return "waits for a release"
        if self._source.ended:
            return "has ended"
        return self._source.last_error or "running"
