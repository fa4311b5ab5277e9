"""An engine whose answers are heard by somebody else too: the agent's sinks get what was asked over HTTP."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edge_agent.engine import Answer, Engine

HELD_BYTES = 8 << 20
HELD = (16, 4096)
"""Answers that wait for the main loop, at least and at most."""


class Tap:
    """Stands for ``engine`` in another thread; :meth:`heard` gives what was answered there since the last call. What
    the main loop is too slow for is counted in ``lost``."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.lost = 0
        self._heard: deque[tuple[Any, Answer]] = deque(maxlen=_room(engine))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def infer(self, sample: Any, id: str | None = None) -> Answer:  # noqa: A002  (the field's name)
        """As :meth:`Engine.infer`."""
        answer = self.engine.infer(sample, id)
        self._keep(sample, answer)
        return answer

    def infer_batch(self, samples: Any, ids: Sequence[str] | None = None) -> list[Answer]:
        """As :meth:`Engine.infer_batch`."""
        answers = self.engine.infer_batch(samples, ids)
        for i, answer in enumerate(answers):
            sample = {name: column[i] for name, column in samples.items()} if isinstance(samples, dict) else samples[i]
            self._keep(sample, answer)
        return answers

    def heard(self) -> Iterator[tuple[Any, Answer]]:
        """Sample and answer, oldest first."""
        while self._heard:
            yield self._heard.popleft()

    def _keep(self, sample: Any, answer: Answer) -> None:
        if len(self._heard) == self._heard.maxlen:
            self.lost += 1
        self._heard.append((sample, answer))


def _room(engine: Engine) -> int:
    least, most = HELD
    if not all(spec.fixed for spec in engine.signature):
        return 64
    each = sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in engine.signature)
    return max(least, min(most, HELD_BYTES // max(1, each)))
