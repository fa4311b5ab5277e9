"""Counts of a window: whole numbers that add exactly, over time and over devices, in any order.

What travels, what is stored and what is merged. Two forms: a mapping of track names to lists, for JSON that anybody
can read, and bytes of varints, for metered links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shared.drift.profile import Layout, ReferenceProfile
from shared.errors import ProfileError

VERSION = 1
MAX_SAMPLES = 1 << 40
"""Most samples in one object: sums stay exact in 64 bits and in a double."""


class WindowCounts:
    """How often each bin of each track was hit by ``samples`` samples.

    ``table`` (T, K) int64, rows as in the profile's layout, unused bins 0. A scalar's counts and its missing count
    always sum to ``samples``. Treat as immutable.

    >>> profile = ReferenceProfile.fit(np.arange(100.0))
    >>> WindowCounts.zero(profile) + WindowCounts.zero(profile) == WindowCounts.zero(profile)
    True
    """

    __slots__ = ("layout", "samples", "table")

    def __init__(self, layout: Layout, samples: int, table: NDArray[np.int64]) -> None:
        self.layout = layout
        self.samples = samples
        self.table = table

    @classmethod
    def zero(cls, profile: ReferenceProfile) -> WindowCounts:
        """Nothing seen yet."""
        layout = profile.layout
        return cls(layout, 0, np.zeros((len(layout.names), layout.width), dtype=np.int64))

    @property
    def profile(self) -> str:
        """Digest of the profile that the bins belong to."""
        return self.layout.digest

    def __add__(self, other: WindowCounts) -> WindowCounts:
        """Both windows together.

        Raises:
            ProfileError: they belong to different profiles, or the sum is larger than anything real.
        """
        if not isinstance(other, WindowCounts):
            return NotImplemented
        if other.profile != self.profile:
            raise ProfileError(f"counts of profile {other.profile} can't be added to counts of profile {self.profile}")
        samples = self.samples + other.samples
        if samples > MAX_SAMPLES:
            raise ProfileError(f"counts of {samples} samples; at most {MAX_SAMPLES} fit into one window")
        return WindowCounts(self.layout, samples, self.table + other.table)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, WindowCounts)
            and self.profile == other.profile
            and self.samples == other.samples
            and bool(np.array_equal(self.table, other.table))
        )

    __hash__ = None  # type: ignore[assignment]  # holds an array

    def __repr__(self) -> str:
        return f"WindowCounts(profile={self.profile!r}, samples={self.samples})"

    def to_mapping(self) -> dict[str, list[int]]:
        """Track name -> one count a bin."""
        return {
            name: self.table[t, :size].tolist()
            for t, (name, size) in enumerate(zip(self.layout.names, self.layout.sizes, strict=True))
        }

    @classmethod
    def from_mapping(
        cls, profile: ReferenceProfile, mapping: Mapping[str, Sequence[int]], samples: int
    ) -> WindowCounts:
        """Counts that somebody sent, checked.

        Raises:
            ProfileError: tracks or bins are not the profile's, a count is negative or no whole number, or a scalar's
                counts don't sum to ``samples``.
        """
        layout = profile.layout
        if set(mapping) != set(layout.names):
            odd = min(map(str, set(mapping) ^ set(layout.names)))
            raise ProfileError(
                f"counts don't fit profile {layout.digest}: "
                f"track {odd!r} is {'unknown' if odd in mapping else 'missing'}"
            )
        table = np.zeros((len(layout.names), layout.width), dtype=np.int64)
        for t, (name, size) in enumerate(zip(layout.names, layout.sizes, strict=True)):
            row = mapping[name]
            if len(row) != size:
                raise ProfileError(f"counts of {name!r} have {len(row)} bins; profile {layout.digest} has {size}")
            if any(type(count) is not int or not 0 <= count <= MAX_SAMPLES for count in row):
                raise ProfileError(f"counts of {name!r} must be whole numbers from 0 to {MAX_SAMPLES}")
            table[t, :size] = row
        return cls._checked(layout, samples, table)

    @classmethod
    def _checked(cls, layout: Layout, samples: int, table: NDArray[np.int64]) -> WindowCounts:
        if type(samples) is not int or not 0 <= samples <= MAX_SAMPLES:
            raise ProfileError(f"samples must be a whole number from 0 to {MAX_SAMPLES}, got {samples!r}")
        scalars = layout.scalars
        sums = table.sum(1)
        wrong = (sums[scalars:] != samples) | (sums[:scalars] + table[scalars:, 1] != samples)
        if wrong.any():
            name = layout.names[int(np.argmax(wrong))]
            raise ProfileError(f"counts of {name!r} and its missing values don't sum to {samples} samples")
        return cls(layout, samples, table)

    def to_bytes(self) -> bytes:
        """Version, digest, then varints: samples, the counts of each scalar, and how many of each were missing."""
        scalars = self.layout.scalars
        numbers = [self.samples]
        for t in range(scalars):
            numbers += self.table[t, : self.layout.sizes[t]].tolist()
        numbers += self.table[scalars:, 1].tolist()
        out = bytearray([VERSION]) + bytes.fromhex(self.profile)
        for number in numbers:
            rest = number
            while rest > 0x7F:
                out.append(rest & 0x7F | 0x80)
                rest >>= 7
            out.append(rest)
        return bytes(out)

    @classmethod
    def from_bytes(cls, profile: ReferenceProfile, data: bytes) -> WindowCounts:
        """What :meth:`to_bytes` wrote.

        Raises:
            ProfileError: another version or profile, truncated, too long, or inconsistent.
        """
        layout = profile.layout
        if len(data) < 9 or data[0] != VERSION:
            raise ProfileError(f"counts: not counts of version {VERSION}, or truncated ({len(data)} bytes)")
        if data[1:9].hex() != layout.digest:
            raise ProfileError(f"counts belong to profile {data[1:9].hex()}, not to {layout.digest}")
        scalars = layout.scalars
        expected = 1 + sum(layout.sizes[:scalars]) + scalars
        numbers = _varints(data[9:], expected)
        samples = numbers[0]
        table = np.zeros((len(layout.names), layout.width), dtype=np.int64)
        at = 1
        for t, size in enumerate(layout.sizes[:scalars]):
            table[t, :size] = numbers[at : at + size]
            at += size
        table[scalars:, 1] = numbers[at:]
        table[scalars:, 0] = samples - table[scalars:, 1]
        if (table < 0).any():
            raise ProfileError("counts: more values are missing than there are samples")
        return cls._checked(layout, samples, table)


def _varints(data: bytes, expected: int) -> list[int]:
    numbers: list[int] = []
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if number > MAX_SAMPLES or shift > 49:
            raise ProfileError(f"counts: a number beyond {MAX_SAMPLES}")
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
    if shift or len(numbers) != expected:
        raise ProfileError(f"counts: {len(numbers)} numbers where {expected} belong; truncated or of another layout")
    return numbers
