"""What a stream is compared with: the reference of every watched scalar.

Fit on held-out data, never on what a model was trained on: its confidence on data it has fitted is not its confidence
on new data. A profile is immutable and known by the digest of its content; counts and detector states name it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from shared.drift.arrays import Arrays, load_arrays, numbers, save_arrays
from shared.drift.bins import CATEGORY, VALUE, Column, Floats, fit_category, fit_value
from shared.drift.memory import Memory, fit_memory
from shared.drift.profile_file import MAX_BINS, MAX_COLUMNS, columns_from, to_arrays
from shared.errors import ProfileError
from shared.uniform import Uniform

LEAST_ROWS = 50
FAMILIES = ("inputs", "quality", "embedding", "confidence", "classes")
FLAG_WEIGHT = 1 / 8
"""Prior weight of all missing flags: what goes missing is found by a few samples, so that a low weight costs little."""
MISSING_SUFFIX = ".missing"
LEVEL_SUFFIX = ".level"
LEVEL_WEIGHT = 1 / 4
"""Residuals hold all there is to know of a level, too, as long as their model is right."""
PROMISED = "promised"


class Layout(Struct, frozen=True):
    """The tracks of a profile: its scalars, the missing flag of each, then the levels of the scalars ``levels``.
    ``names`` and bins of each (T,)."""

    digest: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    levels: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """Bins of the widest track."""
        return max(self.sizes, default=0)

    @property
    def scalars(self) -> int:
        """Number of watched scalars."""
        return (len(self.names) - len(self.levels)) // 2


class ReferenceProfile:
    """The reference of F watched scalars.

    ``names``, ``families``, ``kinds`` ("value" or "category"), ``columns`` and ``memories`` have one entry a scalar.
    The column of a scalar with a memory is of its residuals; that of its level is in the memory. ``level`` says for
    each name what could be promised; ``digest`` is the first 16 hex digits of the content's SHA-256.

    >>> rng = np.random.default_rng(0)
    >>> profile = ReferenceProfile.fit(rng.normal(size=(500, 2)), names=["width", "height"])
    >>> profile.level["width"], len(profile.digest)
    ('promised', 16)
    """

    def __init__(
        self,
        names: Sequence[str],
        families: Sequence[str],
        columns: Sequence[Column],
        memories: Sequence[Memory | None] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.families = tuple(families)
        self.columns = tuple(columns)
        self.memories = tuple(memories) if memories is not None else (None,) * len(self.columns)
        self.kinds = tuple(column.kind for column in self.columns)
        self.level = {
            name: PROMISED if memory is None else memory.text(kind)
            for name, memory, kind in zip(self.names, self.memories, self.kinds, strict=True)
        }
        self.levels = {k: m.level for k, m in enumerate(self.memories) if m is not None and m.level is not None}
        _check_names(self.names, self.families, tuple(self.names[k] + LEVEL_SUFFIX for k in self.levels))

    @classmethod
    def fit(
        cls,
        X: ArrayLike,
        names: Sequence[str] | None = None,
        bins: int = 16,
        time_ordered: bool = False,
        *,
        families: Sequence[str] | None = None,
        kinds: Sequence[str] | None = None,
        seed: int = 0,
    ) -> ReferenceProfile:
        """Learn the reference from ``X`` (n, F) or (n,) float, n >= 50 rows; NaN is missing.

        Args:
            time_ordered: rows follow each other in time, evenly, and so will those of the stream; what depends on what
            was before is then watched by its residuals and its level. Otherwise rows are exchangeable, in any order.
            names: F different names; "x0", "x1", ... by default.
            bins: bins between the smallest and the largest reference value; two more lie outside.
            families: F group names; evidence is weighted by family first, so that many inputs don't drown one
            confidence.
            kinds: F of "value" (ordered numbers) or "category" (numbers that only name something).
            seed: of the uniform numbers that order ties.

        Raises:
            ProfileError: fewer than 50 rows, fewer than 10 values in a column, or arguments that don't fit.
        """
        try:
            rows = numbers(X)
        except ValueError as error:
            raise ProfileError(f"a reference is a table of numbers, rows by columns ({error})") from error
        if rows.ndim == 1:
            rows = rows[:, None]
        if rows.ndim != 2 or not 1 <= rows.shape[1] <= MAX_COLUMNS:
            raise ProfileError(f"a reference is a table of rows by 1 to {MAX_COLUMNS} columns, got shape {rows.shape}")
        n, width = rows.shape
        if n < LEAST_ROWS:
            raise ProfileError(f"a reference of {n} rows; at least {LEAST_ROWS} are needed")
        if not isinstance(bins, int | np.integer) or not 4 <= bins <= MAX_BINS:
            raise ProfileError(f"bins must be a whole number from 4 to {MAX_BINS}, got {bins!r}")
        names = tuple(names) if names is not None else tuple(f"x{k}" for k in range(width))
        families = tuple(families) if families is not None else ("inputs",) * width
        kinds = tuple(kinds) if kinds is not None else (VALUE,) * width
        for what, given in (("names", names), ("families", families), ("kinds", kinds)):
            if len(given) != width:
                raise ProfileError(f"{len(given)} {what} for {width} columns; one each is needed")
            if not all(isinstance(one, str) for one in given):
                raise ProfileError(f"{what} must be text, got {', '.join(map(repr, given[:3]))}")
        unknown = set(kinds) - {VALUE, CATEGORY}
        if unknown:
            raise ProfileError(f"kind {min(unknown)!r} is neither {VALUE!r} nor {CATEGORY!r}")
        rng = Uniform(seed)
        columns: list[Column] = []
        memories: list[Memory | None] = []
        for name, kind, column in zip(names, kinds, rows.T, strict=True):
            there = column[~np.isnan(column)]
            missing = n - len(there)
            memory = None
            if time_ordered:
                found, memory = fit_memory(column, kind, bins, rng, name)
            elif kind == CATEGORY:
                found = fit_category(there, missing, bins, name)
            else:
                found = fit_value(there, missing, bins, rng, name)
            columns.append(found)
            memories.append(memory)
        return cls(names, families, columns, memories)

    @classmethod
    def join(cls, *profiles: ReferenceProfile) -> ReferenceProfile:
        """The columns of all ``profiles`` side by side; they may come from different numbers of rows.

        Raises:
            ProfileError: none given, or a name appears twice.
        """
        if not profiles:
            raise ProfileError("join needs at least one profile")
        return cls(
            [name for p in profiles for name in p.names],
            [family for p in profiles for family in p.families],
            [column for p in profiles for column in p.columns],
            [memory for p in profiles for memory in p.memories],
        )

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the content."""
        found = hashlib.sha256()
        for name, array in sorted(self.to_arrays().items()):
            data = array if array.dtype.kind != "U" else np.frombuffer("\0".join(array.tolist()).encode(), np.uint8)
            found.update(f"{name} {data.dtype.str} {data.shape}\n".encode())
            found.update(np.ascontiguousarray(data).tobytes())
        return found.hexdigest()[:16]

    @cached_property
    def layout(self) -> Layout:
        """The tracks whose counts this profile gives meaning to."""
        return Layout(
            digest=self.digest,
            names=(
                *self.names,
                *(name + MISSING_SUFFIX for name in self.names),
                *(self.names[k] + LEVEL_SUFFIX for k in self.levels),
            ),
            sizes=(
                *(len(column.gaps) for column in self.columns),
                *(2 for _ in self.columns),
                *(len(column.gaps) for column in self.levels.values()),
            ),
            levels=tuple(self.levels),
        )

    @cached_property
    def weights(self) -> Floats:
        """Prior weight of each track (T,): an eighth is the missing flags', evenly; the rest is shared out by family
        first, then evenly. Of a scalar's weight its residuals have three quarters and its level one."""
        members = {family: self.families.count(family) for family in self.families}
        shares = [(1 - FLAG_WEIGHT) / (len(members) * members[family]) for family in self.families]
        levels = [shares[k] * LEVEL_WEIGHT for k in self.levels]
        for k in self.levels:
            shares[k] *= 1 - LEVEL_WEIGHT
        return np.array([*shares, *[FLAG_WEIGHT / len(shares)] * len(shares), *levels])

    @cached_property
    def value_tracks(self) -> dict[int, Column]:
        """The tracks of ordered numbers: of values or residuals, and of levels."""
        found = {k: column for k, column in enumerate(self.columns) if column.kind == VALUE}
        return found | {2 * len(self.columns) + v: column for v, column in enumerate(self.levels.values())}

    def scalar(self, track: int) -> int:
        """The scalar that a track is of."""
        scalars = len(self.columns)
        return track % scalars if track < 2 * scalars else tuple(self.levels)[track - 2 * scalars]

    def memory_of(self, track: int) -> float:
        """Memory τ of the scalar whose residuals ``track`` is of; 0 of all other tracks."""
        memory = self.memories[track] if track < len(self.columns) else None
        return memory.tau if memory is not None and memory.serial.model.order else 0.0

    def banded(self, track: int) -> bool:
        """Whether a value track has a band from the start: the reference itself moves, or its model is uncertain."""
        memory = self.memories[self.scalar(track)]
        return memory is not None and (memory.band > 0 or memory.slack > 0)

    def reach(self, track: int, delta: float) -> float:
        """How far the numbers of a value track move, in their own unit, when the scalar slowly moves by ``delta``
        robust sigmas, or by the band that the reference itself needs if that is more. Of a level that much; of the
        residuals of an autoregressive model |1 - Σφ| of it, since d_t - Σ φ_k d_{t-k} = (1 - Σφ) d for constant d."""
        scalar = self.scalar(track)
        memory = self.memories[scalar]
        if memory is None:
            return delta * self.columns[scalar].unit
        moved = max(delta, memory.band) * memory.unit
        if track != scalar or not memory.serial.model.order:
            return moved
        return max(moved * memory.serial.model.gain, memory.slack)

    def tau(self, name: str) -> float:
        """How many samples of the scalar or track ``name`` are worth one that is independent; 1 without a memory."""
        names = self.layout.names
        memory = self.memories[self.scalar(names.index(name))] if name in names else None
        return max(memory.tau, 1.0) if memory is not None else 1.0

    def save(self, path: Path | str) -> None:
        """Write the profile as ``.npz``, atomically.

        Raises:
            ProfileError: the file can't be written.
        """
        save_arrays(path, self.to_arrays())

    @classmethod
    def load(cls, path: Path) -> ReferenceProfile:
        """Read what :meth:`save` wrote; sizes are bounded and nothing is executed.

        Raises:
            ProfileError: missing, damaged, or of another version.
        """
        return cls.from_arrays(load_arrays(path))

    def to_arrays(self) -> Arrays:
        """The content as arrays: one entry a scalar, or all scalars' end to end with ``<name>_lengths``."""
        return to_arrays(self.names, self.families, self.columns, self.memories)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> ReferenceProfile:
        """The profile that :meth:`to_arrays` took apart.

        Raises:
            ProfileError: arrays are missing, malformed, or of another version.
        """
        return cls(*columns_from(arrays))


def _check_names(names: tuple[str, ...], families: tuple[str, ...], levels: tuple[str, ...]) -> None:
    tracks = [*names, *(name + MISSING_SUFFIX for name in names), *levels]
    if len(set(tracks)) != len(tracks):
        twice = next(name for name in tracks if tracks.count(name) > 1)
        raise ProfileError(f"name {twice!r} appears twice; watched scalars need names of their own")
    for name in (*names, *families):
        if not isinstance(name, str) or not 1 <= len(name) <= 128 or "\0" in name:
            raise ProfileError(f"name {name!r} must be a string of 1 to 128 characters")
