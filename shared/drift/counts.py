"""Counts of a window: whole numbers that add exactly, over time and over devices, in any order.

What travels, what is stored and what is merged. Two forms: a mapping of track names to lists, for JSON that anybody
can read, and bytes of varints, for metered links.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shared.drift.profile import Layout, ReferenceProfile
from shared.errors import ProfileError

VERSION = 1
VERSION_LEVELS = 2
"""Of counts that have tracks of levels."""
MAX_SAMPLES = 1 << 40
"""Most samples in one object: sums stay exact in 64 bits and in a double."""


class WindowCounts:
    """How often each bin of each track was hit by ``samples`` samples.

    ``table`` (T, K) int64, rows as in the profile's layout, unused bins 0. A scalar's counts and its missing count
    always sum to ``samples``; those of a level to the number of means that were finished, which is at most that of the
    scalar's own counts. Treat as immutable.

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

    def check(self) -> None:
        """Refuse what nobody could have counted.

        Raises:
            ProfileError: negative counts, or counts that don't sum to ``samples``.
        """
        if (self.table < 0).any():
            raise ProfileError("counts are negative")
        self._checked(self.layout, self.samples, self.table)

    @classmethod
    def _checked(cls, layout: Layout, samples: int, table: NDArray[np.int64]) -> WindowCounts:
        if type(samples) is not int or not 0 <= samples <= MAX_SAMPLES:
            raise ProfileError(f"samples must be a whole number from 0 to {MAX_SAMPLES}, got {samples!r}")
        scalars = layout.scalars
        sums = table.sum(1)
        flags = table[scalars : 2 * scalars]
        wrong = (flags.sum(1) != samples) | (sums[:scalars] + flags[:, 1] != samples)
        if wrong.any():
            name = layout.names[int(np.argmax(wrong))]
            raise ProfileError(f"counts of {name!r} and its missing values don't sum to {samples} samples")
        for track, scalar in enumerate(layout.levels, 2 * scalars):
            if sums[track] > sums[scalar]:
                raise ProfileError(
                    f"counts of {layout.names[track]!r} are of {sums[track]} means; "
                    f"{layout.names[scalar]!r} has only {sums[scalar]} values"
                )
        return cls(layout, samples, table)

    def to_bytes(self) -> bytes:
        """Version, digest, then varints: samples, the counts of each scalar, how many of each were missing, and the
        counts of each level."""
        return bytes([_version(self.layout)]) + bytes.fromhex(self.profile) + self.to_varints()

    def to_varints(self) -> bytes:
        """:meth:`to_bytes` without its head."""
        layout, scalars = self.layout, self.layout.scalars
        numbers = [self.samples]
        for t in _with_bins(layout)[:scalars]:
            numbers += self.table[t, : layout.sizes[t]].tolist()
        numbers += self.table[scalars : 2 * scalars, 1].tolist()
        for t in _with_bins(layout)[scalars:]:
            numbers += self.table[t, : layout.sizes[t]].tolist()
        return varints(numbers)

    @classmethod
    def from_bytes(cls, profile: ReferenceProfile, data: bytes) -> WindowCounts:
        """What :meth:`to_bytes` wrote.

        Raises:
            ProfileError: another version or profile, truncated, too long, or inconsistent.
        """
        layout = profile.layout
        version = _version(layout)
        if len(data) < 9 or data[0] != version:
            raise ProfileError(f"counts: not counts of version {version}, or truncated ({len(data)} bytes)")
        if data[1:9].hex() != layout.digest:
            raise ProfileError(f"counts belong to profile {data[1:9].hex()}, not to {layout.digest}")
        return cls.from_varints(layout, data[9:])

    @classmethod
    def from_varints(cls, layout: Layout, data: bytes) -> WindowCounts:
        """What :meth:`to_varints` wrote.

        Raises:
            ProfileError: truncated, too long, or inconsistent.
        """
        scalars, tracks = layout.scalars, _with_bins(layout)
        numbers = read_varints(data, 1 + sum(layout.sizes[t] for t in tracks) + scalars)
        samples = numbers[0]
        table = np.zeros((len(layout.names), layout.width), dtype=np.int64)
        at = 1
        for place, t in enumerate(tracks):
            if place == scalars:
                at += scalars
            size = layout.sizes[t]
            table[t, :size] = numbers[at : at + size]
            at += size
        first = 1 + sum(layout.sizes[:scalars])
        table[scalars : 2 * scalars, 1] = missing = np.array(numbers[first : first + scalars], dtype=np.int64)
        table[scalars : 2 * scalars, 0] = samples - missing
        if (table < 0).any():
            raise ProfileError("counts: more values are missing than there are samples")
        return cls._checked(layout, samples, table)


def _version(layout: Layout) -> int:
    return VERSION_LEVELS if layout.levels else VERSION


def _with_bins(layout: Layout) -> list[int]:
    """The tracks whose bins are counted: all but the missing flags."""
    scalars = layout.scalars
    return [*range(scalars), *range(2 * scalars, len(layout.names))]


def varints(numbers: Iterable[int]) -> bytes:
    """Whole numbers >= 0 in 7 bits a byte, lowest first."""
    out = bytearray()
    for number in numbers:
        rest = number
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def read_varints(data: bytes, expected: int) -> list[int]:
    """The ``expected`` numbers that :func:`varints` wrote.

    Raises:
        ProfileError: there are others, or one beyond ``MAX_SAMPLES``.
    """
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
