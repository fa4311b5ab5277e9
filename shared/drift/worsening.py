"""A sequential test of one question: is it worse than it was on held-out data? With the promise of the drift detector.

Events come one by one: an answer was right or wrong, so far off, or there was none. Each falls into one of K bins that
ascend from good to bad; every bet gains on the bad ones only, so that getting better is no news, and neither is to fall
back to what is usual: an urn that has seen better times than the reference expects the reference's. Urn beside plug-in,
added up by Shiryaev-Roberts, as :mod:`shared.drift.evidence` says:

1. While events are exchangeable with the reference's, the mean number of events to an alarm is at least
   ``false_alarm_every`` = A, and P(alarm within T events) <= T / A (+ η for the plug-in, which has a sixteenth of
   weight). The plug-in keeps that for every stream that is not worse than the reference given its past.
2. How events are cut into blocks changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike

from shared.drift.bets import NOVELTY, NOVELTY_WEIGHT, SCORE_LIMIT, SHIFTS
from shared.drift.bins import Column, Floats
from shared.drift.evidence import URN_WEIGHT, accumulate, log_sum, risk_of, share_normaliser, value_normaliser
from shared.drift.status import ratio
from shared.errors import ProfileError

STEPS = (0.25, 0.5, 1.0, 2.0, 3.0)
"""Log-bets on the share of bad events: the odds that they are made for."""
BLOCK = 1024


class Kept(Struct):
    """A test's state: what was seen in each bin, log R of each bet (None: nothing), and whether A was reached."""

    seen: list[float]
    log_r: list[float | None]
    reached: bool


class Worsening:
    """Made by :meth:`of_share` or :meth:`of_values`.

    ``reached``: whether the evidence was at A at any event of the last block that was taken in.
    """

    def __init__(self, bets: Floats, weights: Floats, start: Floats, log_z: Floats, false_alarm_every: float) -> None:
        """``bets`` (M, K) logs, ``weights`` (M,) that sum to at most 1, ``start`` (K,) of the urn, ``log_z`` (M,)."""
        self._bets, self._exp, self._start = bets, np.exp(bets), start
        self._usual = (self._exp @ start) / start.sum()
        self._plug = bets - log_z[:, None]
        self._weights = np.log(np.concatenate((URN_WEIGHT * weights, (1 - URN_WEIGHT) * weights)))
        self._log_a = math.log(false_alarm_every)
        self._seen: Floats = np.zeros(len(start))
        self._log_r: Floats = np.full(len(self._weights), -np.inf)
        self.reached = False

    @classmethod
    def of_share(cls, bad: int, events: int, false_alarm_every: float) -> Self:
        """Of events that are good (bin 0) or bad (bin 1); ``bad`` of the reference's ``events`` were."""
        steps = np.array(STEPS)
        risk = risk_of(events, 1) / len(steps)
        log_z = np.array([share_normaliser(bad / events, events, step, 0.0, risk) for step in STEPS])
        bets = np.stack((np.zeros_like(steps), steps), axis=1)
        weights = np.full(len(steps), 1 / len(steps))
        # one more bad event than was seen: two atoms have no rank gaps that would make the urn exact
        return cls(bets, weights, np.array([events - bad, bad + 1.0]), log_z, false_alarm_every)

    @classmethod
    def of_values(cls, column: Column, false_alarm_every: float) -> Self:
        """Of numbers of which large ones are bad, in the bins of ``column``."""
        z = np.clip(column.scores, -SCORE_LIMIT, SCORE_LIMIT)
        novelty = np.zeros_like(z)
        novelty[-1] = NOVELTY
        bets = np.array([*(shift * z for shift in SHIFTS), novelty])
        weights = np.array([*((1 - NOVELTY_WEIGHT) / len(SHIFTS) for _ in SHIFTS), NOVELTY_WEIGHT])
        log_z = value_normaliser(column, bets, 0.0, risk_of(column.present, 1))
        return cls(bets, weights, column.gaps, log_z, false_alarm_every)

    def feed(self, bins: ArrayLike) -> bool:
        """Take in events (n,), by bin, in their order. Whether the evidence reached A at one of them."""
        events = np.asarray(bins, dtype=np.intp)
        self.reached = False
        for at in range(0, len(events), BLOCK):
            self._take_in(events[at : at + BLOCK])
        return self.reached

    def _take_in(self, events: np.ndarray[tuple[int], np.dtype[np.intp]]) -> None:
        hit = np.zeros((len(events) + 1, len(self._start)))
        hit[np.arange(1, len(events) + 1), events] = 1
        hit[0] = self._start + self._seen
        urn = np.cumsum(hit, axis=0)
        self._seen = urn[-1] - self._start
        expected = np.maximum((urn[:-1] @ self._exp.T) / urn[:-1].sum(1)[:, None], self._usual)
        log_e = np.concatenate((self._bets.T[events] - np.log(expected), self._plug.T[events]), axis=1)
        log_r = accumulate(self._log_r[None], log_e[None], 0.0)[0]
        self._log_r = log_r[-1]
        self.reached |= bool((log_sum(log_r + self._weights, axis=1) >= self._log_a).any())

    def rest(self, count: int) -> None:
        """``count`` good events at once, for next to nothing. What evidence there was is given up, which only keeps
        the promise better."""
        self.forget(keep=True)
        self._seen[0] += count

    @property
    def evidence(self) -> float:
        """U / A; 1.0 is the alarm."""
        return ratio(float(log_sum(self._log_r + self._weights, axis=0)) - self._log_a)

    def forget(self, *, keep: bool) -> None:
        """No evidence; ``keep``: what was seen stays in the urn."""
        self._log_r = np.full(len(self._weights), -np.inf)
        self.reached = False
        if not keep:
            self._seen = np.zeros(len(self._start))

    def save(self) -> Kept:
        """For :meth:`load`."""
        log_r = [value if math.isfinite(value) else None for value in self._log_r.tolist()]
        return Kept(self._seen.tolist(), log_r, self.reached)

    def load(self, kept: Kept) -> None:
        """Go on.

        Raises:
            ProfileError: another number of bins or bets, or what no stream could have left.
        """
        seen = np.array(kept.seen, dtype=np.float64)
        log_r = _plain(kept.log_r)
        if seen.shape != self._start.shape or log_r.shape != self._weights.shape or not (seen >= 0).all():
            raise ProfileError("saved performance is of another reference")
        if np.isnan(log_r).any() or not np.isfinite(seen).all():
            raise ProfileError("saved performance is damaged")
        self._seen, self._log_r, self.reached = seen, log_r, kept.reached


def _plain(values: Sequence[float | None]) -> Floats:
    return np.array([-math.inf if value is None else value for value in values], dtype=np.float64)
