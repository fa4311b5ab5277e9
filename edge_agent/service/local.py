"""An agent that runs alone: a release or a bare model file, a source, sinks, HTTP. No enrolment, no broker, no updates.

What it has seen (the drift monitor, a learned baseline) is kept in the state directory and goes on after a restart.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from edge_agent.config import AgentConfig
from edge_agent.service import reporting
from edge_agent.service.answering import Answering
from edge_agent.service.complaint import Trouble
from edge_agent.service.engines import Engines
from edge_agent.service.keeping import carried, restored, saved_monitor
from edge_agent.service.rate import Rate
from edge_agent.service.serving import Serving
from edge_agent.service.stepping import Stepping
from edge_agent.service.writer import Writer
from edge_agent.sinks import open_sink
from edge_agent.state import SavedMonitor, StateDirectory
from shared.errors import UsageError

log = logging.getLogger("edge_agent.service")

STATUS_SECONDS = 1.0


class LocalService:
    """``run`` blocks until :meth:`stop` is called, or standard input ends when that is the source.

    Raises:
        SanderlingError: the model cannot run here, or a source, sink or address is unusable.
    """

    def __init__(self, config: AgentConfig, state: StateDirectory) -> None:
        if config.release is None:
            raise UsageError("an agent that runs alone needs a release")
        if any(sink.__struct_config__.tag == "mqtt" for sink in config.sinks):
            raise UsageError('the sink "mqtt" needs an enrolment; this agent runs alone')
        self._config = config
        self._state = state
        self._release = Path(config.release)
        self._stopping = False
        self._started = time.time()
        self._alarm = Trouble()
        self._rate = Rate()
        self._engines = Engines(config, "", state.selection)
        self._answering = Answering(
            config, [open_sink(sink, lambda _: False) for sink in config.sinks], state.root, fault=_fault
        )
        self._engine = self._engines.load(self._release)
        self._serving = Serving(config, lambda: self._answering.served, self._answering.metrics)
        self._stepping = Stepping(config, lambda variant: self._engines.load(self._release, variant=variant))
        self._writer = Writer(state)
        saved = state.read(state.monitor, SavedMonitor)
        restored(self._engine, saved)
        now = time.monotonic()
        self._next_status = now
        self._next_save = now + config.report.every_seconds

    @property
    def port(self) -> int:
        """Where HTTP is served; 0 where it is not."""
        return self._serving.port

    def stop(self) -> None:
        """Make ``run`` return soon. Safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Start everything, loop, and stop everything in order."""
        try:
            self._answering.run_with(self._engine, same_samples=False)
            self._stepping.begin(self._engine)
            self._serving.start()
            log.info(
                "runs %s/%d, variant %s", self._config.model, self._engine.manifest.version, self._engine.variant.id
            )
            while not self._stopping and not (self._answering.ended and not self._serving.port):
                self._tick()
                self._answering.step()
        finally:
            self._shut_down()

    def _tick(self) -> None:
        now = time.monotonic()
        self._answering.tick(now)
        if now >= self._next_status:
            self._next_status = now + STATUS_SECONDS
            self._check_alarm()
            self._write_status()
            self._stepping.observe(now, self._answering.counted())
            self._step()
        if now >= self._next_save:
            self._next_save = now + self._config.report.every_seconds
            self._save()

    def _step(self) -> None:
        engine = self._stepping.take()
        if engine is None:
            return
        old, self._engine = self._engine, engine
        log.warning("%s", self._stepping.told(old, engine))
        carried(old, engine)
        self._answering.run_with(engine, same_samples=True)
        self._stepping.swapped(engine)
        old.close()

    def _check_alarm(self) -> None:
        monitor = self._engine.monitor
        alarm = monitor is not None and monitor.alarm
        if self._alarm.news("drift" if alarm else "") and monitor is not None:
            window = monitor.report()
            told = ", ".join(window.features) or "several features together"
            log.warning("drift: evidence %.3g (1 is the alarm) on %s", window.loudest, told)
            self._save()  # an alarm outlives a power cut

    def _write_status(self) -> None:
        status = reporting.agent_status(
            self._config.model,
            self._engine,
            self._answering,
            now=time.time(),
            started=self._started,
            rate_hz=self._rate(self._engine.health.samples),
            http=self._serving.address,
            steps_down=self._stepping.down,
        )
        self._writer.put(self._state.status, status)

    def _save(self) -> None:
        saved = saved_monitor(self._engine)
        if saved is not None:
            self._writer.put(self._state.monitor, saved)

    def _shut_down(self) -> None:
        self._serving.stop()
        self._answering.stop()
        self._answering.close()
        self._stepping.stop()
        self._save()
        self._write_status()
        self._writer.close()
        self._engine.close()


def _fault(text: str, _release: int) -> None:
    log.debug("%s", text)  # sources and sinks have told it themselves; nobody else is there to hear it
