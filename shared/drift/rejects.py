"""Samples that got no answer (another shape, no numbers, a model that failed): their share, against the reference's."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift.worsening import Kept, Worsening

RECENT = 512
"""The practical size of a change is of the last 512 to 1,024 samples, or a block more."""
SHARE = 0.1
"""Share of samples without an answer, of the policy's ``minimum_effect``, from which it matters: 2 % at 0.2."""
CLEAN = 4096
"""After as many samples without a reject the evidence, of which hardly anything is left, is given up, and samples are
only counted until the next one comes."""


_NONE = (0, 0), (0, 0)


class KeptRejects(Struct):
    """Rejects as they are saved."""

    test: Kept
    recent: tuple[tuple[int, int], tuple[int, int]]
    clean: int
    alarm: bool


class Rejects:
    """Samples of one stream, answered or not, in their order. Its owner sees to threads. ``alarm`` latches.

    >>> rejects = Rejects(0, 1000, false_alarm_every=10_000)
    >>> rejects.add(np.zeros(1000, bool)), rejects.add(np.arange(300) % 3 == 0)
    (False, True)
    """

    def __init__(self, rejected: int, samples: int, false_alarm_every: float, minimum_effect: float = 0.2) -> None:
        """``rejected`` of the reference's ``samples`` got no answer."""
        self._test = Worsening.of_share(rejected, samples, false_alarm_every)
        self._usual = rejected / samples
        self._minimum = SHARE * minimum_effect
        self._recent = _NONE
        self._clean = CLEAN
        self.alarm = False

    def add(self, rejected: NDArray[np.bool_] | int) -> bool:
        """Samples in their order: whether each was rejected (n,), or the number of those that all were answered.
        Whether there is an alarm."""
        count, bad = (rejected, 0) if isinstance(rejected, int) else (len(rejected), int(rejected.sum()))
        older, newer = self._recent
        if newer[0] >= RECENT:
            older, newer = newer, (0, 0)
        self._recent = older, (newer[0] + count, newer[1] + bad)
        if not bad and self._clean >= CLEAN:
            self._test.rest(count)
        elif self._test.feed(rejected if not isinstance(rejected, int) else np.zeros(count, np.intp)):
            self.alarm = self.alarm or self._matters()
        self._clean = 0 if bad else self._clean + count
        return self.alarm

    def _matters(self) -> bool:
        (samples, bad), (more, others) = self._recent
        return (bad + others) / (samples + more) - self._usual >= self._minimum

    @property
    def evidence(self) -> float:
        """U / A; 1.0 is the alarm."""
        return self._test.evidence

    def acknowledge(self, *, keep: bool) -> None:
        """End an alarm; not ``keep``: as on the first day."""
        self.alarm = False
        self._test.forget(keep=keep)
        if not keep:
            self._recent = _NONE
            self._clean = CLEAN

    def save(self) -> KeptRejects:
        """For :meth:`load`."""
        return KeptRejects(self._test.save(), self._recent, self._clean, self.alarm)

    def load(self, kept: KeptRejects) -> None:
        """Go on.

        Raises:
            ProfileError: damaged.
        """
        self._test.load(kept.test)
        self._recent, self._clean, self.alarm = kept.recent, kept.clean, kept.alarm
