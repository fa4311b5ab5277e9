"""Rows of columns, whatever is in them: Parse (text to numbers), Choose, Combine."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from shared.pipeline.base import Array, ArrayOperation, Floats, check_numbers, check_size, refuse
from shared.pipeline.tables import Categories, Column

NAN = math.nan
LARGEST = float(np.finfo(np.float32).max)


def text_of(value: Any) -> str:
    """A cell's value as the text that :class:`Parse` reads: nothing for what is missing, a whole number without a
    fraction.

    >>> text_of(3.0), text_of(None), text_of("spring"), text_of(0.25)
    ('3', '', 'spring', '0.25')
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return ""
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else str(value)
    return str(value)


def number_of(cell: str) -> float:
    """The number that a cell's text is; NaN where it is none, or none that float32 can hold.

    >>> number_of(" 2.5 "), number_of("n/a"), number_of("inf")
    (2.5, nan, nan)
    """
    try:
        value = float(cell)
    except ValueError:
        return NAN
    return value if abs(value) <= LARGEST else NAN


def seconds_of(cell: str) -> float:
    """Seconds since 1970 that a cell's text means: a number, or a date of ISO 8601 (in UTC where it names no zone);
    NaN where it is neither.

    >>> seconds_of("1970-01-02"), seconds_of("1970-01-01T02:00+01:00"), seconds_of("90.5"), seconds_of("soon")
    (86400.0, 3600.0, 90.5, nan)
    """
    try:
        return number_of(cell) if cell[:1].isdigit() and "-" not in cell[1:5] and ":" not in cell else _iso(cell)
    except (ValueError, OverflowError):
        return number_of(cell)


def _iso(cell: str) -> float:
    moment = datetime.fromisoformat(cell.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class Parse(ArrayOperation, frozen=True, tag="parse", dict=True):
    """Rows of text become rows of numbers, column by column: those in ``categories`` the place of their value among the
    known ones (``unknown`` for others), those in ``times`` seconds since 1970 (of a number, or of a date in ISO 8601),
    all others the number that the text is. What is empty or no number is missing (NaN); an empty category is unknown,
    unless it is among the known ones.

    >>> Parse(width=2, categories=(Categories(1, ("no", "yes")),))(np.array([["1.5", "yes"], ["?", "maybe"]]))
    array([[ 1.5,  1. ],
           [ nan, -1. ]], dtype=float32)
    """

    width: Annotated[int, Meta(ge=1, le=65_536)]
    categories: tuple[Categories, ...] = ()
    times: tuple[Column, ...] = ()
    unknown: int = -1

    def __post_init__(self) -> None:
        special = [*(entry.column for entry in self.categories), *self.times]
        if len(set(special)) != len(special) or max(special, default=0) >= self.width:
            raise ValueError(f"parse: categories and times must be different columns below {self.width}")
        if any(not isinstance(value, str) for entry in self.categories for value in entry.values):
            raise ValueError("parse: categories must be words")
        check_size(self, sum(len(entry.values) for entry in self.categories))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the result: float64 where it holds seconds since 1970, else float32."""
        return np.dtype(np.float64 if self.times else np.float32)

    @cached_property
    def _readers(self) -> tuple[Callable[[str], float], ...]:
        readers: list[Callable[[str], float]] = [number_of] * self.width
        for column in self.times:
            readers[column] = seconds_of
        for entry in self.categories:
            readers[entry.column] = _coder(entry, float(self.unknown))
        return tuple(readers)

    def __call__(self, batch: Array) -> Array:
        """(n, width) text -> (n, width) float32, or float64 with ``times``."""
        self._check(batch)
        out = np.empty(batch.shape, self.dtype)
        for column, read in enumerate(self._readers):
            out[:, column] = [read(cell) for cell in batch[:, column].tolist()]
        return out

    def into(self, target: Array, source: Array) -> Callable[[Array], None]:
        """The same, written into ``target``, for batches like ``source``."""
        self._check(source)
        readers, first = self._readers, target[0]

        def run(batch: Array) -> None:
            first[:] = [read(cell) for read, cell in zip(readers, batch[0].tolist(), strict=True)]

        return run

    def _check(self, batch: Array) -> None:
        takes = f"rows of text (n, {self.width})"
        if batch.dtype.kind not in "UO" or batch.ndim != 2 or batch.shape[1] != self.width:
            raise refuse(self, takes, batch)
        if batch.dtype.kind == "O" and not all(isinstance(cell, str) for cell in batch.ravel().tolist()):
            raise ValueError(f"parse: takes {takes}, got cells that are no text")

    @classmethod
    def fit(cls, batch: Array, categories: tuple[int, ...] = (), times: tuple[int, ...] = ()) -> Self:
        """Learn the values of ``categories`` from training data (n, width) of text: those that are there at least once,
        in their order; the empty text is one of them if it is there."""
        known = tuple(Categories(c, tuple(sorted({str(cell) for cell in batch[:, c].tolist()}))) for c in categories)
        return cls(width=batch.shape[1], categories=known, times=times)


def _coder(entry: Categories, unknown: float) -> Callable[[str], float]:
    places = {str(value): float(place) for place, value in enumerate(entry.values)}
    return lambda cell: places.get(cell, unknown)


class Choose(ArrayOperation, frozen=True, tag="choose"):
    """Keep these ``columns``, in this order: what the selection of features has left.

    >>> Choose(columns=(2, 0))(np.array([[1.0, 2.0, 3.0]]))
    array([[3., 1.]])
    """

    columns: Annotated[tuple[Column, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        check_size(self, len(self.columns))

    def __call__(self, batch: Array) -> Array:
        """(n, ..., c) -> (n, ..., len(columns)), dtype kept."""
        self._check(batch)
        return np.ascontiguousarray(np.take(batch, self.columns, axis=-1))

    def into(self, target: Array, source: Array) -> Callable[[Array], None]:
        """The same, written into ``target``, for batches like ``source``."""
        self._check(source)
        columns, take = np.array(self.columns, np.intp), np.take

        def run(batch: Array) -> None:
            take(batch, columns, -1, target, "clip")  # with "raise" numpy would fill a buffer first

        return run

    def _check(self, batch: Array) -> None:
        check_numbers(self, batch)
        if batch.ndim < 2 or max(self.columns) >= batch.shape[-1]:
            raise refuse(self, f"rows of at least {max(self.columns) + 1} columns", batch)


class Pair(Struct, frozen=True, forbid_unknown_fields=True):
    """One new column: the ``difference`` a - b, the ``product`` a · b or the ``ratio`` a / b (0 where b is) of two."""

    how: Literal["difference", "product", "ratio"]
    a: Column
    b: Column


class Combine(ArrayOperation, frozen=True, tag="combine"):
    """Append a column for each of ``pairs``; what is missing in one of the two is missing in the result.

    >>> Combine(pairs=(Pair("ratio", 0, 1), Pair("difference", 1, 0)))(np.array([[6.0, 3.0]]))
    array([[ 6.,  3.,  2., -3.]], dtype=float32)
    """

    pairs: Annotated[tuple[Pair, ...], Meta(min_length=1, max_length=4096)]

    def __call__(self, batch: Array) -> Floats:
        """(n, ..., c) -> (n, ..., c + len(pairs)) float32."""
        self._check(batch)
        columns = batch.shape[-1]
        out = np.empty((*batch.shape[:-1], columns + len(self.pairs)), np.float32)
        out[..., :columns] = batch
        x = out[..., :columns]
        for at, a, b, compute in self._groups(columns):
            out[..., at] = compute(x[..., a], x[..., b])
        return out

    def into(self, target: Array, source: Array) -> Callable[[Array], None]:
        """The same, written into ``target``, for batches like ``source``."""
        self._check(source)
        columns = source.shape[-1]
        groups, head = self._groups(columns), target[..., :columns]

        def run(batch: Array) -> None:
            head[...] = batch
            for at, a, b, compute in groups:
                target[..., at] = compute(head[..., a], head[..., b])

        return run

    def _groups(self, columns: int) -> list[tuple[Array, Array, Array, Callable[[Array, Array], Array]]]:
        """For each way to combine: where the results go, the columns of both, the function."""
        groups: list[tuple[Array, Array, Array, Callable[[Array, Array], Array]]] = []
        for how, compute in (("difference", np.subtract), ("product", np.multiply), ("ratio", _ratio)):
            which = [k for k, pair in enumerate(self.pairs) if pair.how == how]
            if which:
                a, b = (np.array([getattr(self.pairs[k], side) for k in which], np.intp) for side in "ab")
                groups.append((np.array(which, np.intp) + columns, a, b, compute))
        return groups

    def _check(self, batch: Array) -> None:
        check_numbers(self, batch)
        least = max(max(pair.a, pair.b) for pair in self.pairs) + 1
        if batch.ndim < 2 or batch.shape[-1] < least:
            raise refuse(self, f"rows of at least {least} columns", batch)


def _ratio(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        found = np.divide(a, b, out=np.zeros_like(a), where=b != 0)
    limited: NDArray[Any] = np.minimum(np.maximum(found, np.float32(-LARGEST)), np.float32(LARGEST))
    return limited
