"""Another variant of the same release when the device can't keep up, and back: the policy is
:mod:`edge_agent.stepping`, the engine is made in a thread of its own, and the main loop swaps."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from edge_agent.config import AgentConfig
from edge_agent.hardware import throttled
from edge_agent.stepping import Stepper

if TYPE_CHECKING:
    from edge_agent.engine import Engine

log = logging.getLogger("edge_agent.service")

JOIN_SECONDS = 1.0


class Counted(NamedTuple):
    """Totals so far: ``answers`` that were given or came too late, ``misses`` that came too late; and p99 now."""

    p99_us: float
    misses: int
    answers: int


class Stepping:
    """``load`` makes the engine of a variant of what runs. Called from the main loop only."""

    def __init__(
        self, config: AgentConfig, load: Callable[[str], Engine], *, is_throttled: Callable[[], bool | None] = throttled
    ) -> None:
        self._config = config
        self._load = load
        self._throttled = is_throttled
        self._stepper: Stepper | None = None
        self._engine: Engine | None = None
        self._before = Counted(0.0, 0, 0)
        self._thread: threading.Thread | None = None
        self._made: queue.SimpleQueue[tuple[str, Engine | None, str]] = queue.SimpleQueue()

    @property
    def down(self) -> int:
        """How many steps below the chosen variant what runs is."""
        stepper = self._stepper
        return stepper.steps.index(stepper.variant) if stepper is not None and stepper.variant else 0

    def begin(self, engine: Engine) -> None:
        """``engine`` was chosen by a selection: its variant is the top step."""
        self._engine = engine
        self._before = Counted(0.0, 0, 0)
        stepper = Stepper(engine.selection, self._config.stepping, engine.variant.id)
        forced = self._config.selection.variant is not None
        self._stepper = None if forced or len(stepper.steps) < 2 else stepper

    def observe(self, now: float, counted: Counted) -> None:
        """What was seen; starts to make another variant's engine when that is called for."""
        before, self._before = self._before, counted
        if self._stepper is None or self._thread is not None:
            return
        answers = max(0, counted.answers - before.answers)
        misses = max(0, counted.misses - before.misses)
        wanted = self._stepper.observe(now, counted.p99_us, misses, answers, bool(self._throttled()))
        if wanted is not None:
            log.info("stepping to variant %s", wanted)
            self._thread = threading.Thread(target=self._make, args=(wanted,), name="stepping", daemon=True)
            self._thread.start()

    def take(self) -> Engine | None:
        """The engine to swap in, if one is ready; call :meth:`swapped` when it runs."""
        if self._made.empty():
            return None
        variant, engine, error = self._made.get()
        self._thread = None
        current = self._engine
        if engine is None:
            log.warning("variant %s cannot be stepped to: %s", variant, error)
            if self._stepper is not None:
                self._stepper.failed(variant)
            return None
        same = current is not None and current.manifest.version == engine.manifest.version
        if not same or current is None or self._stepper is None or self._stepper.variant != variant:
            engine.close()  # an update or a selection came first
            return None
        engine.selection = [
            msgspec.structs.replace(
                row, chosen=row.variant == variant, why="stepped to" if row.variant == variant else ""
            )
            for row in current.selection
        ]
        return engine

    def swapped(self, engine: Engine) -> None:
        """``engine`` runs."""
        self._engine = engine
        self._before = Counted(0.0, 0, 0)

    def told(self, old: Engine, new: Engine) -> str:
        """The step, for people."""
        why = "the device cannot keep up" if self.down else "the device has kept up"
        return f"variant {new.variant.id} instead of {old.variant.id}: {why}"

    def stop(self) -> None:
        """End; an engine that is being made is left behind."""
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)
        while not self._made.empty():
            engine = self._made.get()[1]
            if engine is not None:
                engine.close()

    def _make(self, variant: str) -> None:
        try:
            engine = self._load(variant)
        except Exception as error:  # the runtime may raise anything; what runs keeps running
            self._made.put((variant, None, str(error)))
        else:
            self._made.put((variant, engine, ""))
