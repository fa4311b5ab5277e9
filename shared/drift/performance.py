"""How good a variant was on held-out data, and whether the truths about its answers say that it has become worse.

A detector sees that inputs or answers have changed; whether the answers are wrong only truth can tell. Each truth is
one event for :mod:`shared.drift.worsening`, so the promise is counted in truths: right or wrong for classes, the
absolute error for numbers. Where the release does not say how good the variant was, there is a rate and no evidence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift.arrays import Arrays, take
from shared.drift.bins import LEAST_VALUES, Floats
from shared.drift.calibration import Calibration
from shared.drift.encode import Encoder
from shared.drift.profile import LEAST_ROWS, ReferenceProfile
from shared.drift.worsening import Kept, Worsening
from shared.errors import ProfileError
from shared.uniform import Uniform

PREFIX = "truth_"
"""Of the arrays' names: they lie beside those of a profile, which does not read them."""
MOST_ERRORS = 4096
RECENT = 256
"""Truths, or blocks of events, that the practical size of a change is of."""
DROP = 0.1
"""Accuracy lost, as a share of the policy's ``minimum_effect``, from which a change matters: 2 points at 0.2."""
GROWTH = 0.5
"""Growth of the mean absolute error, likewise: a tenth at 0.2."""
NOTHING: Floats = np.zeros(0)


class HeldOut(Struct, frozen=True, eq=False):
    """A variant on held-out data, never what it was trained on.

    ``right`` of ``answers`` were right (0 of 0 where it gives no classes); ``calibration`` of its confidence, where it
    has one; ``errors`` (n,) absolute errors, a sample of them where there were many, of a variant that gives numbers,
    and their ``mean_error``.
    """

    right: int = 0
    answers: int = 0
    calibration: Calibration | None = None
    errors: Floats = NOTHING
    mean_error: float = 0.0

    @classmethod
    def of_classes(cls, right: NDArray[np.bool_], confidence: NDArray[Any] | None) -> HeldOut:
        """Of answers (n,) that were ``right`` or not, with their ``confidence`` (n,) where they have one.

        Raises:
            ProfileError: not of one length, or confidences that are none.
        """
        truth = np.asarray(right, dtype=bool)
        calibration = None if confidence is None else Calibration.fit(confidence, truth)
        return cls(int(truth.sum()), len(truth), calibration)

    @classmethod
    def of_numbers(cls, errors: NDArray[Any]) -> HeldOut:
        """Of absolute ``errors`` (n,).

        Raises:
            ProfileError: not finite numbers from 0.
        """
        found = np.asarray(errors, dtype=np.float64)
        if found.ndim != 1 or not len(found) or not (np.isfinite(found) & (found >= 0)).all():
            raise ProfileError("absolute errors must be finite numbers from 0")
        kept = found
        if len(found) > MOST_ERRORS:
            kept = Uniform(0).some(found, MOST_ERRORS)
        return cls(errors=kept, mean_error=float(found.mean()))

    @property
    def accuracy(self) -> float | None:
        """Share of right answers; None where there were none."""
        return self.right / self.answers if self.answers else None

    @property
    def known(self) -> bool:
        """Whether it says anything."""
        return bool(self.answers or len(self.errors))

    def to_arrays(self) -> Arrays:
        """As arrays whose names begin with ``truth_``."""
        calibration = self.calibration or Calibration(NOTHING, NOTHING)
        return {
            f"{PREFIX}answers": np.array([self.right, self.answers], dtype=np.int64),
            f"{PREFIX}confidence": calibration.confidence,
            f"{PREFIX}accuracy": calibration.accuracy,
            f"{PREFIX}errors": self.errors,
            f"{PREFIX}mean_error": np.array([self.mean_error]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> HeldOut | None:
        """What :meth:`to_arrays` took apart; None where there is nothing of it.

        Raises:
            ProfileError: arrays are missing or malformed.
        """
        if not any(name.startswith(PREFIX) for name in arrays):
            return None
        counts = take(arrays, f"{PREFIX}answers", "i").tolist()
        confidence, accuracy, errors, mean = (
            take(arrays, PREFIX + name, "f").astype(np.float64)
            for name in ("confidence", "accuracy", "errors", "mean_error")
        )
        calibration = Calibration(confidence, accuracy) if len(confidence) or len(accuracy) else None
        wrong = (
            len(counts) != 2
            or not 0 <= counts[0] <= counts[1]
            or len(mean) != 1
            or not (np.isfinite(errors) & (errors >= 0)).all()
            or not (np.isfinite(mean) & (mean >= 0)).all()
            or (calibration is not None and not calibration.valid())
        )
        if wrong:
            raise ProfileError("drift profile: how good the variant was on held-out data is malformed")
        return cls(counts[0], counts[1], calibration, errors, float(mean[0]))


class KeptTruths(Struct):
    """Truths as they are saved."""

    count: int = 0
    right: int = 0
    numbers: int = 0
    absolute_error: float = 0.0
    recent: list[float] = []
    alarm: bool = False
    test: Kept | None = None


class Truths:
    """Truths about one variant's answers. Its owner sees to threads.

    ``alarm`` latches: the evidence has reached A, and the change is large enough to act on. ``feature``: what is
    worse.

    >>> good = HeldOut.of_classes(np.arange(1000) % 20 != 0, None)
    >>> truths = Truths(good, false_alarm_every=10_000)
    >>> truths.add([True] * 95 + [False] * 5), truths.add([False] * 60)
    (False, True)
    """

    def __init__(self, held_out: HeldOut | None, false_alarm_every: float, minimum_effect: float = 0.2) -> None:
        self._held_out = held_out or HeldOut()
        self._minimum = minimum_effect
        self._test, self._encoder = _test(self._held_out, false_alarm_every)
        self._rng = Uniform.fresh()  # breaks ties
        self.feature = "absolute_error" if len(self._held_out.errors) else "accuracy"
        self.alarm = False
        self._recent: deque[float] = deque(maxlen=RECENT)
        self.begin()

    def begin(self) -> None:
        """Start a report window."""
        self._count = self._right = self._numbers = 0
        self._absolute_error = 0.0

    def add(self, truths: Sequence[bool | float]) -> bool:
        """Truths in the order in which they came: whether an answer was right, or how far off its number was. Whether
        there is an alarm."""
        kinds = [isinstance(truth, bool) for truth in truths]
        found = np.array(truths, dtype=np.float64)
        classes, numbers = found[kinds], found[np.logical_not(kinds)]
        self._count += len(classes)
        self._right += int(classes.sum())
        self._numbers += len(numbers)
        self._absolute_error += float(numbers.sum())
        own = numbers if self._encoder is not None else classes
        if self._test is None or not len(own):
            return self.alarm
        self._recent.extend(own.tolist())
        events = 1 - own if self._encoder is None else self._encoder.codes(own[:, None], self._rng)[0]
        if self._test.feed(events) and self._matters():
            self.alarm = True
        return self.alarm

    def _matters(self) -> bool:
        recent = sum(self._recent) / len(self._recent)
        if self._encoder is not None:
            return recent >= self._held_out.mean_error * (1 + GROWTH * self._minimum)
        return (self._held_out.accuracy or 0.0) - recent >= DROP * self._minimum

    def figures(self) -> dict[str, Any]:
        """Fields of a monitor's report, of this window but for the evidence."""
        return {
            "truths": self._count + self._numbers,
            "accuracy": self._right / self._count if self._count else None,
            "absolute_error": self._absolute_error / self._numbers if self._numbers else None,
            "truth_evidence": self._test.evidence if self._test is not None else 0.0,
            "reference_accuracy": self._held_out.accuracy,
            "reference_error": self._held_out.mean_error if len(self._held_out.errors) else None,
        }

    def acknowledge(self, *, keep: bool) -> None:
        """End an alarm; not ``keep``: as on the first day."""
        self.alarm = False
        if self._test is not None:
            self._test.forget(keep=keep)
        if not keep:
            self._recent.clear()

    def save(self) -> KeptTruths:
        """For :meth:`load`."""
        return KeptTruths(
            self._count,
            self._right,
            self._numbers,
            self._absolute_error,
            list(self._recent),
            self.alarm,
            self._test.save() if self._test is not None else None,
        )

    def load(self, kept: KeptTruths) -> None:
        """Go on.

        Raises:
            ProfileError: saved with another reference; nothing has changed.
        """
        if (kept.test is None) != (self._test is None):
            raise ProfileError("saved performance is of another reference")
        if self._test is not None and kept.test is not None:
            self._test.load(kept.test)
        self._count, self._right, self._numbers = kept.count, kept.right, kept.numbers
        self._absolute_error, self.alarm = kept.absolute_error, kept.alarm
        self._recent.clear()
        self._recent.extend(kept.recent)


def _test(held_out: HeldOut, false_alarm_every: float) -> tuple[Worsening | None, Encoder | None]:
    """What weighs truths, and what bins them where they are numbers; nothing where too little is known."""
    if len(held_out.errors) >= LEAST_ROWS:
        profile = ReferenceProfile.fit(held_out.errors, ["absolute_error"])
        return Worsening.of_values(profile.columns[0], false_alarm_every), Encoder(profile)
    if held_out.answers >= LEAST_ROWS and held_out.right >= LEAST_VALUES:
        wrong = held_out.answers - held_out.right
        return Worsening.of_share(wrong, held_out.answers, false_alarm_every), None
    return None, None
