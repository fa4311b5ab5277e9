"""What goes out, and when: reports, alarms, state, what runs. Also keeps the monitor across restarts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge_agent.engine import Engine
from edge_agent.hardware import inspect, temperature_c, throttled
from edge_agent.health import rss_mib
from edge_agent.link import Link
from edge_agent.outbox import Outbox
from edge_agent.service import reporting
from edge_agent.service.keeping import restored, saved_monitor
from edge_agent.service.rate import Rate
from edge_agent.service.writer import Writer
from edge_agent.state import SavedMonitor, StateDirectory
from shared import topics
from shared.enrolment import Enrolment
from shared.messages import AnswerRecord, Event, Feedback, Message, Prediction, Reply, Reported, UpMessage

if TYPE_CHECKING:
    from edge_agent.monitor import MonitorReport

log = logging.getLogger("edge_agent.service")


class Telemetry:
    """One device's voice. Called from the main loop only."""

    def __init__(
        self,
        enrolment: Enrolment,
        model: str,
        outbox: Outbox,
        link: Link,
        state: StateDirectory,
        writer: Writer,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.device = enrolment.device
        self.last_report = 0.0
        self._site = enrolment.site
        self._model = model
        self._outbox = outbox
        self._link = link
        self._state = state
        self._writer = writer
        self._clock = clock
        self._announced = False  # the alarm that is latched was sent
        self._reported: Reported | None = None
        self._predictions = 0
        self._bad_told = 0
        self._window: tuple[Engine, MonitorReport] | None = None  # the last one, and whose it was
        self._rate = Rate()

    def put(self, kind: str, name: str, message: UpMessage) -> None:
        """Through the outbox."""
        self._outbox.put(topics.up(self._site, self.device, kind, name), message)

    def retain(self, kind: str, name: str, message: Message, *, qos: int = 1) -> None:
        """As a retained topic."""
        self._link.retain(topics.up(self._site, self.device, kind, name), message, qos=qos)

    def event(self, kind: str, level: str, text: str, *, release: int = 0, **details: Any) -> None:
        """Something that a person or the controller should know, at once."""
        self.put(
            "event",
            kind,
            Event(
                device=self.device,
                time=self._clock(),
                kind=kind,
                level=level,
                text=text,
                model=self._model,
                release=release,
                details=details,
            ),
        )

    def reply(self, command: str, verb: str, ok: bool, text: str) -> None:
        """The answer to a command."""
        self.put("reply", verb, Reply(device=self.device, time=self._clock(), id=command, verb=verb, ok=ok, text=text))

    def predictions(self, answers: list[AnswerRecord]) -> bool:
        """Answers over MQTT, if there is a connection."""
        first = answers[0]
        self._predictions += 1
        message = Prediction(
            device=self.device,
            boot=self._outbox.boot,
            stream=f"prediction/{self._model}",
            sequence=self._predictions,
            time=self._clock(),
            model=self._model,
            release=first.release,
            variant=first.variant,
            answers=answers,
        )
        return self._link.send(topics.up(self._site, self.device, "prediction", self._model), message)

    def info(self) -> None:
        """What this device is."""
        self.retain("info", "", reporting.info_message(self.device, self._model, inspect(), self._clock()))

    def reported(self, engine: Engine | None, slot: str, *, refused: int = 0, error: str = "") -> None:
        """What runs, and what was refused."""
        message = reporting.reported_message(
            self.device, self._model, engine, slot, now=self._clock(), refused=refused, error=error
        )
        self.retain("reported", self._model, message)

    def report(self, engine: Engine, bad: int) -> int:
        """End the drift window and send it; ``bad`` is the source's count of unreadable samples. Samples in it."""
        window = None
        if engine.monitor is not None:
            self.check_alarm(engine)
            window = engine.monitor.take()
            self._window = engine, window
            newly_bad, self._bad_told = bad - self._bad_told, bad
            if window.samples or window.errors or newly_bad:
                now = self._clock()
                message = reporting.report_message(self.device, engine, window, bad=newly_bad, now=now)
                self.put("report", self._model, message)
                self.last_report = now
            self.save_monitor(engine)
        truths = engine.take_feedback()
        if truths:
            self.put(
                "feedback",
                self._model,
                Feedback(device=self.device, time=self._clock(), model=self._model, labels=truths),
            )
        return window.samples if window else 0

    def last_window(self, engine: Engine | None) -> MonitorReport | None:
        """The window of ``engine`` that was reported last."""
        if self._window is not None and self._window[0] is not engine:
            self._window = None  # and let go of that engine
        return self._window[1] if self._window is not None else None

    def check_alarm(self, engine: Engine) -> None:
        """Send the drift alarm, once a latch."""
        if self._announced or engine.monitor is None or not engine.monitor.alarm:
            return
        window = engine.monitor.report()
        self._announced = True
        log.warning("drift: evidence %.3g (1 is the alarm) on %s", window.loudest, ", ".join(window.features) or "all")
        self.put("event", "drift", reporting.drift_event(self.device, engine, window, self._clock()))
        self.save_monitor(engine)

    def acknowledge(self, engine: Engine, *, keep: bool) -> None:
        """End the alarm."""
        if engine.monitor is not None:
            engine.monitor.acknowledge(keep=keep)
        self._announced = False
        self.save_monitor(engine)

    def state(self, engine: Engine | None, *, bad: int, lost: int) -> None:
        """Flat scalars for dashboards."""
        message = reporting.state_message(
            self.device,
            self._model,
            engine,
            now=self._clock(),
            rate_hz=self._rate(engine.health.samples if engine else 0),
            bad=bad,
            rss_mib=rss_mib(),
            temperature_c=temperature_c(),
            throttled=throttled(),
            outbox_rows=self._outbox.rows,
            dropped=self._outbox.dropped + lost,
            last=self.last_window(engine),
        )
        self.retain("state", self._model, message, qos=0)

    def engine_changed(self) -> None:
        """Another engine runs: nothing of the last one's alarm holds for it."""
        self._announced = False

    def save_monitor(self, engine: Engine) -> None:
        """Have the monitor written to disk."""
        saved = saved_monitor(engine, announced=self._announced)
        if saved is not None:
            self._writer.put(self._state.monitor, saved)

    def restore_monitor(self, engine: Engine, saved: SavedMonitor | None = None) -> bool:
        """Go on watching where ``saved``, by default the file on disk, ends; only for the very same release, variant
        and profile."""
        saved = saved or self._state.read(self._state.monitor, SavedMonitor)
        if saved is None or not restored(engine, saved):
            return False
        self._announced = saved.announced
        return True
