"""A table in memory, as every format of rows gives it, and what its columns are: numbers or words. Pure.

1. Every column has as many cells as the others.
2. A column is numbers if all its cells are numbers or missing, but for fewer than 1 %: those are then missing too, and
   a finding says so. Else it is words. What is no number but nearly all numbers is named in a finding, too.
3. Words are stripped texts, "" where they are missing. Numbers are float64, NaN where they are missing or infinite.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.data.findings import Finding, some
from shared.errors import DataError

Cells = NDArray[Any]
"""One column: float64, ``datetime64``, or objects that are str or None."""

MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "nat", "null", "?"})
BAD_SHARE = 0.01
"""Cells of a column of numbers that may be something else."""
MOSTLY = 0.5
LARGEST = float(np.finfo(np.float32).max)
"""What samples can hold: they are float32."""


class Table(Struct, frozen=True, eq=False):
    """``columns``: name -> cells (n,), in the file's order. ``lines``: where each row ends in a text file. ``comma``:
    numbers may have a decimal comma."""

    path: str
    columns: dict[str, Cells]
    lines: Sequence[int] = ()
    comma: bool = False
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def place(self, row: int) -> str:
        """Where row ``row`` stands, for people."""
        return f"{self.path}:{self.lines[row]}" if len(self.lines) else f"{self.path}: row {row + 1}"

    def cells(self, key: str, name: str) -> Cells:
        """The column ``name``, that ``data.<key>`` asks for.

        Raises:
            DataError: there is none; says what there is.
        """
        if name in self.columns:
            return self.columns[name]
        close = difflib.get_close_matches(name, self.columns, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise DataError(f"{self.path}: no column {name!r} (data.{key}); there are {listed(self.columns)}{hint}")

    def required(self, key: str, name: str) -> Cells:
        """:meth:`cells`, where ``name`` must not be empty."""
        if not name:
            raise DataError(f"{self.path}: data.{key} is missing: which column is it? There are {listed(self.columns)}")
        return self.cells(key, name)

    def take(self, index: NDArray[Any]) -> Table:
        """The rows at ``index`` (m,) int or (n,) bool."""
        lines = np.asarray(self.lines)[index].tolist() if len(self.lines) else ()
        columns = {name: cells[index] for name, cells in self.columns.items()}
        return Table(self.path, columns, lines, self.comma, self.findings)


class Column(Struct, frozen=True, eq=False):
    """A column that is known to be numbers (n,) float64, or words (n,) object. ``findings`` about it."""

    name: str
    values: NDArray[Any]
    findings: tuple[Finding, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether it is numbers."""
        return self.values.dtype != object


def listed(names: Iterable[str]) -> str:
    """Names for an error.

    >>> listed(["a", "b"])
    "'a', 'b'"
    """
    return some([repr(name) for name in names], 40)


def is_missing(text: str | None) -> bool:
    """Whether a cell says that there is no value.

    >>> is_missing(" NaN "), is_missing("none")
    (True, False)
    """
    return text is None or text.strip().lower() in MISSING


def number_of(text: str, *, comma: bool) -> float | None:
    """The number that a text is, or ``None``.

    >>> number_of("1,5", comma=True), number_of("1_000", comma=False), number_of("x", comma=False)
    (1.5, None, None)
    """
    try:
        return None if "_" in text else float(text)
    except ValueError:
        if comma and text.count(",") == 1:
            return number_of(text.replace(",", "."), comma=False)
    return None


def text_of(value: Any) -> str:
    """How a cell is written as a word, "" if it is missing; whole numbers without a point.

    >>> text_of(3.0), text_of(" red "), text_of("NA"), text_of(0.5), text_of(None)
    ('3', 'red', '', '0.5', '')
    """
    if value is None or (isinstance(value, str) and is_missing(value)):
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, np.datetime64):
        return "" if np.isnat(value) else str(value.astype("datetime64[us]").item().isoformat())
    number = float(value)
    if math.isnan(number):
        return ""
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def words(cells: Cells) -> NDArray[Any]:
    """Cells as stripped texts (n,) object, "" where they are missing."""
    known: dict[Any, str] = {}
    found = np.empty(len(cells), object)
    for i, cell in enumerate(cells if cells.dtype.kind == "M" else cells.tolist()):
        text = known.get(cell)
        if text is None:
            text = known[cell] = text_of(cell)
        found[i] = text
    return found


class Parsed(Struct, frozen=True, eq=False):
    """Cells read as numbers (n,) float64. ``bad``: rows whose cells are neither numbers nor missing."""

    values: NDArray[np.float64]
    bad: NDArray[np.intp]

    def share(self) -> float:
        """Of the cells that are there: those that are no numbers."""
        there = len(self.bad) + int((~np.isnan(self.values)).sum())
        return len(self.bad) / there if there else 0.0


def parse(cells: Cells, *, comma: bool = False) -> Parsed:
    """Read cells as numbers, whatever they are; times are seconds since 1970."""
    if cells.dtype.kind in "biuf":
        return Parsed(cells.astype(np.float64), np.zeros(0, np.intp))
    if cells.dtype.kind == "M":
        seconds = np.where(np.isnat(cells), np.nan, cells.astype("datetime64[us]").astype(np.int64) / 1e6)
        return Parsed(seconds, np.zeros(0, np.intp))
    quick = _all_numbers(cells)
    if quick is not None:
        return Parsed(quick, np.zeros(0, np.intp))
    known: dict[str | None, float | None] = {}
    values, bad = np.empty(len(cells)), []
    for i, cell in enumerate(cells.tolist()):
        try:
            number = known[cell]
        except KeyError:
            number = known[cell] = math.nan if is_missing(cell) else number_of(cell, comma=comma)
        if number is None:
            bad.append(i)
        values[i] = math.nan if number is None else number
    return Parsed(values, np.array(bad, np.intp))


def _all_numbers(cells: Cells) -> NDArray[np.float64] | None:
    """Texts that are all numbers, without a look at each: most columns are like that."""
    texts = cells.tolist()
    try:
        return None if "_" in "".join(texts) else np.array(list(map(float, texts)))
    except (ValueError, TypeError):
        return None


def typed(table: Table, name: str, *, word: bool = False) -> Column:
    """Column ``name`` as numbers or words; ``word``: as words in any case."""
    cells = table.columns[name]
    if word:
        return Column(name, words(cells))
    parsed = parse(cells, comma=table.comma)
    findings, share = [], parsed.share()
    if len(parsed.bad):
        first = int(parsed.bad[0])
        example = f"{table.place(first)} has {str(cells[first]).strip()[:40]!r}"
        count = f"{len(parsed.bad)} of {len(cells)} cells"
        if share >= BAD_SHARE:
            if share < MOSTLY:
                text = f"column {name!r} is nearly numbers, but {count} are not ({example}): it is taken as words"
                findings.append(Finding("words in numbers", "warning", text, name))
            return Column(name, words(cells), tuple(findings))
        text = f"column {name!r} is numbers, but {count} are not ({example}): taken as missing"
        findings.append(Finding("words in numbers", "warning", text, name))
    values = parsed.values
    if (infinite := np.abs(values) > LARGEST).any():
        at = table.place(int(np.argmax(infinite)))
        what = "infinite values" if np.isinf(values[infinite]).all() else "values that float32 cannot hold"
        text = f"column {name!r} has {int(infinite.sum())} {what} (first: {at}): taken as missing"
        findings.append(Finding("infinite", "warning", text, name))
        values = np.where(infinite, np.nan, values)
    return Column(name, values, tuple(findings))


def as_words(table: Table, column: Column) -> NDArray[Any]:
    """A column of numbers written out, for a row that has words: as the file has it, where it is a number."""
    if not column.numeric:
        return column.values
    cells = table.columns[column.name]
    if cells.dtype.kind == "M":
        return words(cells)
    if cells.dtype != object or table.comma:
        return words(column.values)
    found = np.array([cell.strip() if cell else "" for cell in cells.tolist()], object)
    found[np.isnan(column.values)] = ""
    return found
