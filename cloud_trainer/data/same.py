"""Which samples are exactly the same. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

REPEATED_MOST = 1 / 3
"""Share of repeats up to which they are kept in one part: tables with few different rows repeat them by nature."""


def keys(x: NDArray[Any]) -> list[bytes]:
    """A digest of every sample (n, ...): the same sample, the same digest."""
    if x.dtype == object:
        cells: list[list[object]] = x.reshape(len(x), -1).tolist()
        return [_digest("\x1f".join(map(str, row)).encode(errors="surrogatepass")) for row in cells]
    rows = np.ascontiguousarray(x).reshape(len(x), -1)
    return [_digest(row.tobytes()) for row in rows]


def units(x: NDArray[Any]) -> tuple[NDArray[np.intp], float]:
    """For every sample the index of the first that is the same (n,), and the share of those that are not the first.

    >>> units(np.array([[1], [2], [1]]))[0].tolist()
    [0, 1, 0]
    """
    first: dict[bytes, int] = {}
    unit = np.array([first.setdefault(key, i) for i, key in enumerate(keys(x))], np.intp)
    return unit, 1.0 - len(first) / max(len(unit), 1)


def _digest(data: bytes) -> bytes:
    return data if len(data) <= 16 else hashlib.blake2b(data, digest_size=16).digest()
