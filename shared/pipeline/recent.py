"""A window over time as one row: Recent."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from shared.pipeline.base import Array, ArrayOperation, check_numbers, check_size, refuse
from shared.pipeline.tables import Column

Values = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], bool]
"""Where results go, of which channels, how many steps before the last, and whether it is the change since then."""


class Pick(Struct, frozen=True, forbid_unknown_fields=True):
    """One number of a window: of its ``channel`` the ``value`` at ``steps`` before the last, the ``change`` since then,
    or ``mean``, ``std``, ``min`` or ``max`` of the last ``steps``."""

    channel: Column
    what: Literal["value", "change", "mean", "std", "min", "max"] = "value"
    steps: Annotated[int, Meta(ge=0, le=65_535)] = 0

    def __post_init__(self) -> None:
        if not self.steps and self.what != "value":
            raise ValueError(f"recent: {self.what} needs steps of at least 1")

    @property
    def least(self) -> int:
        """Time steps that a window needs for it."""
        return self.steps + (self.what in {"value", "change"})


class Recent(ArrayOperation, frozen=True, tag="recent"):
    """What a window says at its last time step, as a row: lags, changes and rolling statistics. ``std`` divides by the
    number of steps.

    >>> Recent(picks=(Pick(0), Pick(0, "change", 2), Pick(0, "mean", 2)))(np.array([[[1.0], [4.0], [6.0]]]))
    array([[6., 5., 5.]])
    """

    picks: Annotated[tuple[Pick, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        check_size(self, 2 * len(self.picks))

    def __call__(self, batch: Array) -> Array:
        """(n, time, channels) -> (n, len(picks)), float64 kept, others float32."""
        self._check(batch)
        dtype = np.float64 if batch.dtype == np.float64 else np.float32
        out = np.empty((len(batch), len(self.picks)), dtype)
        values, statistics = self._groups()
        for places, channels, steps, since in values:
            before = batch[:, -1 - steps, channels].astype(np.float64)
            out[:, places] = batch[:, -1, channels].astype(np.float64) - before if since else before
        for what, size, columns, of_channels in statistics:
            out[:, columns] = _found(what, batch, size, of_channels)
        return out

    def _groups(self) -> tuple[list[Values], list[tuple[str, int, list[int], list[int]]]]:
        """What is found in one go: values (and changes), and each statistic of each number of steps."""
        values = []
        for since, what in enumerate(("value", "change")):
            which = [place for place, pick in enumerate(self.picks) if pick.what == what]
            if which:
                channels, steps = (
                    np.array([getattr(self.picks[k], of) for k in which], np.intp) for of in ("channel", "steps")
                )
                values.append((np.array(which, np.intp), channels, steps, bool(since)))
        groups: dict[tuple[str, int], tuple[list[int], list[int]]] = {}
        for place, pick in enumerate(self.picks):
            if pick.what not in {"value", "change"}:
                places, of_channels = groups.setdefault((pick.what, pick.steps), ([], []))
                places.append(place)
                of_channels.append(pick.channel)
        return values, [(what, size, *both) for (what, size), both in groups.items()]

    def _check(self, batch: Array) -> None:
        least, channels = max(pick.least for pick in self.picks), max(pick.channel for pick in self.picks) + 1
        takes = f"windows (n, time, channels) of at least {least} time steps and {channels} channels"
        check_numbers(self, batch, (3,), takes)
        if batch.shape[1] < least or batch.shape[2] < channels:
            raise refuse(self, takes, batch)


def _found(what: str, batch: Array, steps: int, channels: list[int]) -> Array:
    """(n, len(channels)) float64."""
    # time last: sums add in one order
    series = np.ascontiguousarray(np.moveaxis(batch[:, -steps:][:, :, channels], 1, -1), dtype=np.float64)
    if what in {"min", "max"}:
        extreme: Array = series.min(axis=-1) if what == "min" else series.max(axis=-1)
        return extreme
    mean: Array = series.sum(axis=-1) / steps
    if what == "mean":
        return mean
    spread: Array = np.sqrt(((series - mean[..., None]) ** 2).sum(axis=-1) / steps)
    return spread
