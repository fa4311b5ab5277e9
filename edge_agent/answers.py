"""What an engine gives, and its memory of what it gave: truth about an answer often comes much later."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.messages import TruthLabel

REMEMBERED = 4096
"""Answers whose truth may still come, and truths that wait to be sent, unless the user says otherwise."""
NO_SCORES: NDArray[np.float32] = np.empty(0, np.float32)
NO_SCORES.flags.writeable = False


class Answer(Struct, frozen=True, eq=False):
    """What the model says about one sample.

    A classifier's ``score`` is the probability of ``label``; ``scores`` (classes,) float32 those of all classes. Other
    tasks have ``label`` "", ``score`` NaN and ``scores`` (0,) unless their pipeline sets them; what they say is
    ``value``: a number, a list of boxes, a forecast (horizon,), a ranked list. ``outputs`` has every field that the
    pipeline gave, the model's own outputs among them. ``latency_us`` is the time inside ``infer``, for a batch the
    batch's time over its size.
    """

    id: str
    label: str
    score: float
    scores: NDArray[np.float32]
    outputs: dict[str, Any]
    latency_us: float
    value: Any = None


def answer_of(id: str, row: dict[str, Any], score: float, latency_us: float) -> Answer:  # noqa: A002  (the field's name)
    """The answer that a row of the pipeline's fields makes."""
    get = row.get
    return Answer(id, get("label", ""), score, get("scores", NO_SCORES), row, latency_us, get("value"))


class Memory:
    """The latest ``size`` answers by id, and the truths that were told about any. Any thread may call any method.

    ``add`` takes (id, what was answered: its label, or its number where the task has no labels). It only puts the pair
    into a line, since most answers are never asked about; the line is sorted by id when one is.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._line: deque[tuple[str, Any]] = deque(maxlen=max(size, 0))
        self.add: Callable[[tuple[str, Any]], None] = self._line.append
        self._sorting = threading.Lock()
        self._order: deque[str] = deque()
        self._said: dict[str, Any] = {}
        self._repeats: dict[str, int] = {}  # of an id in the order, beyond its latest
        self._judged: set[str] = set()
        self._truths: deque[TruthLabel] = deque(maxlen=max(size, 1))

    def _sort(self) -> None:
        """The line into the dict; the caller holds ``_sorting``."""
        for _ in range(len(self._line)):  # others may add meanwhile; nobody else takes
            self._enter(*self._line.popleft())

    def _enter(self, id: str, said: Any) -> None:  # noqa: A002  (the field's name)
        if id in self._said:  # the source repeats its ids: what counts is the latest answer
            self._repeats[id] = self._repeats.get(id, 0) + 1
            self._judged.discard(id)
        self._said[id] = said
        order = self._order
        order.append(id)
        if len(order) > self._size:
            oldest = order.popleft()
            if self._repeats and oldest in self._repeats:
                self._forget_one(oldest)
            else:
                self._said.pop(oldest, None)
                self._judged.discard(oldest)

    def _forget_one(self, id: str) -> None:  # noqa: A002  (the field's name)
        self._repeats[id] -= 1
        if not self._repeats[id]:
            del self._repeats[id]

    def said(self, id: str) -> Any:  # noqa: A002  (the field's name)
        """What was answered, or ``None`` when that is too long ago or was never asked."""
        with self._sorting:
            self._sort()
            return self._said.get(id)

    def first_truth(self, id: str) -> bool:  # noqa: A002  (the field's name)
        """Whether no truth about this answer was counted yet; from now on one was."""
        with self._sorting:
            first = id not in self._judged
            if id in self._said:
                self._judged.add(id)
            return first

    def told(self, truth: TruthLabel) -> None:
        """Keep a truth until it is taken."""
        self._truths.append(truth)

    def take(self) -> list[TruthLabel]:
        """The truths since the last call, oldest first."""
        taken = []
        while self._truths:
            taken.append(self._truths.popleft())
        return taken
