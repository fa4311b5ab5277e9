"""Quantiles for what a device does all the time. ``numpy.quantile`` imports ``numpy.ma`` with its first call, which
costs 1.5 MiB for good."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def quantiles(values: ArrayLike, shares: Sequence[float]) -> tuple[float, ...]:
    """The quantiles of ``values`` (n,), n >= 1, without NaN, at ``shares`` in [0, 1]: linear between neighbours, the
    same to the last bit as ``numpy.quantile``.

    >>> quantiles([4.0, 1.0, 2.0, 3.0], (0.25, 0.5))
    (1.75, 2.5)
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    last = len(ordered) - 1
    found = []
    for share in shares:
        below = int(last * share)
        low, high = float(ordered[below]), float(ordered[min(below + 1, last)])
        part = last * share - below
        if part == 0:
            found.append(low)  # its neighbour may be infinite
        else:  # from the nearer end, as numpy does
            found.append(high - (high - low) * (1 - part) if part >= 0.5 else low + (high - low) * part)
    return tuple(found)
