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

from shared.drift.arrays import Arrays, load_arrays, save_arrays, take
from shared.drift.bins import CATEGORY, VALUE, Column, Floats, fit_category, fit_value
from shared.errors import ProfileError

FORMAT = 1
LEAST_ROWS = 50
MAX_COLUMNS = 4096
MAX_BINS = 64
FAMILIES = ("inputs", "quality", "embedding", "confidence", "classes")
FLAG_WEIGHT = 1 / 8
"""Prior weight of all missing flags: what goes missing is found by a few samples, so that a low weight costs little."""
MISSING_SUFFIX = ".missing"
_RAGGED = ("edges", "tiebreaks", "gaps", "scores", "centers", "sketch")


class Layout(Struct, frozen=True):
    """The tracks of a profile: its scalars, then the missing flag of each. ``names`` and bins of each (T,)."""

    digest: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def width(self) -> int:
        """Bins of the widest track."""
        return max(self.sizes, default=0)

    @property
    def scalars(self) -> int:
        """Number of watched scalars."""
        return len(self.names) // 2


class ReferenceProfile:
    """The reference of F watched scalars.

    ``names``, ``families`` and ``kinds`` ("value" or "category") have one entry a scalar; ``level`` says for each
    name what could be promised; ``digest`` is the first 16 hex digits of the content's SHA-256.

    >>> rng = np.random.default_rng(0)
    >>> profile = ReferenceProfile.fit(rng.normal(size=(500, 2)), names=["width", "height"])
    >>> profile.level["width"], len(profile.digest)
    ('promised', 16)
    """

    def __init__(self, names: Sequence[str], families: Sequence[str], columns: Sequence[Column]) -> None:
        self.names = tuple(names)
        self.families = tuple(families)
        self.columns = tuple(columns)
        self.kinds = tuple(column.kind for column in self.columns)
        self.level = dict.fromkeys(self.names, "promised")
        _check_names(self.names, self.families)

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
        """Learn the reference from ``X`` (n, F) or (n,) float, n >= 50 rows in any order; NaN is missing.

        Args:
            names: F different names; "x0", "x1", ... by default.
            bins: bins between the smallest and the largest reference value; two more lie outside.
            families: F group names; evidence is weighted by family first, so that many inputs don't drown one
            confidence.
            kinds: F of "value" (ordered numbers) or "category" (numbers that only name something).
            seed: of the uniform numbers that order ties.

        Raises:
            ProfileError: fewer than 50 rows, fewer than 10 values in a column, or arguments that don't fit.
        """
        if time_ordered:
            raise ProfileError(
                "time_ordered=True: time-ordered references aren't supported in this version; "
                "leave it out if the rows are exchangeable"
            )
        try:
            rows = np.asarray(X, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ProfileError(f"a reference is a table of numbers, rows by columns ({error})") from error
        if rows.ndim == 1:
            rows = rows[:, None]
        if rows.ndim != 2 or not 1 <= rows.shape[1] <= MAX_COLUMNS:
            raise ProfileError(f"a reference is a table of rows by 1 to {MAX_COLUMNS} columns, got shape {rows.shape}")
        n, width = rows.shape
        if n < LEAST_ROWS:
            raise ProfileError(f"a reference of {n} rows; at least {LEAST_ROWS} are needed")
        if not 4 <= bins <= MAX_BINS:
            raise ProfileError(f"bins must be 4 to {MAX_BINS}, got {bins}")
        names = tuple(names) if names is not None else tuple(f"x{k}" for k in range(width))
        families = tuple(families) if families is not None else ("inputs",) * width
        kinds = tuple(kinds) if kinds is not None else (VALUE,) * width
        for what, given in (("names", names), ("families", families), ("kinds", kinds)):
            if len(given) != width:
                raise ProfileError(f"{len(given)} {what} for {width} columns; one each is needed")
        unknown = set(kinds) - {VALUE, CATEGORY}
        if unknown:
            raise ProfileError(f"kind {min(unknown)!r} is neither {VALUE!r} nor {CATEGORY!r}")
        rng = np.random.default_rng(seed)
        columns = []
        for name, kind, column in zip(names, kinds, rows.T, strict=True):
            there = column[~np.isnan(column)]
            missing = n - len(there)
            columns.append(
                fit_category(there, missing, bins, name)
                if kind == CATEGORY
                else fit_value(there, missing, bins, rng, name)
            )
        return cls(names, families, columns)

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
            names=(*self.names, *(name + MISSING_SUFFIX for name in self.names)),
            sizes=(*(len(column.gaps) for column in self.columns), *(2 for _ in self.columns)),
        )

    @cached_property
    def weights(self) -> Floats:
        """Prior weight of each track (2F,): an eighth is the missing flags', evenly; the rest is shared out by family
        first, then evenly."""
        members = {family: self.families.count(family) for family in self.families}
        scalars = [(1 - FLAG_WEIGHT) / (len(members) * members[family]) for family in self.families]
        return np.array(scalars + [FLAG_WEIGHT / len(scalars)] * len(scalars))

    def gaps(self, track: int) -> Floats:
        """Reference weights of one track: of its column, or for a missing flag present and missing (plus one)."""
        if track < len(self.columns):
            return self.columns[track].gaps
        column = self.columns[track - len(self.columns)]
        return np.array([column.present, column.missing + 1.0])

    def save(self, path: Path) -> None:
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
        arrays: Arrays = {
            "format": np.array([FORMAT]),
            "names": np.array(self.names),
            "families": np.array(self.families),
            "kinds": np.array(self.kinds),
            "unit": np.array([column.unit for column in self.columns]),
            "rows": np.array([(column.present, column.missing) for column in self.columns]),
        }
        for field in _RAGGED:
            parts = [getattr(column, field) for column in self.columns]
            arrays[field] = np.concatenate(parts)
            arrays[f"{field}_lengths"] = np.array([len(part) for part in parts])
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> ReferenceProfile:
        """The profile that :meth:`to_arrays` took apart.

        Raises:
            ProfileError: arrays are missing, malformed, or of another version.
        """
        found = take(arrays, "format", "i")
        if len(found) != 1 or int(found[0]) != FORMAT:
            raise ProfileError(
                f"drift profile: format {found.tolist()}, but this version of sanderling reads format {FORMAT}"
            )
        names, families, kinds = (tuple(take(arrays, key, "U").tolist()) for key in ("names", "families", "kinds"))
        unit, rows = take(arrays, "unit", "f"), take(arrays, "rows", "i", 2)
        width = len(names)
        if (
            not 1 <= width <= MAX_COLUMNS
            or {len(families), len(kinds), len(unit)} != {width}
            or rows.shape != (width, 2)
        ):
            raise ProfileError("drift profile: names, families, kinds, unit and rows differ in length")
        ragged = {field: _split(arrays, field, width) for field in _RAGGED}
        columns = [
            Column(
                kind=kinds[k],
                unit=float(unit[k]),
                present=int(rows[k, 0]),
                missing=int(rows[k, 1]),
                **{field: ragged[field][k] for field in _RAGGED},
            )
            for k in range(width)
        ]
        for name, column in zip(names, columns, strict=True):
            _check_column(name, column)
        return cls(names, families, columns)


def _split(arrays: Mapping[str, NDArray[np.generic]], field: str, width: int) -> list[Floats]:
    flat, lengths = take(arrays, field, "f"), take(arrays, f"{field}_lengths", "i")
    if len(lengths) != width or (lengths < 0).any() or lengths.sum() != len(flat):
        raise ProfileError(f"drift profile: array {field!r} doesn't have the length that {field}_lengths says")
    return [np.array(part, dtype=np.float64) for part in np.split(flat, np.cumsum(lengths)[:-1])]


def _check_names(names: tuple[str, ...], families: tuple[str, ...]) -> None:
    tracks = [*names, *(name + MISSING_SUFFIX for name in names)]
    if len(set(tracks)) != len(tracks):
        twice = next(name for name in tracks if tracks.count(name) > 1)
        raise ProfileError(f"name {twice!r} appears twice; watched scalars need names of their own")
    for name in (*names, *families):
        if not isinstance(name, str) or not 1 <= len(name) <= 128 or "\0" in name:
            raise ProfileError(f"name {name!r} must be a string of 1 to 128 characters")


def _check_column(name: str, column: Column) -> None:
    """Refuse what could not have come from ``fit``."""
    bins = len(column.gaps)
    wrong = (
        column.kind not in {VALUE, CATEGORY}
        or not 2 <= bins <= MAX_BINS + 2
        or {len(column.edges), len(column.tiebreaks) if column.kind == VALUE else bins - 1} != {bins - 1}
        or {len(column.scores), len(column.centers)} != {bins}
        or (column.kind == VALUE and not len(column.sketch))
        or not (column.present >= 1 and column.missing >= 0)
        or not (np.isfinite(column.unit) and column.unit >= 0)
        or not (column.gaps >= 1).all()
        or not (
            np.isfinite(column.gaps).all() and np.isfinite(column.scores).all() and np.isfinite(column.centers).all()
        )
        or np.isnan(column.edges).any()
        or (column.edges[1:] < column.edges[:-1]).any()
        or np.isnan(column.sketch).any()
        or (column.sketch[1:] < column.sketch[:-1]).any()
    )
    if wrong:
        raise ProfileError(f"drift profile: column {name!r} is malformed")
