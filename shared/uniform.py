"""Uniform numbers from a counter, for what must be drawn alike on every machine and go on after a restart.

``numpy.random`` would do as well, but it is imported when it is first used, and then a device has 3 MiB less for good.
"""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Uniform:
    """SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA): the k-th number
    is a hash of seed + k γ, so that blocks of any size give the same numbers.

    ``seed`` and ``drawn``, how many numbers were drawn, are its whole state.

    >>> one, other = Uniform(7), Uniform(7)
    >>> bool((one.random(5) == np.concatenate((other.random(2), other.random(3)))).all())
    True
    """

    def __init__(self, seed: int = 0, drawn: int = 0) -> None:
        self.seed, self.drawn = seed & _MASK, drawn
        self._start = int(_mixed(np.array([self.seed], np.uint64))[0])

    @classmethod
    def fresh(cls) -> Self:
        """One like no other: its seed is the system's."""
        return cls(int.from_bytes(os.urandom(8), "little"))

    def bits(self, count: int) -> NDArray[np.uint64]:
        """The next ``count`` numbers of 64 random bits."""
        first = (self._start + (self.drawn + 1) * _GAMMA) & _MASK
        self.drawn += count
        steps = np.arange(count, dtype=np.uint64)
        steps *= np.uint64(_GAMMA)  # whole numbers of 64 bits wrap around, as they should
        steps += np.uint64(first)
        return _mixed(steps)

    def random(self, count: int) -> NDArray[np.float64]:
        """The next ``count`` numbers of [0, 1), multiples of 2^-53."""
        found: NDArray[np.float64] = (self.bits(count) >> np.uint64(11)) * np.float64(2.0**-53)
        return found

    def some(self, values: NDArray[Any], count: int) -> NDArray[Any]:
        """``count`` of ``values`` (n,), each at most once, in random order."""
        return values[np.argsort(self.random(len(values)))[:count]]


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z ^= z >> np.uint64(30)
    z *= _FIRST
    z ^= z >> np.uint64(27)
    z *= _SECOND
    z ^= z >> np.uint64(31)
    return z
