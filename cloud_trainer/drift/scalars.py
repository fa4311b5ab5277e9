"""Which scalars of a table are watched, chosen from the first rows of the reference.

Numbers are values, texts are categories, free text is watched by its length, its words and its share beyond ASCII. What
could only cry wolf is left out and named: counters, identifiers and times.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.drift import cells
from cloud_trainer.drift.cells import Cells, Odd
from cloud_trainer.drift.tables import Chunk, Table
from cloud_trainer.drift.times import is_timestamp
from shared.drift.bins import CATEGORY, LEAST_VALUES, VALUE
from shared.drift.statistics import TEXT
from shared.errors import UsageError

FREE_TEXT = "text"
SNIFFED = 10_000
SHOWN = 8
NUMBERS_SHARE = 0.5
"""A column is of values if more than this share of its cells are numbers; the others then count as missing."""
DISTINCT_SHARE = 0.5
LEAST_COUNTED = 50


class Choice(Struct, frozen=True):
    """What the user asked for. ``columns``: the only ones to watch, () for all that can be; ``ignore``: not these;
    ``category``: numbers that only name something; ``time``: the column with the time, "" for none."""

    columns: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    time: str = ""

    def check(self, table: Table) -> None:
        """Raise ``UsageError`` if a column that was named is not there."""
        given = (("--columns", self.columns), ("--ignore", self.ignore), ("--category", self.category))
        for option, names in (*given, ("--time", (self.time,) if self.time else ())):
            for name in names:
                if name not in table.names:
                    raise UsageError(f"{option}: {table.path} has no column {name!r}; {closest(name, table.names)}")


class Scalar(Struct, frozen=True):
    """One watched scalar: its name, the column it comes from, and "value", "category" or, of a text, the place of its
    statistic in ``TEXT``."""

    name: str
    column: str
    kind: str
    statistic: int = 0


class Plan(Struct, frozen=True):
    """Scalars to watch, and what was left out: column -> reason."""

    scalars: tuple[Scalar, ...]
    left_out: dict[str, str]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns to read."""
        return tuple(dict.fromkeys(scalar.column for scalar in self.scalars))

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds as a reference profile takes them."""
        return tuple(CATEGORY if scalar.kind == CATEGORY else VALUE for scalar in self.scalars)

    def rows(self, chunk: Chunk, odd: dict[str, Odd], *, comma: bool) -> NDArray[np.float64]:
        """Rows (n, scalars) of a chunk; cells that are no numbers are noted in ``odd`` by column."""
        found = np.empty((chunk.rows, len(self.scalars)))
        texts: dict[str, NDArray[np.float64]] = {}
        for k, scalar in enumerate(self.scalars):
            column = chunk.columns[scalar.column]
            if scalar.kind == CATEGORY:
                found[:, k] = cells.codes(column)
            elif scalar.kind == FREE_TEXT:
                if scalar.column not in texts:
                    texts[scalar.column] = cells.texts(column)
                found[:, k] = texts[scalar.column][:, scalar.statistic]
            else:
                found[:, k] = cells.values(column, odd.setdefault(scalar.column, Odd()), chunk.place, comma=comma)
        return found


def closest(name: str, names: Sequence[str]) -> str:
    """What may have been meant, or what there is.

    >>> closest("tmp", ["temp", "hum"]), closest("x", ["temp", "hum"])
    ("did you mean 'temp'?", 'it has temp, hum')
    """
    close = difflib.get_close_matches(name, names, 1)
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    return f"did you mean {close[0]!r}?" if close else f"it has {', '.join(names[:SHOWN])}{more}"


def plan(table: Table, choice: Choice) -> Plan:
    """What to watch of ``table``, the reference.

    Raises:
        UsageError: a column that was named is not there, has no values, or nothing is left to watch.
    """
    choice.check(table)
    named = [name for name in choice.columns if name != choice.time]
    candidates = named or [name for name in table.names if name not in {*choice.ignore, choice.time}]
    if choice.columns:
        candidates = [name for name in candidates if name not in choice.ignore]
    if not candidates:
        raise UsageError(f"{table.path}: no column is left to watch")
    head = _head(table, candidates)
    scalars: list[Scalar] = []
    left_out = {n: why for n, why in table.left_out.items() if n not in choice.ignore}
    empty = []
    for name in candidates:
        kind, why = _judge(head[name], wanted=name in choice.category, comma=table.comma)
        if kind == "":
            empty.append(name)
        elif why and name not in choice.columns and name not in choice.category:
            left_out[name] = why
        elif kind == FREE_TEXT:
            scalars += [Scalar(f"{name}.{statistic}", name, FREE_TEXT, i) for i, statistic in enumerate(TEXT)]
        else:
            scalars.append(Scalar(name, name, kind))
    if empty:
        shown = ", ".join(empty[:SHOWN])
        several = "columns have" if len(empty) > 1 else "column has"
        raise UsageError(
            f"{table.path}: {several} fewer than {LEAST_VALUES} values in the reference: {shown}; "
            f"leave out with --ignore {','.join(empty)}"
        )
    if not scalars:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:SHOWN])
        raise UsageError(f"{table.path}: no column can be watched ({reasons})")
    return Plan(tuple(scalars), left_out)


def plan_for_profile(table: Table, names: Sequence[str], kinds: Sequence[str], reference: str) -> Plan:
    """How to get the scalars of a saved profile out of ``table``.

    Raises:
        UsageError: a column is missing.
    """
    scalars = []
    for name, kind in zip(names, kinds, strict=True):
        column, _, statistic = name.rpartition(".")
        if name in table.names:
            scalars.append(Scalar(name, name, kind))
        elif column in table.names and statistic in TEXT:
            scalars.append(Scalar(name, column, FREE_TEXT, TEXT.index(statistic)))
        else:
            raise UsageError(
                f"{table.path} has no column {name!r}, which {reference} has; {closest(name, table.names)}"
            )
    return Plan(tuple(scalars), {})


def check_same(table: Table, plan: Plan, time: str, reference: str) -> tuple[str, ...]:
    """Columns of ``table``, the data, that the reference doesn't have.

    Raises:
        UsageError: one that the reference has is missing.
    """
    missing = [name for name in (*plan.columns, *([time] if time else [])) if name not in table.names]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UsageError(
            f"{table.path} has no column {missing[0]!r}{more}, which {reference} has; "
            f"{closest(missing[0], table.names)}"
        )
    return tuple(name for name in table.names if name not in {*plan.columns, *plan.left_out, time})


def _head(table: Table, names: Sequence[str]) -> dict[str, Cells]:
    parts: dict[str, list[Cells]] = {name: [] for name in names}
    rows = 0
    for chunk in table.chunks(names):
        for name in names:
            parts[name].append(chunk.columns[name])
        rows += chunk.rows
        if rows >= SNIFFED:
            break
    if not rows:
        raise UsageError(f"{table.path}: no rows; expected a line of column names and rows below it")
    return {name: np.concatenate(found) for name, found in parts.items()}


def _judge(column: Cells, *, wanted: bool, comma: bool) -> tuple[str, str]:
    """Kind of a column, "" if it has too few values, and why it should rather be left out, "" if it should not.
    ``wanted``: as a category."""
    if column.dtype.kind == "M":
        return VALUE, "it holds times; name it with --time"
    if wanted:
        return (CATEGORY if np.count_nonzero(~np.isnan(cells.codes(column))) >= LEAST_VALUES else ""), ""
    odd = Odd()
    numbers = cells.values(column, odd, str, comma=comma)
    finite = numbers[~np.isnan(numbers)]
    if len(finite) > NUMBERS_SHARE * (len(finite) + odd.count) and len(finite) >= LEAST_VALUES:
        if len(column) >= LEAST_COUNTED and len(finite) == len(column) and (np.diff(finite) > 0).all():
            return VALUE, "it counts up from row to row"
        return VALUE, ""
    return _judge_texts([str(cell) for cell in column.tolist() if not _absent(cell)])


def _absent(cell: Any) -> bool:
    return (
        cell is None
        or (isinstance(cell, float) and np.isnan(cell))
        or (isinstance(cell, str) and cells.is_missing(cell))
    )


def _judge_texts(words: Sequence[str]) -> tuple[str, str]:
    if len(words) < LEAST_VALUES:
        return "", ""
    if all(map(is_timestamp, words[:100])):
        return CATEGORY, "it holds times; name it with --time"
    if len(set(words)) <= DISTINCT_SHARE * len(words):
        return CATEGORY, ""
    if np.mean([" " in word.strip() for word in words]) > DISTINCT_SHARE:
        return FREE_TEXT, ""
    return CATEGORY, "almost every row has another text, like a name or an id"
