"""The truth: cells of the target column as classes or as numbers. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.data.findings import Finding
from cloud_trainer.data.table import BAD_SHARE, Table, number_of, parse, words
from shared.errors import DataError

MOST_CLASSES = 1000
"""More different values of a target are no classes but numbers, names or mistakes."""


class Target(Struct, frozen=True, eq=False):
    """``y`` of the rows that have one: classes (m,) int64 of ``labels``, or numbers (m,) float32. ``rows`` (m,) says
    which those are."""

    y: NDArray[Any]
    labels: tuple[str, ...]
    rows: NDArray[np.intp]
    findings: tuple[Finding, ...] = ()


def ordered(names: set[str]) -> tuple[str, ...]:
    """Labels in an order that does not depend on the rows': numbers by value, then words.

    >>> ordered({"10", "9", "b", "a"})
    ('9', '10', 'a', 'b')
    """

    def key(name: str) -> tuple[bool, float, str]:
        number = number_of(name, comma=False)
        return (number is None, number or 0.0, name)

    return tuple(sorted(names, key=key))


def as_classes(table: Table, name: str) -> Target:
    """Column ``name`` as classes; rows without one are left out.

    Raises:
        DataError: there are no labels, or far too many to be classes.
    """
    found = words(table.required("target", name))
    rows = np.flatnonzero(found != "")
    if not len(rows):
        raise DataError(f"{table.path}: target column {name!r} is empty in every row; there is nothing to learn from")
    labels = ordered(set(found[rows].tolist()))
    fractions = sum((number := number_of(label, comma=False)) is not None and number % 1 != 0 for label in labels)
    if len(labels) > MOST_CLASSES or (fractions > 20 and len(labels) > len(rows) / 20):
        raise DataError(
            f"{table.path}: target column {name!r} has {len(labels)} different values in {len(rows)} rows, too many to "
            "be classes; numbers are foretold by kind 'tabular-regression'"
        )
    index = {label: i for i, label in enumerate(labels)}
    y = np.array([index[cell] for cell in found[rows]], np.int64)
    return Target(y, labels, rows, _left_out(table, name, rows, len(found)))


def as_numbers(table: Table, name: str) -> Target:
    """Column ``name`` as numbers; rows without one are left out.

    Raises:
        DataError: at least 1 % of its cells are something else, or none is a number.
    """
    cells = table.required("target", name)
    parsed = parse(cells, comma=table.comma)
    if parsed.share() >= BAD_SHARE:
        first = int(parsed.bad[0])
        raise DataError(
            f"{table.place(first)}: target column {name!r} has {str(cells[first])[:40]!r}; {len(parsed.bad)} of its "
            f"{len(cells)} cells are no numbers, expected all to be (classes: kind 'tabular-classification')"
        )
    rows = np.flatnonzero(np.isfinite(parsed.values))
    if not len(rows):
        raise DataError(
            f"{table.path}: target column {name!r} has no number in any row; there is nothing to learn from"
        )
    with np.errstate(over="ignore"):
        y = parsed.values[rows].astype(np.float32)
    if not np.isfinite(y).all():
        first = int(rows[~np.isfinite(y)][0])
        raise DataError(
            f"{table.place(first)}: target column {name!r} has {parsed.values[first]:g}, more than float32 holds; "
            "use a larger unit"
        )
    if len(rows) > 1 and y.min() == y.max():
        raise DataError(f"{table.path}: target column {name!r} is {y[0]:g} in every row; there is nothing to foretell")
    return Target(y, (), rows, _left_out(table, name, rows, len(cells)))


def _left_out(table: Table, name: str, rows: NDArray[np.intp], count: int) -> tuple[Finding, ...]:
    if len(rows) == count:
        return ()
    first = int(np.setdiff1d(np.arange(count), rows, assume_unique=True)[0])
    text = f"{count - len(rows)} of {count} rows have no usable target {name!r} (first: {table.place(first)}): left out"
    return (Finding("labels missing", "warning", text, name),)
