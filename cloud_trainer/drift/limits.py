"""What a comparison could not promise, and what else to know of its files, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.drift.cells import Odd
from cloud_trainer.drift.reference import Reference
from shared.drift.bins import CATEGORY
from shared.drift.evidence import SMALL

PROMISED = "promised"


def limits_of(reference: Reference, rows: int, every: float) -> list[str]:
    """What could not be promised of ``rows`` rows, at one false alarm in ``every`` rows."""
    profile, found = reference.profile, []
    for name, level in profile.level.items():
        if not level.startswith(PROMISED):
            found.append(f"{name}: {level}")
    if reference.resembling:
        names = _named([f"{n} ({r:.2f})" for n, r in sorted(reference.resembling.items(), key=lambda x: -x[1])])
        found.append(
            f"Neighbouring rows of the reference resemble each other (correlation with the row before: {names}). The "
            "promise is for rows that don't depend on each other: an alarm may come from that alone. If both files are "
            "series, name their time column with --time"
        )
    if rows >= every:
        found.append(
            f"{rows:,} rows are more than the {every:,.0f} that may bring a false alarm each: "
            "one alarm says little here; ask for a rarer one with --false-alarm-every"
        )
    smallest = min(column.present for column in profile.columns)
    if smallest < SMALL:
        found.append(
            f"The reference has only {smallest} values: the promise holds all the same, but small changes take "
            "long to find, or are never found"
        )
    if constant := [
        n for n, c in zip(profile.names, profile.columns, strict=True) if c.kind != CATEGORY and not c.unit
    ]:
        found.append(
            f"Constant in the reference: {_named(constant)}. Any other value is new, and there is no σ to "
            "measure it by; "
            "its effect is the share of values that left"
        )
    if any(column.kind == CATEGORY for column in profile.columns):
        found.append("For categories the promise is measured by simulation, not proven")
    if len(profile.names) > 1:
        found.append(
            "For many columns that depend on each other the promise is proven at fixed times and measured, not "
            "proven, at the moment of an alarm"
        )
    return found


def unpromised(level: str) -> bool:
    """Whether nothing is promised for a scalar, by what its profile says of it.

    >>> unpromised("level not promised: memory 22, 400 seen"), unpromised("not promised: the reference moves")
    (False, True)
    """
    return any(part.startswith("not promised") for part in level.split("; "))


def doubt_of(reference: Reference, names: Sequence[str]) -> str:
    """Why an alarm of the scalars ``names`` is not sure, "" if it is."""
    level = reference.profile.level
    if names and all(unpromised(level[name]) for name in names):
        return "the reference itself moves in ways that no promise covers"
    if names and all(name in reference.resembling for name in names):
        return "neighbouring rows of the reference resemble each other, which can raise an alarm by itself"
    return ""


def notes_of(reference: Reference, infinite: NDArray[np.int64], odd: dict[str, Odd]) -> list[str]:
    """What else to know of the files: thinning, cells that are no numbers, infinities."""
    found = []
    if reference.used < reference.rows:
        which = "the last" if reference.ordered else "a random"
        found.append(f"The reference is {which} {reference.used:,} of its {reference.rows:,} rows")
    for name, one in odd.items():
        if one.count:
            are = "cells that are no numbers count" if one.count > 1 else "cell that is no number counts"
            found.append(f"{name}: {one.count:,} {are} as missing (the first: {one.value!r}, {one.place})")
    for name, count in zip(reference.profile.names, infinite.tolist(), strict=False):
        if count:
            found.append(f"{name}: {count:,} infinite values in the data count as beyond everything")
    return found


def _named(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
