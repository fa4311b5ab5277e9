"""Which release runs, which one is wanted, and the swap from one to the other."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable

from edge_agent.engine import Engine
from edge_agent.service.engines import Engines
from edge_agent.service.keeping import carried
from edge_agent.service.telemetry import Telemetry
from edge_agent.service.updating import Failed, Ready, Updates, UpdateWorker
from edge_agent.service.writer import Writer
from edge_agent.state import SavedDesired, StateDirectory
from edge_agent.updates.slots import Installed
from shared.errors import SanderlingError, UsageError
from shared.messages import Desired

log = logging.getLogger("edge_agent.service")


class Releases:
    """The engine that runs, and the worker that makes the next one. Called from the main loop only.

    ``changed(previous, engine)`` is called when another engine runs; ``leaving(engine)`` before one is let go;
    ``answer(command, ok, text)`` replies to a ``select`` command.
    """

    def __init__(
        self,
        model: str,
        state: StateDirectory,
        updates: Updates,
        engines: Engines,
        telemetry: Telemetry,
        writer: Writer,
        *,
        changed: Callable[[Engine | None, Engine], None],
        leaving: Callable[[Engine], None],
        answer: Callable[[str, bool, str], None],
    ) -> None:
        self.engine: Engine | None = None
        self._model = model
        self._state = state
        self._updates = updates
        self._engines = engines
        self._telemetry = telemetry
        self._writer = writer
        self._changed = changed
        self._leaving = leaving
        self._answer = answer
        self._installed: Installed | None = None
        self._desired: SavedDesired | None = None
        self._text = ""
        self._outcomes: queue.SimpleQueue[Ready | Failed] = queue.SimpleQueue()
        self._worker = UpdateWorker(updates, engines.load, engines.wanted, self._outcomes.put)

    @property
    def slot(self) -> str:
        """Where the release that runs lies; empty when none does."""
        return self._installed.slot if self._installed else ""

    @property
    def text(self) -> str:
        """What goes on with updates, for people; empty when nothing does."""
        return self._worker.doing or self._text

    def start(self) -> None:
        """Run what is installed, and begin to look for what is desired."""
        installed = self._updates.current()
        if installed is None:
            self._telemetry.reported(None, "")
            log.info("no release is installed; waiting to be told which one to run")
        else:
            self._run_installed(installed)
        self._worker.start(self.engine.manifest.version if self.engine else 0)
        desired = self._state.read(self._state.desired, SavedDesired)
        if desired is not None and desired.model == self._model:
            self._want(desired)

    def desire(self, message: Desired) -> None:
        """A release is desired; the same message again (retained, or QoS 1) changes nothing."""
        desired = SavedDesired(message.model, message.release, message.time)
        if desired != self._desired:
            self._writer.put(self._state.desired, desired)
            self._want(desired)

    def select_again(self, command: str) -> bool:
        """Measure the variants again; the answer comes when it is done. False when one command waits for that."""
        return self._worker.select(command)

    def hear(self) -> None:
        """Take what the worker has finished."""
        while not self._outcomes.empty():
            outcome = self._outcomes.get()
            if isinstance(outcome, Ready):
                self._swap(outcome)
            else:
                self._not_taken(outcome)

    def load_variant(self, variant: str) -> Engine:
        """An engine of another variant of what runs. Called by the stepping's thread.

        Raises:
            SanderlingError: it cannot run here.
        """
        installed = self._installed
        if installed is None:
            raise UsageError("no release is installed yet")
        return self._engines.load(installed.path, variant=variant)

    def step_to(self, engine: Engine, text: str) -> None:
        """Run ``engine``, another variant of what runs."""
        old, installed = self.engine, self._installed
        assert old is not None
        assert installed is not None
        self._leaving(old)
        self._carry_over(old, engine)
        self._run_with(engine, installed)
        old.close()
        self._telemetry.event("update", "warning", text, release=engine.manifest.version, variant=engine.variant.id)

    def stop(self, seconds: float) -> bool:
        """End the worker; False when it has to be left behind."""
        return self._worker.stop(seconds)

    def _want(self, desired: SavedDesired) -> None:
        self._desired = desired
        if desired.release:
            self._worker.want(desired.release)

    def _run_installed(self, installed: Installed) -> None:
        try:
            engine = self._engines.load(installed.path)
        except SanderlingError as error:
            log.error("release %d cannot run: %s", installed.version, error)  # noqa: TRY400  (told in full)
            self._telemetry.event("fault", "error", str(error), release=installed.version)
            self._telemetry.reported(None, "", refused=installed.version, error=str(error))
            return
        self._telemetry.restore_monitor(engine)
        self._run_with(engine, installed)

    def _swap(self, ready: Ready) -> None:
        old, new = self.engine, ready.engine
        if old is not None:
            self._leaving(old)
            self._carry_over(old, new)
        self._run_with(new, ready.installed)
        self._worker.swapped(new.manifest.version)
        if old is not None:
            old.close()
        if ready.command:
            self._answer(ready.command, True, f"runs {new.variant.id}")
        else:
            text = f"runs {new.manifest.name}/{new.manifest.version}, {new.variant.id}"
            self._telemetry.event("update", "info", text, release=new.manifest.version, variant=new.variant.id)

    def _carry_over(self, old: Engine, new: Engine) -> None:
        """The same variant of the same release goes on with what was seen, another variant with what was seen of the
        inputs; for another release watching starts anew."""
        same = (old.manifest.version, old.variant.id) == (new.manifest.version, new.variant.id)
        if same and old.monitor is not None and new.monitor is not None:
            new.monitor.restore(old.monitor.to_bytes())
        elif not carried(old, new):
            self._telemetry.engine_changed()

    def _run_with(self, engine: Engine, installed: Installed) -> None:
        previous, self.engine, self._installed, self._text = self.engine, engine, installed, ""
        log.info("runs %s/%d, variant %s", engine.manifest.name, engine.manifest.version, engine.variant.id)
        self._telemetry.reported(engine, installed.slot)
        self._changed(previous, engine)

    def _not_taken(self, failed: Failed) -> None:
        if failed.command:
            self._answer(failed.command, False, failed.error)
        elif failed.retry is not None:
            text = f"release {failed.version}: {failed.error}; trying again"
            if text != self._text:
                log.warning("%s", text)
                self._text = text
                self._telemetry.reported(self.engine, self.slot, error=text)
        else:
            self._text = f"release {failed.version} was refused: {failed.error}"
            log.error("%s; what runs keeps running", self._text)
            self._telemetry.reported(self.engine, self.slot, refused=failed.version, error=failed.error)
            self._telemetry.event("fault", "error", self._text, release=failed.version)
