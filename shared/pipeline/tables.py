"""Rows of columns: Impute, OneHot, Ordinal, EmbeddingIndex."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from shared.pipeline.base import (
    LIMIT_WORDS,
    Array,
    ArrayOperation,
    Floats,
    check_numbers,
    check_size,
    refuse,
)

Column = Annotated[int, Meta(ge=0, le=65_535)]
Category = float | str


class Impute(ArrayOperation, frozen=True, tag="impute"):
    """Put ``values`` where a number is missing (NaN): one for all, or one for each entry of the last axis. For each
    column in ``flags``, a column is appended that is 1 where the number was missing (scikit-learn's
    ``SimpleImputer(add_indicator=True)``).

    >>> Impute(values=(5.0, 6.0), flags=(1,))(np.array([[np.nan, 1.0], [2.0, np.nan]]))
    array([[5., 1., 0.],
           [2., 6., 1.]])
    """

    values: Annotated[tuple[float, ...], Meta(min_length=1)]
    flags: tuple[Column, ...] = ()

    def __call__(self, batch: Array) -> Array:
        """(n, ..., c) -> (n, ..., c + flags), floats keep their dtype, others become float32."""
        self._check(batch)
        x = batch if batch.dtype.kind == "f" else batch.astype(np.float32)
        missing = np.isnan(x)
        filled = np.where(missing, np.asarray(self.values, x.dtype), x)
        if not self.flags:
            return filled
        return np.concatenate([filled, missing[..., self.flags].astype(x.dtype)], axis=-1)

    def into(self, target: Array, source: Array) -> Callable[[Array], None]:
        """The same, written into ``target``, for batches like ``source``."""
        self._check(source)
        columns = source.shape[-1]
        numbers, marks = target[..., :columns], target[..., columns:]
        values = np.ascontiguousarray(np.broadcast_to(np.asarray(self.values, target.dtype), source.shape))
        missing, flags = np.empty(source.shape, bool), np.array(self.flags, np.intp)
        copy, isnan, marked = np.copyto, np.isnan, bool(self.flags)

        def run(batch: Array) -> None:
            copy(numbers, batch)
            isnan(numbers, missing)
            copy(numbers, values, where=missing)
            if marked:
                marks[...] = missing[..., flags]

        return run

    def _check(self, batch: Array) -> None:
        check_numbers(self, batch)
        if (
            batch.ndim < 2
            or len(self.values) not in {1, batch.shape[-1]}
            or max(self.flags, default=0) >= max(batch.shape[-1], 1)
        ):
            columns = len(self.values) if len(self.values) > 1 else max(self.flags, default=0) + 1
            raise refuse(self, f"{columns} {'columns' if len(self.values) > 1 else 'or more columns'}", batch)

    @classmethod
    def fit(
        cls,
        batch: Array,
        *,
        strategy: Literal["mean", "median", "most_frequent"] = "mean",
        flags: bool = False,
    ) -> Self:
        """Learn the columns' values from training data (n, ..., c); a column without any number gets 0. ``flags``:
        mark the columns that missed numbers there."""
        columns = np.asarray(batch, np.float64).reshape(-1, batch.shape[-1])
        values = []
        for column in columns.T:
            known = column[~np.isnan(column)]
            if not known.size:
                values.append(0.0)
            elif strategy == "most_frequent":
                found, counts = np.unique(known, return_counts=True)
                values.append(float(found[counts.argmax()]))  # of equals the smallest
            else:
                values.append(float(known.mean() if strategy == "mean" else np.median(known)))
        missed = np.flatnonzero(np.isnan(columns).any(axis=0)).tolist() if flags else []
        made = cls(values=tuple(values), flags=tuple(missed))
        check_size(made, len(values) + len(missed))
        return made


class Categories(Struct, frozen=True, forbid_unknown_fields=True):
    """The known values of one column: numbers, or words."""

    column: Column
    values: Annotated[tuple[Category, ...], Meta(min_length=1, max_length=4096)]

    def __post_init__(self) -> None:
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"categories of column {self.column}: a value stands there twice")
        if len({isinstance(value, str) for value in self.values}) > 1:
            raise ValueError(f"categories of column {self.column}: numbers and words are mixed")


class OneHot(ArrayOperation, frozen=True, tag="one_hot"):
    """Each column in ``columns`` becomes as many as it has known values, 1 where the value is that one, in the place
    of the column; other columns stay as they are. A value that is not known gives zeros.

    Text samples, one word each, are a row of one column.

    >>> OneHot(columns=(Categories(0, (3, 5)),))(np.array([[5, 7], [4, 8]]))
    array([[0., 1., 7.],
           [0., 0., 8.]], dtype=float32)
    """

    columns: Annotated[tuple[Categories, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        _check_columns(self, self.columns)

    def __call__(self, batch: Array) -> Floats:
        """(n, c) numbers or text, or (n,) text -> (n, columns of the result) float32."""
        rows = _rows(self, batch, self.columns)
        known = {entry.column: entry.values for entry in self.columns}
        parts = []
        for column in range(rows.shape[1]):
            values = rows[:, column]
            if column not in known:
                parts.append(values.astype(np.float32)[:, None])
                continue
            found = find(known[column], values)
            parts.append((found[:, None] == np.arange(len(known[column]))).astype(np.float32))
        return np.concatenate(parts, axis=1)

    def into(self, target: Array, source: Array) -> Callable[[Array], None]:
        """The same, written into ``target``, for batches like ``source``: of floats without a loop over columns."""
        rows = _rows(self, source, self.columns)
        copy = np.copyto
        if source.dtype.kind != "f":

            def write(batch: Array) -> None:
                copy(target, self(batch))

            return write
        known = {entry.column: entry.values for entry in self.columns}
        columns, values, plain = list[int](), list[float](), list[bool]()
        for column in range(rows.shape[1]):
            wanted = known.get(column, (0.0,))
            columns += [column] * len(wanted)
            values += wanted  # type: ignore[arg-type]  # numbers: the rows are
            plain += [column not in known] * len(wanted)
        places, compared, as_is = np.array(columns, np.intp), np.array(values, source.dtype), np.array(plain)
        spread, take, equal = np.empty(target.shape, source.dtype), np.take, np.equal
        some = bool(as_is.any())

        def run(batch: Array) -> None:
            take(batch, places, -1, spread, "clip")
            equal(spread, compared, target)
            if some:
                copy(target, spread, "same_kind", as_is)

        return run

    @classmethod
    def fit(cls, batch: Array, columns: tuple[int, ...] = (0,)) -> Self:
        """Learn the values of ``columns`` from training data, in their order."""
        return cls(columns=fit_categories(batch, columns))


class Ordinal(ArrayOperation, frozen=True, tag="ordinal"):
    """Each column in ``columns`` becomes the place of its value among the known ones, 0, 1, ...; ``unknown`` for
    others. Columns not named stay as they are.

    >>> Ordinal(columns=(Categories(0, ("low", "high")),))(np.array(["high", "low", "odd"]))
    array([[ 1.],
           [ 0.],
           [-1.]], dtype=float32)
    """

    columns: Annotated[tuple[Categories, ...], Meta(min_length=1)]
    unknown: int = -1
    dtype: Literal["float32", "int32", "int64"] = "float32"

    def __post_init__(self) -> None:
        _check_columns(self, self.columns)

    def __call__(self, batch: Array) -> Array:
        """(n, c) numbers or text, or (n,) text -> (n, c) of ``dtype``."""
        rows = _rows(self, batch, self.columns)
        known = {entry.column: entry.values for entry in self.columns}
        out = np.empty(rows.shape, self.dtype)
        for column in range(rows.shape[1]):
            if column in known:
                found = find(known[column], rows[:, column])
                out[:, column] = np.where(found < 0, self.unknown, found)
            else:
                out[:, column] = rows[:, column]
        return out

    @classmethod
    def fit(cls, batch: Array, columns: tuple[int, ...] = (0,), *, unknown: int = -1) -> Self:
        """Learn the values of ``columns`` from training data, in their order."""
        return cls(columns=fit_categories(batch, columns), unknown=unknown)


class EmbeddingIndex(ArrayOperation, frozen=True, tag="embedding_index", dict=True):
    """Ids (of users, machines, products) into rows of the model's embedding table: the place in ``ids`` plus
    ``first``, and ``unknown`` for an id that was not there in training.

    >>> EmbeddingIndex(ids=("pump", "fan"))(np.array(["fan", "belt"]))
    array([2, 0])
    """

    ids: Annotated[tuple[int | str, ...], Meta(min_length=1, max_length=LIMIT_WORDS)]
    unknown: int = 0
    first: int = 1
    dtype: Literal["int32", "int64"] = "int64"

    def __post_init__(self) -> None:
        if len(set(self.ids)) != len(self.ids) or len({isinstance(value, str) for value in self.ids}) > 1:
            raise ValueError("embedding_index: ids must differ, and be all numbers or all words")

    @cached_property
    def _places(self) -> dict[int | str, int]:
        return {value: place for place, value in enumerate(self.ids)}

    def __call__(self, batch: Array) -> Array:
        """(n, ...) whole numbers or text -> (n, ...) of ``dtype``."""
        text = isinstance(self.ids[0], str)
        if batch.dtype.kind not in ("UO" if text else "iu") or batch.ndim < 1:
            raise refuse(self, "text" if text else "whole numbers", batch)
        places = self._places
        found = np.fromiter((places.get(value, -1) for value in batch.reshape(-1).tolist()), np.intp, batch.size)
        found = found.reshape(batch.shape)
        return np.where(found < 0, self.unknown, found + self.first).astype(self.dtype)

    @classmethod
    def fit(cls, batch: Array) -> Self:
        """Learn the ids from training data, in their order."""
        return cls(ids=tuple(np.unique(batch.astype(str) if batch.dtype.kind in "UO" else batch).tolist()))


def find(known: tuple[Any, ...], values: Array) -> NDArray[np.intp]:
    """For each of ``values`` (n,) its place in ``known``; -1 where it is none of them. Numbers are compared in the
    dtype of ``values``: a float32 sample of 0.1 is the known value 0.1."""
    if isinstance(known[0], str):
        places = {value: place for place, value in enumerate(known)}
        return np.fromiter((places.get(value, -1) for value in values.tolist()), np.intp, len(values))
    wanted = np.asarray(known)
    if values.dtype.kind == "f":
        wanted = wanted.astype(values.dtype)
    elif wanted.dtype.kind == "f":
        values = values.astype(np.float64)
    order = np.argsort(wanted, kind="stable")
    place = order[np.minimum(np.searchsorted(wanted, values, sorter=order), len(known) - 1)]
    return np.where(wanted[place] == values, place, -1)


def fit_categories(batch: Array, columns: tuple[int, ...]) -> tuple[Categories, ...]:
    """The different values of each of ``columns`` in ``batch`` (n, c) or text (n,), sorted; NaN is none."""
    rows = batch[:, None] if batch.ndim == 1 else batch
    made = []
    for column in columns:
        values = rows[:, column]
        if values.dtype.kind in "UO":
            made.append(Categories(column, tuple(sorted({str(value) for value in values}))))
        else:
            made.append(Categories(column, tuple(float(value) for value in np.unique(values[values == values]))))  # noqa: PLR0124
    return tuple(made)


def _check_columns(operation: Struct, columns: tuple[Categories, ...]) -> None:
    if len({entry.column for entry in columns}) != len(columns):
        raise ValueError("columns: one stands there twice")
    check_size(operation, sum(len(entry.values) for entry in columns))


def _rows(operation: Struct, batch: Array, columns: tuple[Categories, ...]) -> Array:
    """``batch`` as (n, c), after checking that it fits ``columns``."""
    text = batch.dtype.kind in "UO"
    rows = batch[:, None] if text and batch.ndim == 1 else batch
    if batch.dtype.kind not in "biufUO" or rows.ndim != 2 or max(entry.column for entry in columns) >= rows.shape[1]:
        raise refuse(operation, f"rows (n, {max(entry.column for entry in columns) + 1} or more columns)", batch)
    if any(isinstance(entry.values[0], str) != text for entry in columns):
        raise refuse(operation, "numbers" if text else "text", batch)
    if text and len(columns) != rows.shape[1]:
        raise refuse(operation, f"text in {len(columns)} columns, each with known values", batch)
    return rows
