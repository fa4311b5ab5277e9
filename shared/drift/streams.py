"""The moving part of one stream's evidence: what each bet has gathered, and what each urn holds.

Three things make it cheap. All windows of a block are weighed at once. R <- (R + π) e is computed on plain numbers,
each bet's relative to where it stood, and in logs only where plain numbers would not do. Tracks that nothing tells
apart, as the missing flags of a stream in which nothing is missing, are computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shared.drift.bins import VALUE, Floats
from shared.drift.evidence import accumulate, log_gamma, log_sum, urn_law
from shared.drift.tracks import FLAG, Group

PIECE = 256
"""Samples whose windows are added up together where a whole block leaves the limits below: no bet gains more than 3 a
sample, so that most pieces stay within them."""
MOST, LEAST, LEAST_SUM = 1e250, 1e-250, 1e-50
"""Between these a sum of plain numbers is as good as one of logs: what underflows is below 1e-20 of it."""

Piece = tuple[Floats, Callable[[int], Floats]]
"""Log of the weighted sum of all bets after each window, and log R of all bets after one of them."""


class _Lane:
    """One group: its urn (R, K), for the tracks that are computed, which stand for all of its."""

    def __init__(self, group: Group) -> None:
        self.all = group
        self.use(group, np.arange(len(group.tracks)))
        self.urn = group.gaps.copy()

    def use(self, group: Group, of: NDArray[np.intp]) -> None:
        """Compute the tracks of ``group``; ``of`` (T,) says which stands for each track."""
        self.group, self.of = group, of
        self.own_weights = group.detector_weights()
        self.weights = self.own_weights + np.log(np.bincount(of)).repeat(group.rows_each)[:, None]
        bets = np.concatenate((group.urn_bets, group.plug_bets), axis=1) if group.urn else group.plug_bets
        self.bets = np.ascontiguousarray(bets.transpose(0, 2, 1))
        self.urn_exp = np.ascontiguousarray(group.urn_exp.transpose(0, 2, 1))

    def rows(self) -> NDArray[np.intp]:
        """The computed row that stands for each row."""
        return self.group.rows_of(self.of)

    def load(self, log_r: Floats, urn: Floats) -> Floats:
        """Go on from the urn of all rows, and from what they have gathered; log R of those that are computed."""
        group = self.all
        if group.kind != FLAG:
            self.urn = urn.copy()
            return log_r
        parts = (log_r, urn, group.gaps, group.plug_bets, group.urn_bets, group.detector_weights())
        table = np.concatenate([part.reshape(len(group.tracks), -1) for part in parts], axis=1)
        _, first, of = np.unique(table, axis=0, return_index=True, return_inverse=True)
        self.use(group.only(first), of.reshape(-1))
        rows = group.rows_of(first)
        self.urn = urn[rows]
        return log_r[rows]

    def log_e(self, counts: Floats) -> Floats:
        """Log e (W, R * B) of windows ``counts`` (all tracks, W, bins) that follow each other; the urn takes them
        in."""
        windows = self.group.windows(counts)
        found = self._of_values(windows) if self.group.kind == VALUE else self._of_shares(windows)
        return found.transpose(1, 0, 2).reshape(found.shape[1], -1)

    def _of_values(self, windows: Floats) -> Floats:
        group = self.group
        found: Floats = windows @ self.bets
        if group.urn:
            law = urn_law(self.urn, group.total + (self.urn - group.gaps).sum(1), windows)
            tilted = np.log(law.before @ self.urn_exp)
            tilted *= law.size[..., None]
            tilted -= law.base[..., None]
            found[:, :, : tilted.shape[2]] -= tilted
            self.urn = law.after.copy()  # not a view that keeps the whole block
        return found

    def _of_shares(self, windows: Floats) -> Floats:
        """The same for rows of one bet on one of two bins, without matrices."""
        hits, rest = windows[:, :, 0], windows[:, :, 1]
        plug = hits * self.bets[:, 0, -1:] + rest * self.bets[:, 1, -1:]
        if not self.group.urn:
            return plug[..., None]
        parts = np.empty((3, hits.shape[0], hits.shape[1] + 1))
        parts[:2, :, 0] = self.urn.T
        parts[0, :, 1:], parts[1, :, 1:] = hits, rest
        np.cumsum(parts[:2], axis=2, out=parts[:2])
        np.add(parts[0], parts[1], out=parts[2])
        logs = np.log(parts)
        lengths = log_gamma(parts, logs)
        lengths = lengths[:, :, 1:] - lengths[:, :, :-1]
        tilted = np.log(parts[0, :, :-1] * self.urn_exp[:, 0] + parts[1, :, :-1])
        urn = hits * (self.bets[:, 0, :1] + logs[0, :, :-1]) + rest * logs[1, :, :-1]
        urn += lengths[2] - lengths[0] - lengths[1] - (hits + rest) * tilted
        self.urn = parts[:2, :, -1].T.copy()
        found = np.empty((*urn.shape, 2))
        found[..., 0], found[..., 1] = urn, plug
        return found


def _log(x: Floats) -> Floats:
    """Log of numbers from 0 on: what is too small for a number has gathered nothing."""
    with np.errstate(divide="ignore"):
        found: Floats = np.log(x)
    return found


class Evidence:
    """All groups of one stream, in windows of ``window`` samples."""

    def __init__(self, groups: Sequence[Group], window: int) -> None:
        self._lanes = [_Lane(group) for group in groups]
        self._window = window
        self._piece = max(1, PIECE // window)
        self._log_r = self._weights = np.empty(0)
        self.forget(urns=True)

    def advance(self, counts: Floats) -> list[Piece]:
        """Take in ``counts`` (all tracks, W, bins) of windows that follow each other."""
        for lane in self._lanes:
            if len(lane.of) != len(lane.group.tracks) and counts[lane.all.tracks, :, 1].any():
                self._tell_apart()
                break
        log_e = np.concatenate([lane.log_e(counts) for lane in self._lanes], axis=1)
        whole = self._plain(log_e)
        if whole is not None:
            return [whole]
        step = self._piece
        return [self._some(log_e[at : at + step]) for at in range(0, len(log_e), step)]

    def _some(self, log_e: Floats) -> Piece:
        return self._plain(log_e) or self._in_logs(log_e)

    def _plain(self, log_e: Floats) -> Piece | None:
        """On plain numbers, each bet's relative to where it stood; None where one leaves their range."""
        start = np.maximum(self._log_r, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            e = np.exp(log_e)
            r, time, sums = np.exp(self._log_r - start), self._window * np.exp(-start), np.empty_like(start)
            for row in e:  # R <- (R + π) e, in place
                np.add(r, time, out=sums)
                r = np.multiply(sums, row, out=row)
            weights = start + self._weights
            top = weights.max()
            total = e @ np.exp(weights - top)
        if not (e.max() < MOST and r.min() > LEAST and total.min() > LEAST_SUM):
            return None
        self._log_r = np.log(r) + start
        return np.log(total) + top, lambda window: _log(e[window]) + start

    def _in_logs(self, log_e: Floats) -> Piece:
        log_r = accumulate(self._log_r[None], log_e[None], math.log(self._window))[0]
        self._log_r = log_r[-1]
        return log_sum(log_r + self._weights, axis=1), lambda window: log_r[window]

    def _split(self, log_r: Floats) -> list[Floats]:
        found, at = [], 0
        for lane in self._lanes:
            shape = lane.weights.shape
            found.append(log_r[at : (at := at + lane.weights.size)].reshape(shape))
        return found

    def _join(self, parts: Sequence[Floats]) -> None:
        self._log_r = np.concatenate([part.ravel() for part in parts])
        self._weights = np.concatenate([lane.weights.ravel() for lane in self._lanes])

    def _tell_apart(self) -> None:
        """Compute every track."""
        parts = []
        for lane, (log_r, urn) in zip(self._lanes, self.state(), strict=True):
            lane.use(lane.all, np.arange(len(lane.of)))
            lane.urn = urn
            parts.append(log_r)
        self._join(parts)

    def by_track(self, log_r: Floats | None = None) -> Floats:
        """What each track has gathered (tracks,), now or given a piece's log R."""
        found = np.empty(sum(len(lane.of) for lane in self._lanes))
        for lane, part in zip(self._lanes, self._split(self._log_r if log_r is None else log_r), strict=True):
            found[lane.all.tracks] = lane.group.by_track(log_sum(part + lane.own_weights, axis=1))[lane.of]
        return found

    def state(self) -> list[tuple[Floats, Floats]]:
        """Log R (R, B) and urn (R, K) of each group, all rows."""
        return [
            (part[lane.rows()], lane.urn[lane.rows()])
            for lane, part in zip(self._lanes, self._split(self._log_r), strict=True)
        ]

    def replace_log_r(self, change: Callable[[Floats], Floats]) -> None:
        """Put another log R in the place of each bet's."""
        self._log_r = change(self._log_r)

    def load(self, state: Sequence[tuple[Floats, Floats]]) -> bool:
        """Go on from what :meth:`state` gave; False, and nothing changed, if that can't be."""
        for lane, (log_r, urn) in zip(self._lanes, state, strict=True):
            grown = urn - lane.all.gaps
            if not (grown >= 0).all() or (grown % 1 != 0).any() or np.isnan(log_r).any():
                return False
        self._join([lane.load(log_r, urn) for lane, (log_r, urn) in zip(self._lanes, state, strict=True)])
        return True

    def carry(self, other: Evidence, tracks: Mapping[int, int]) -> list[int]:
        """Go on, for ``tracks`` (here -> there), with what ``other`` has gathered and seen. Gives those that could be
        taken over: the groups of a kind must have as many bets here as there."""
        taken: list[int] = []
        mine, theirs = self.state(), other.state()
        there = {lane.all.kind: (lane.all, *part) for lane, part in zip(other._lanes, theirs, strict=True)}
        for lane, (log_r, urn) in zip(self._lanes, mine, strict=True):
            if lane.all.kind not in there:
                continue
            group, its_r, its_urn = there[lane.all.kind]
            at = {int(track): k for k, track in enumerate(group.tracks)}
            pairs = [(k, at[tracks[t]]) for k, t in enumerate(map(int, lane.all.tracks)) if tracks.get(t) in at]
            if not pairs or its_r.shape[1] != log_r.shape[1] or group.rows_each != lane.all.rows_each:
                continue
            here, from_ = (np.array(part, dtype=np.intp) for part in zip(*pairs, strict=True))
            rows, its_rows = lane.all.rows_of(here), group.rows_of(from_)
            log_r[rows] = its_r[its_rows]
            bins = min(urn.shape[1], its_urn.shape[1])  # beyond them there is only padding
            urn[rows, :bins] = its_urn[its_rows, :bins]
            taken += [int(lane.all.tracks[k]) for k in here]
        self.load(mine)
        return taken

    def forget(self, *, urns: bool) -> None:
        """Nothing gathered; ``urns``: nor seen."""
        self._join(
            [
                lane.load(
                    np.full(lane.all.detector_weights().shape, -np.inf),
                    lane.all.gaps if urns else lane.urn[lane.rows()],
                )
                for lane in self._lanes
            ]
        )
