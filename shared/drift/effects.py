"""How large a change is, from counts alone. Evidence says "surely changed", effects say "enough to matter"."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift.bins import CATEGORY, Column, Floats
from shared.drift.counts import WindowCounts
from shared.drift.profile import LEVEL_SUFFIX, MISSING_SUFFIX, ReferenceProfile
from shared.errors import ProfileError


class Effect(Struct, frozen=True):
    """Distances of a window from its reference.

    Of a scalar with a memory ``psi`` and ``js`` are those of its residuals; ``w1`` and ``mean_shift`` say how far its
    level moved, in robust sigmas of the scalar.

    ``psi``: population stability index. ``js``: Jensen-Shannon divergence in nats. ``w1``: Wasserstein-1 distance and
    ``mean_shift``: shift of the mean, both in robust sigmas of the reference. What lies outside the reference's range
    counts as if it were at its end, so both are lower bounds there. For categories both are the total variation
    distance (the share of answers that moved); for a missing flag they are the change of the missing share.
    """

    psi: float
    js: float
    w1: float
    mean_shift: float


def effects(profile: ReferenceProfile, counts: WindowCounts) -> dict[str, Effect]:
    """Scalar name -> its :class:`Effect`; ``<name>.missing`` appears where values are missing now or were,
    ``<name>.level`` where means of a level were finished: its ``psi`` and ``js`` are those of the means.

    Raises:
        ProfileError: the counts belong to another profile.
    """
    if counts.profile != profile.digest:
        raise ProfileError(f"counts belong to profile {counts.profile}, not to {profile.digest}")
    found = {
        name: _effect(column, counts.table[t, : len(column.gaps)])
        for t, (name, column) in enumerate(zip(profile.names, profile.columns, strict=True))
    }
    scalars = len(profile.columns)
    for k, name in enumerate(profile.names):
        found |= _with_memory(profile, counts, k, found[name])
    for k, (name, column) in enumerate(zip(profile.names, profile.columns, strict=True)):
        row = counts.table[scalars + k, :2]
        if row[1] or column.missing:
            p = np.array([column.present, column.missing], dtype=np.float64)
            before, now = _shares(p / p.sum() + 1e-9, row)
            moved = float(row[1] / max(row.sum(), 1) - p[1] / p.sum()) if row.sum() else 0.0
            found[name + MISSING_SUFFIX] = Effect(*_divergences(before, now), w1=abs(moved), mean_shift=moved)
    return found


def _effect(column: Column, row: NDArray[np.int64]) -> Effect:
    before, now = _shares(column.gaps, row)
    psi, js = _divergences(before, now)
    if column.kind == CATEGORY:
        moved = float(np.abs(now - before).sum() / 2)
        return Effect(psi, js, w1=moved, mean_shift=moved)
    unit = column.unit or 1.0
    w1 = float(np.abs(np.cumsum(before - now))[:-1] @ np.diff(column.centers)) / unit
    return Effect(psi, js, w1=w1, mean_shift=float((now - before) @ column.centers) / unit)


def _with_memory(profile: ReferenceProfile, counts: WindowCounts, k: int, own: Effect) -> dict[str, Effect]:
    """The effects of a scalar with a memory, of which ``own`` is that of its residuals."""
    memory, name = profile.memories[k], profile.names[k]
    if memory is None or not memory.serial.model.order:
        return {}
    column, model = profile.columns[k], memory.serial.model
    # the mean of an autoregressive process moves by 1 / (1 - Σφ) of what its residuals' mean moves by
    scale = (column.unit or 1.0) / (memory.unit * model.gain)
    sign = 1.0 if model.coefficients.sum() <= 1 else -1.0
    moved = Effect(own.psi, own.js, w1=abs(own.mean_shift) * scale, mean_shift=own.mean_shift * scale * sign)
    if memory.level is None:
        return {name: moved}
    track = profile.layout.names.index(name + LEVEL_SUFFIX)
    row = counts.table[track, : len(memory.level.gaps)]
    if not row.sum():
        return {name: moved}
    change = row / row.sum() - memory.level.gaps / memory.level.gaps.sum()
    centers = memory.level.centers
    level = Effect(
        *_divergences(*_shares(memory.level.gaps, row)),
        w1=float(np.abs(np.cumsum(change))[:-1] @ np.diff(centers)) / memory.unit,
        mean_shift=float(change @ centers) / memory.unit,
    )
    return {name: Effect(own.psi, own.js, level.w1, level.mean_shift), name + LEVEL_SUFFIX: level}


def _shares(gaps: Floats, row: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Shares before and now; half a count a bin, spread as the reference is, keeps logarithms finite."""
    before = gaps / gaps.sum()
    half = 0.5 * len(before)
    return before, (row + half * before) / (row.sum() + half)


def _divergences(before: Floats, now: Floats) -> tuple[float, float]:
    middle = (before + now) / 2
    psi = float(((now - before) * np.log(now / before)).sum())
    js = float((before * np.log(before / middle) + now * np.log(now / middle)).sum() / 2)
    return max(psi, 0.0), max(js, 0.0)
