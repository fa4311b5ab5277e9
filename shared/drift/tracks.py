"""A profile's tracks in three groups of one shape each (values, categories, missing flags), stacked and padded, so
that a window over all tracks is a handful of array operations.

A value track is one *row*: many bets over its bins. A category or flag track is a row for each bet, of two bins, that
bet's bin and the rest: each bet has an urn of its own that leans against it (one more in the bin for a bet that it
grows, one more in the rest for a bet that it shrinks), because two atoms have no rank gaps that would make one urn
exact. Computed exactly (shares 0.0005 to 0.99, references of 50 to 2,000, windows up to 320): no bet's mean e-value
is above 1. A bet whose losing side was seen fewer than eight times is idle, since it could only gather by doing
nothing, and its weight is given up, not shared out, since what is idle depends on the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from shared.drift.bets import SHAPES, SHIFTS, SLOW_SHIFTS, category_bets, flag_bets, residual_shifts, value_bets
from shared.drift.bins import CATEGORY, VALUE, Floats
from shared.drift.evidence import URN_WEIGHT, risk_of, share_normaliser, urn_log_e, value_normaliser
from shared.drift.profile import ReferenceProfile
from shared.errors import ProfileError

FLAG = "missing"
LEAST_SEEN = 8


class Tolerance(Struct, frozen=True):
    """What movement is nobody's business.

    ``delta``: every value may move by this many robust sigmas. ``replaced``: this share of a category track's
    answers, or of a missing flag's, may be others. The null hypothesis is then a set of laws, for which there is no
    urn.
    """

    delta: float = 0.0
    replaced: float = 0.0

    def share(self, kind: str) -> float:
        """Share of the answers of a track of ``kind`` that may be others.

        What follows from values that may move moves too: a decision at any threshold of a normal value that moves by
        δ changes in up to 2 Φ(δ/2) - 1 of all cases. Categories get at least that (0.20 at δ = 0.5), missing flags do
        not.
        """
        implied = 2 * NormalDist().cdf(self.delta / 2) - 1 if kind == CATEGORY else 0.0
        return max(self.replaced, implied)

    def check(self) -> Tolerance:
        """Itself, if its numbers are possible.

        Raises:
            ProfileError: they are not.
        """
        if not 0 <= self.delta < float("inf"):
            raise ProfileError(f"tolerance must be a finite number of robust sigmas >= 0, got {self.delta}")
        if not 0 <= self.replaced < 1:
            raise ProfileError(f"replaced must be a share from 0 to below 1, got {self.replaced}")
        return self

    def urn(self, kind: str) -> bool:
        """Whether tracks of ``kind`` may use the urn.

        Without any tolerance all do. With ``replaced`` alone, values still do. With ``delta`` none does: the stream
        is then only promised to stay in a band *given its past*, and an urn would call any wandering a change.
        """
        return self.delta == 0 and (kind == VALUE or self.replaced == 0)


class Group(Struct, frozen=True):
    """T tracks of one kind, in R rows (R a multiple of T), M urn bets and P plug-in bets over K bins.

    ``tracks`` (T,) indices in the profile's layout. ``bins`` (R,) the bin that each row bets on; None for value
    tracks, whose rows have all bins. ``gaps`` (R, K) urn at the start, 1 in padded bins, and ``total`` (R,) its sums
    without them. ``urn_bets``, ``urn_exp`` (R, M, K) and ``slow_bets``, ``slow_exp`` (R, P, K): log-bets and their
    exponentials, 0 in padded bins. ``plug_bets`` (R, P, K): slow bets less their normaliser. ``urn_weights`` (R, M),
    ``slow_weights`` (R, P): logs, each summing to at most the track's weight over all its bets. ``shares`` (R, 2):
    logs of how much of it urn and plug-in have; a track with a band of its own has no urn.
    """

    kind: str
    tracks: NDArray[np.intp]
    bins: NDArray[np.intp] | None
    gaps: Floats
    total: Floats
    urn: bool
    urn_bets: Floats
    urn_exp: Floats
    slow_bets: Floats
    slow_exp: Floats
    plug_bets: Floats
    urn_weights: Floats
    slow_weights: Floats
    shares: Floats

    @property
    def rows_each(self) -> int:
        """Rows of one track."""
        return len(self.gaps) // len(self.tracks)

    def rows_of(self, tracks: NDArray[np.intp]) -> NDArray[np.intp]:
        """The rows of ``tracks``, which are counted within the group."""
        each = self.rows_each
        return (tracks[:, None] * each + np.arange(each)).ravel()

    def only(self, tracks: NDArray[np.intp]) -> Group:
        """The group of some of its tracks, which are counted within the group."""
        rows = self.rows_of(tracks)
        of_rows = (
            *("gaps", "total", "urn_bets", "urn_exp", "slow_bets", "slow_exp"),
            *("plug_bets", "urn_weights", "slow_weights", "shares"),
        )
        picked = {field: getattr(self, field)[rows] for field in of_rows}
        bins = None if self.bins is None else self.bins[rows]
        return structs.replace(self, tracks=self.tracks[tracks], bins=bins, **picked)

    def windows(self, counts: Floats) -> Floats:
        """This group's counts (R, W, K) of ``counts`` (all tracks, W, bins)."""
        own = counts[self.tracks]
        if self.bins is None:
            return own[:, :, : self.gaps.shape[1]]
        rows = np.repeat(np.arange(len(self.tracks)), self.rows_each)
        found = np.empty((len(rows), own.shape[1], 2))
        found[:, :, 0] = hits = own[rows, :, self.bins]
        np.subtract(own.sum(-1)[rows], hits, out=found[:, :, 1])
        return found

    def by_track(self, rows: Floats) -> Floats:
        """Log sums (T, ...) of the rows (R, ...) of each track."""
        found: Floats = np.logaddexp.reduce(rows.reshape(len(self.tracks), -1, *rows.shape[1:]), axis=1)
        return found

    def log_e_urn(self, urn: Floats, windows: Floats, *, slow: bool = False) -> Floats:
        """Log e (R, W, M), or (R, W, P) of the slow bets, of windows that follow each other; ``urn`` (R, K) before
        the first."""
        bets, exp_bets = (self.slow_bets, self.slow_exp) if slow else (self.urn_bets, self.urn_exp)
        return urn_log_e(bets, exp_bets, urn, self.total + (urn - self.gaps).sum(1), windows)

    def log_e_plug(self, windows: Floats) -> Floats:
        """Log e (R, W, P) against the fixed reference."""
        found: Floats = windows @ self.plug_bets.transpose(0, 2, 1)
        return found

    def detector_weights(self) -> Floats:
        """Log weights (R, M + P), or (R, P) without the urn, of one stream's bets: urn beside plug-in."""
        if not self.urn:
            return self.slow_weights
        return np.concatenate((self.shares[:, :1] + self.urn_weights, self.shares[:, 1:] + self.slow_weights), axis=1)

    def pooled(self, urn: Floats, window: Floats, plug: Floats) -> Floats:
        """Log e (R, 1, P) of the sum ``window`` (R, 1, K) of several streams: the urn's, or where a track has none the
        product ``plug`` (R, 1, P) of each stream's."""
        return np.where(np.isneginf(self.shares[:, :1, None]), plug, self.log_e_urn(urn, window, slow=True))


def build_groups(
    profile: ReferenceProfile, tolerance: Tolerance, like: ReferenceProfile | None = None
) -> tuple[Group, ...]:
    """The groups of ``profile`` that have tracks.

    ``like``: another reference of the same scalars whose bets these are to line up with, row by row; a bet on a
    category that this one has no bin for is then idle.
    """
    scalars = len(profile.columns)
    values = list(profile.value_tracks)
    categories = [k for k in range(scalars) if profile.kinds[k] == CATEGORY]
    groups = [_share_group(profile, tolerance, FLAG, range(scalars, 2 * scalars), like)]
    if categories:
        groups.insert(0, _share_group(profile, tolerance, CATEGORY, categories, like))
    if values:
        groups.insert(0, _value_group(profile, tolerance, values))
    return tuple(groups)


def _value_group(profile: ReferenceProfile, tolerance: Tolerance, tracks: Sequence[int]) -> Group:
    columns = [profile.value_tracks[t] for t in tracks]
    width = max(len(column.gaps) for column in columns)
    shifts = [residual_shifts(profile.memory_of(t)) if profile.memory_of(t) else SHIFTS for t in tracks]
    fast = [value_bets(column.scores, steps) for column, steps in zip(columns, shifts, strict=True)]
    shapes = () if tolerance.urn(VALUE) else SHAPES  # once will do: beside an urn its bets have them
    slow = [value_bets(c.scores, (*SLOW_SHIFTS[:2], *steps), shapes) for c, steps in zip(columns, shifts, strict=True)]
    plug = []
    for t, column, (bets, _) in zip(tracks, columns, slow, strict=True):
        risk = risk_of(column.present, len(profile.layout.names))
        plug.append(bets - value_normaliser(column, bets, profile.reach(t, tolerance.delta), risk)[:, None])
    urn = tolerance.urn(VALUE)
    weight = profile.weights[tracks, None]
    return Group(
        kind=VALUE,
        tracks=np.array(tracks, dtype=np.intp),
        bins=None,
        gaps=np.array([_pad(column.gaps, width, 1.0) for column in columns]),
        total=np.array([column.gaps.sum() for column in columns]),
        urn=urn,
        urn_bets=np.array([_pad(bets, width) for bets, _ in fast]),
        urn_exp=np.array([_pad(np.exp(bets), width) for bets, _ in fast]),
        slow_bets=np.array([_pad(bets, width) for bets, _ in slow]),
        slow_exp=np.array([_pad(np.exp(bets), width) for bets, _ in slow]),
        plug_bets=np.array([_pad(bets, width) for bets in plug]),
        urn_weights=np.log(weight * np.array([weights for _, weights in fast])),
        slow_weights=np.log(weight * np.array([weights for _, weights in slow])),
        shares=_shares([urn and not profile.banded(t) for t in tracks]),
    )


def _shares(urns: Sequence[bool]) -> Floats:
    """Logs (R, 2) of the shares of urn and plug-in in rows with an urn and without."""
    with np.errstate(divide="ignore"):
        return np.log([(URN_WEIGHT, 1 - URN_WEIGHT) if urn else (0.0, 1.0) for urn in urns])


class _Bet(Struct, frozen=True):
    """One row: a log-bet on a bin, what the reference says of its share, and the row's weight (0: idle)."""

    bin: int
    step: float
    hits: float
    rest: float
    weight: float


def _share_group(
    profile: ReferenceProfile, tolerance: Tolerance, kind: str, tracks: Sequence[int], like: ReferenceProfile | None
) -> Group:
    rows: list[tuple[_Bet, float, float]] = []
    found = [
        _bets_of_flag(profile, t) if kind == FLAG else _bets_of_category(profile, t, like or profile) for t in tracks
    ]
    most = max(len(bets) for bets in found)
    for t, bets in zip(tracks, found, strict=True):
        idle = _Bet(0, 0.0, 1.0, 1.0, 0.0)
        risk = risk_of(profile.columns[t % len(profile.columns)].present, len(profile.layout.names)) / len(bets)
        for bet in [*bets, *[idle] * (most - len(bets))]:
            n = bet.hits + bet.rest
            log_z = share_normaliser(bet.hits / n, n, bet.step, tolerance.share(kind), risk) if bet.weight else 0.0
            rows.append((bet, log_z, profile.weights[t] * bet.weight))
    step = np.array([[[bet.step, 0.0]] for bet, _, _ in rows])
    up = step[:, 0, 0] > 0
    gaps = np.array([(bet.hits, bet.rest) for bet, _, _ in rows]) + np.stack((up, ~up), axis=1)
    with np.errstate(divide="ignore"):  # idle bets have weight 0
        weights = np.log([[weight] for _, _, weight in rows])
    return Group(
        kind=kind,
        tracks=np.array(tracks, dtype=np.intp),
        bins=np.array([bet.bin for bet, _, _ in rows], dtype=np.intp),
        gaps=gaps,
        total=gaps.sum(1),
        urn=tolerance.urn(kind),
        urn_bets=step,
        urn_exp=np.exp(step),
        slow_bets=step,
        slow_exp=np.exp(step),
        plug_bets=step - np.array([[[log_z]] for _, log_z, _ in rows]),
        urn_weights=weights,
        slow_weights=weights,
        shares=_shares([tolerance.urn(kind)] * len(rows)),
    )


def _bets_of_flag(profile: ReferenceProfile, track: int) -> list[_Bet]:
    column = profile.columns[track - len(profile.columns)]
    return [_bet(k, step, column.missing, column.present, weight) for k, step, weight in flag_bets()]


def _bets_of_category(profile: ReferenceProfile, track: int, like: ReferenceProfile) -> list[_Bet]:
    """Bets on ``like``'s categories, by value, on the bins that they have here."""
    own, others = profile.columns[track], like.columns[track].edges
    bets = []
    for k, step, weight in category_bets(len(others)):
        at = len(own.edges) if k == len(others) else int(np.searchsorted(own.edges, others[k]))
        known = k == len(others) or (at < len(own.edges) and own.edges[at] == others[k])
        hits = min(own.gaps[at], own.present - 1.0) if known else 0.0
        bets.append(_bet(at, step, hits, own.present - hits, weight if known else 0.0))
    return bets


def _bet(k: int, step: float, hits: float, rest: float, weight: float) -> _Bet:
    losing = rest if step > 0 else hits
    return (
        _Bet(k, step, float(hits), float(rest), weight)
        if weight and losing >= LEAST_SEEN
        else _Bet(0, 0.0, 1.0, 1.0, 0.0)
    )


def _pad(array: Floats, width: int, value: float = 0.0) -> Floats:
    missing = width - array.shape[-1]
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)], constant_values=value) if missing else array
