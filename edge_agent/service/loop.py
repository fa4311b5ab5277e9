"""The main loop of an agent of a fleet. Samples are answered in this thread (``answering.py``); everything slow
(network, disk, updates) has its own.

Invariants, held by ``tests/edge_agent/service``, beside those of ``answering.py``:

1. A failing broker, repository or release ends nothing: it is counted and told.
2. A drift alarm is told once until it is acknowledged, also across restarts.
"""

from __future__ import annotations

import logging
import time
import uuid

from edge_agent.config import AgentConfig
from edge_agent.engine import Answer, Engine
from edge_agent.link import Inbound, Link, LinkConfig
from edge_agent.outbox import Outbox
from edge_agent.samples import StoredSample
from edge_agent.service import reporting
from edge_agent.service.answering import Answering
from edge_agent.service.commands import Commands, Refusal
from edge_agent.service.engines import Engines
from edge_agent.service.rate import Rate
from edge_agent.service.releases import Releases
from edge_agent.service.samples import SampleDesk
from edge_agent.service.serving import Serving
from edge_agent.service.stepping import Stepping
from edge_agent.service.telemetry import Telemetry
from edge_agent.service.updating import Updates
from edge_agent.service.writer import Writer
from edge_agent.sinks import open_sink
from edge_agent.sources import Sample, check_source
from edge_agent.state import StateDirectory
from shared import topics
from shared.enrolment import Enrolment
from shared.errors import MessageError
from shared.messages import Desired, decode

log = logging.getLogger("edge_agent.service")

STATUS_SECONDS = 1.0


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
        if config.source is not None:
            check_source(config.source)  # before anything is opened that would have to be closed again
        self._config = config
        self._enrolment = enrolment
        self._state = state
        self.left_behind = False
        """Whether an update was still under way in its thread when ``run`` returned."""
        self._stopping = False
        self._shareable = False  # whether the controller can be given samples: one array of a known shape each
        self._started = time.time()
        self._outbox = Outbox(state.outbox, config.outbox, boot=uuid.uuid4().hex[:12])
        self._link = Link(enrolment, self._outbox, config=link)
        self._writer = Writer(state)
        self._telemetry = Telemetry(enrolment, config.model, self._outbox, self._link, state, self._writer)
        topic = topics.up(enrolment.site, enrolment.device, "samples", config.model)
        room = config.outbox.max_bytes // 2
        self._desk = SampleDesk(config.samples, enrolment.device, topic, config.model, self._outbox, room)
        self._answering = Answering(
            config,
            [open_sink(sink, self._telemetry.predictions) for sink in config.sinks],
            state.root,
            fault=lambda text, release: self._telemetry.event("fault", "error", text, release=release),
            answered=self._answered,
        )
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
        self._stepping, self._stepped = Stepping(config, self._releases.load_variant), False
        self._serving = Serving(config, lambda: self._answering.served, self._answering.metrics)
        self._rate = Rate()
        now = time.monotonic()
        self._next_status = now
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
                self._answering.step()
                self._stopping = self._stopping or self._answering.over
        finally:
            self._shut_down()

    # ---- start and stop -----------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._link.start()
        if self._outbox.moved_aside:
            self._telemetry.event("fault", "error", f"the outbox was damaged; kept as {self._outbox.moved_aside.name}")
        self._telemetry.info()
        self._releases.start()
        self._serving.start()
        self._telemetry.state(self._engine, bad=0, lost=0)

    def _shut_down(self) -> None:
        self._serving.stop()
        self._answering.stop()
        self._stepping.stop()
        if self._engine is not None:
            self._telemetry.report(self._engine, self._answering.bad)
        self._answering.close()
        self.left_behind = not self._releases.stop(1.0)
        self._link.stop()
        self._outbox.close()
        self._write_status()
        self._writer.close()
        if self._engine is not None:
            self._engine.close()

    @property
    def _engine(self) -> Engine | None:
        return self._releases.engine

    def _answered(self, sample: Sample, answer: Answer, now: float) -> None:
        if self._shareable and not isinstance(sample.data, dict):
            self._desk.offer(StoredSample(answer.id, sample.data, answer.label, answer.score, now), time.monotonic())

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
        self._next_status = 0.0
        if not self._stepped:
            self._stepping.begin(engine)
        self._shareable = len(engine.signature) == 1 and engine.signature[0].fixed
        same_samples = previous is not None and previous.signature == engine.signature
        self._answering.run_with(engine, same_samples=same_samples)
        if previous is not None and previous.manifest.version != engine.manifest.version:
            self._desk.new_release(same_samples=same_samples)

    def _engine_leaves(self, engine: Engine) -> None:
        self._telemetry.report(engine, self._answering.bad)

    # ---- what the controller may ask for (edge_agent.service.commands.Actions) ----------------------------------

    def report_now(self) -> str:
        """Verb ``report``."""
        engine = self._required()
        samples = self._telemetry.report(engine, self._answering.bad)
        self._telemetry.state(engine, bad=self._answering.bad, lost=self._answering.lost)
        self._next_report = time.monotonic() + self._config.report.every_seconds
        return f"reported a window of {samples} samples"

    def send_samples(self, request: str, count: int, since: float) -> str:
        """Verb ``samples``."""
        sample = self._required().manifest.sample
        if not self._shareable:
            raise Refusal("samples of this model cannot be sent: they are not numbers of one fixed shape")
        return self._desk.request(request, count, since, sample)

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
        self._answering.paused = True
        log.info("paused by the controller")
        return "paused"

    def resume(self) -> str:
        """Verb ``resume``."""
        self._answering.paused = False
        log.info("goes on")
        return "goes on"

    def _required(self) -> Engine:
        if self._engine is None:
            raise Refusal("no release is installed yet")
        return self._engine

    # ---- what is due by the clock -------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = time.monotonic()
        self._answering.tick(now)
        if now >= self._next_report:
            self._next_report = now + self._config.report.every_seconds
            if self._engine is not None:
                self._telemetry.report(self._engine, self._answering.bad)
            self._telemetry.state(self._engine, bad=self._answering.bad, lost=self._answering.lost)
        if now >= self._next_status:
            self._next_status = now + STATUS_SECONDS
            if self._engine is not None:
                self._telemetry.check_alarm(self._engine)
                self._stepping.observe(now, self._answering.counted())
                self._step()
            self._write_status()
        if self._engine is not None:
            self._desk.send(self._engine.manifest.version, now, time.time())

    def _step(self) -> None:
        old, engine = self._engine, self._stepping.take()
        if old is not None and engine is not None:
            text, self._stepped = self._stepping.told(old, engine), True
            log.warning("%s", text)
            try:
                self._releases.step_to(engine, text)
            finally:
                self._stepped = False
            self._stepping.swapped(engine)

    def _write_status(self) -> None:
        status = reporting.agent_status(
            self._config.model,
            self._engine,
            self._answering,
            now=time.time(),
            started=self._started,
            rate_hz=self._rate(self._engine.health.samples if self._engine else 0),
            http=self._serving.address,
            steps_down=self._stepping.down,
            last=self._telemetry.last_window(self._engine),
        )
        status = reporting.with_fleet(
            status,
            self._enrolment,
            self._link,
            self._outbox,
            slot=self._releases.slot,
            last_report=self._telemetry.last_report,
            update=self._releases.text,
        )
        self._writer.put(self._state.status, status)
