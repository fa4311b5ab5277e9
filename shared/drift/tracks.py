"""A profile's tracks in three groups of one shape each (values, categories, missing flags), with their bets stacked and padded,
so that a window over all tracks is a handful of array operations."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift.bets import SHIFTS, SLOW_SHIFTS, category_bets, flag_bets, value_bets
from shared.drift.bins import CATEGORY, VALUE, Floats
from shared.drift.evidence import URN_WEIGHT, risk_of, share_normaliser, urn_log_e, value_normaliser
from shared.drift.profile import MAX_BINS, ReferenceProfile
from shared.errors import ProfileError

FLAG = "missing"


class Tolerance(Struct, frozen=True):
    """What movement is nobody's business.

    ``delta``: every value may move by this many robust sigmas. ``replaced``: this share of a category track's, or of a missing flag's,
    answers may be others. The null hypothesis is then a set of laws, for which there is no urn.
    """

    delta: float = 0.0
    replaced: float = 0.0

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

        Without any tolerance all do. With ``replaced`` alone, values still do. With ``delta`` none does: the stream is then only promised to
        stay in a band *given its past*; what follows from values that wander (a predicted class) wanders too, and an urn
        would call any wandering a change.
        """
        return self.delta == 0 and (kind == VALUE or self.replaced == 0)


class Group(Struct, frozen=True):
    """T tracks of one kind. M urn bets and P plug-in bets over K bins; padded bins have ``gaps`` 1, bets 0, ``exp_bets`` 0.

    ``index`` (T,) rows in the profile's layout; ``urn_bets``, ``exp_bets`` (T, M, K); ``plug_bets`` (T, P, K) with the
    normaliser subtracted; ``slow_bets`` (T, P, K) without; ``urn_weights`` (T, M), ``slow_weights`` (T, P) logs of
    priors, each summing to 1 over a track's bets; ``track_weights`` (T,) logs.
    """

    kind: str
    index: NDArray[np.intp]
    gaps: Floats
    total: Floats
    urn: bool
    urn_bets: Floats
    exp_bets: Floats
    slow_bets: Floats
    exp_slow_bets: Floats
    plug_bets: Floats
    urn_weights: Floats
    slow_weights: Floats
    track_weights: Floats

    def log_e_urn(self, urn: Floats, total: Floats, counts: Floats) -> Floats:
        """log e (T, W, M) against the urns met, (T, W, K) and (T, W)."""
        return urn_log_e(self.urn_bets, self.exp_bets, urn, total, counts)

    def log_e_urn_slow(self, urn: Floats, total: Floats, counts: Floats) -> Floats:
        """log e (T, W, P) of the slow bets against the urns met."""
        return urn_log_e(self.slow_bets, self.exp_slow_bets, urn, total, counts)

    def log_e_plug(self, counts: Floats) -> Floats:
        """log e (T, W, P) against the fixed reference."""
        found: Floats = counts @ self.plug_bets.transpose(0, 2, 1)
        return found

    def detector_weights(self) -> Floats:
        """Log weights (T, M + P), or (T, P) without the urn, of one stream's bets: urn beside plug-in."""
        if not self.urn:
            return self.track_weights[:, None] + self.slow_weights
        both = np.concatenate((np.log(URN_WEIGHT) + self.urn_weights, np.log(1 - URN_WEIGHT) + self.slow_weights), axis=1)
        found: Floats = self.track_weights[:, None] + both
        return found


def build_groups(profile: ReferenceProfile, tolerance: Tolerance) -> tuple[Group, ...]:
    """The groups of ``profile`` that have tracks."""
    scalars = len(profile.columns)
    values = [k for k in range(scalars) if profile.kinds[k] == VALUE]
    categories = [k for k in range(scalars) if profile.kinds[k] == CATEGORY]
    flags = list(range(scalars, 2 * scalars))
    return tuple(
        _group(profile, kind, tracks, tolerance)
        for kind, tracks in ((VALUE, values), (CATEGORY, categories), (FLAG, flags))
        if tracks
    )


def _group(profile: ReferenceProfile, kind: str, tracks: list[int], tolerance: Tolerance) -> Group:
    width = max(profile.layout.sizes[t] for t in tracks)
    limit = max(width - 1, 16) if kind == CATEGORY else MAX_BINS
    total_tracks = len(profile.layout.names)
    gaps, fast, slow, plug = [], [], [], []
    for t in tracks:
        own = profile.gaps(t)
        column = profile.columns[t % len(profile.columns)]
        risk = risk_of(column.present, total_tracks)
        if kind == VALUE:
            bets, weights = value_bets(column.scores, SHIFTS)
            slow_bets, slow_weights = value_bets(column.scores, SLOW_SHIFTS)
            log_z = value_normaliser(column, slow_bets, tolerance.delta * column.unit, risk)
        else:
            bets, weights = category_bets(len(own) - 1, limit) if kind == CATEGORY else flag_bets()
            slow_bets, slow_weights = bets, weights
            log_z = share_normaliser(own, bets, tolerance.replaced, risk)
        gaps.append(_pad(own, width, 1.0))
        fast.append((_pad(bets, width), _pad(np.exp(bets), width), weights))
        slow.append((_pad(slow_bets, width), _pad(np.exp(slow_bets), width), slow_weights))
        plug.append(_pad(slow_bets - log_z[:, None], width))
    with np.errstate(divide="ignore"):  # bets on categories that a track lacks have weight 0
        return Group(
            kind=kind,
            index=np.array(tracks, dtype=np.intp),
            gaps=np.array(gaps),
            total=np.array([profile.gaps(t).sum() for t in tracks]),
            urn=tolerance.urn(kind),
            urn_bets=np.array([bets for bets, _, _ in fast]),
            exp_bets=np.array([exp for _, exp, _ in fast]),
            slow_bets=np.array([bets for bets, _, _ in slow]),
            exp_slow_bets=np.array([exp for _, exp, _ in slow]),
            plug_bets=np.array(plug),
            urn_weights=np.log([weights for _, _, weights in fast]),
            slow_weights=np.log([weights for _, _, weights in slow]),
            track_weights=np.log(profile.weights[tracks]),
        )


def _pad(array: Floats, width: int, value: float = 0.0) -> Floats:
    missing = width - array.shape[-1]
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)], constant_values=value) if missing else array
