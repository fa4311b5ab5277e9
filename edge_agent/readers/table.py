"""CSV and TSV."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.readers.base import Array, Chunk, Reader, Samples, assemble, row_id, row_ids
from edge_agent.readers.columns import Part, Plan, is_header, match
from edge_agent.readers.convert import cast
from shared.errors import InputError
from shared.manifest import SampleSpec

Row = tuple[int, list[str]]
"""Line where it ends, cells."""

TRUTH = {"true": True, "false": False, "1": True, "0": False}


class CsvReader(Reader):
    """Rows of a CSV file (RFC 4180; separated by ``;`` or tabs too), UTF-8.

    The first line may name the columns; a column ``id`` gives ids. An empty cell is NaN where the model takes floats.
    Blank lines are no rows.
    """

    def __init__(self, path: Path, signature: Sequence[SampleSpec], prefix: str = "") -> None:
        self._path = path
        self._prefix = prefix
        with path.open(encoding="utf-8-sig", newline="") as file:
            try:
                line = file.readline()
                self._separator = "\t" if "\t" in line and "," not in line else ";" if _semicolons(line) else ","
                file.seek(0)
                first = next((row for row in csv.reader(file, delimiter=self._separator) if row), None)
            except (csv.Error, UnicodeDecodeError) as error:
                raise InputError(f"{path}:1: {error}") from error
        self._plan = Plan(None, ())
        self._width = 0
        self._header = first is not None and is_header(first, signature)
        if first is None:
            self.rows = 0
            return
        self._width = len(first)
        try:
            self._plan = match(first if self._header else None, self._width, signature)
        except InputError as error:
            raise InputError(f"{path}:1: {error}") from error

    def read(self, size: int, start: int = 0) -> Iterator[Chunk]:
        """Chunks; skipped rows are split into cells but not converted."""
        if not self._plan.parts:
            return
        rows = itertools.islice(self._records(), start, None)
        at = start
        while block := list(itertools.islice(rows, size - at % size)):
            yield from self._convert(at, block)
            at += len(block)
        self.rows = at

    def count(self) -> int:
        """Rows, by splitting the file without converting anything."""
        if self.rows is None:
            self.rows = sum(1 for _ in self._records())
        return self.rows

    def _records(self) -> Iterator[Row]:
        line = 0
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=self._separator)
            try:
                for row in itertools.islice(filter(None, reader), int(self._header), None):
                    line = reader.line_num
                    yield line, row
            except (csv.Error, UnicodeDecodeError) as error:
                raise InputError(f"{self._path}:{line + 1}: {error}") from error

    def _convert(self, start: int, block: Sequence[Row]) -> Iterator[Chunk]:
        cells = [row for _, row in block]
        if all(len(row) == self._width for row in cells):
            try:
                arrays = [_fast(cells, part, self._width) for part in self._plan.parts]
            except (ValueError, OverflowError, InputError):
                pass  # some cell is no number: look at each
            else:
                yield Chunk(start, self._ids(start, cells), self._samples(arrays))
                return
        rows: list[Samples | str] = []
        for line, row in block:
            if len(row) != self._width:
                rows.append(f"{self._path}:{line}: expected {self._width} columns, got {len(row)}")
                continue
            try:
                rows.append(self._samples([_slow(row, part) for part in self._plan.parts]))
            except InputError as error:
                rows.append(f"{self._path}:{line}: {error}")
        yield from assemble(start, self._ids(start, cells), rows)

    def _samples(self, arrays: Sequence[Array]) -> Samples:
        if len(arrays) == 1:
            return arrays[0]
        return {part.spec.name: array for part, array in zip(self._plan.parts, arrays, strict=True)}

    def _ids(self, start: int, cells: Sequence[Sequence[str]]) -> list[str]:
        at = self._plan.id_column
        if at is None:
            return row_ids(self._prefix, start, start + len(cells))
        return [row[at] if at < len(row) else row_id(self._prefix, start + i) for i, row in enumerate(cells)]


def _semicolons(line: str) -> bool:
    return line.count(";") > line.count(",")


def _parse(dtype: str) -> Callable[[str], Any]:
    kind = np.dtype(dtype).kind
    return float if kind == "f" else _truth if kind == "b" else _whole


def _whole(cell: str) -> int:
    try:
        return int(cell)
    except ValueError:
        number = float(cell)
        if not number.is_integer():
            raise ValueError(f"{cell!r} is no whole number") from None
        return int(number)


def _truth(cell: str) -> bool:
    try:
        return TRUTH[cell.strip().lower()]
    except KeyError:
        raise ValueError(cell) from None


def _fast(rows: Sequence[Sequence[str]], part: Part, width: int) -> Array:
    """All rows at once (n, *shape); raises ``ValueError`` if a cell is anything but a number."""
    columns, spec = part.columns, part.spec
    if columns == tuple(range(width)):
        cells = itertools.chain.from_iterable(rows)
    elif len(columns) == 1:
        cells = map(itemgetter(*columns), rows)  # type: ignore[assignment]
    else:
        cells = itertools.chain.from_iterable(map(itemgetter(*columns), rows))
    shape = (len(rows), *_shape(part))
    if spec.dtype == "str":
        return np.array(list(cells), dtype=object).reshape(shape)
    return _array(list(map(_parse(spec.dtype), cells)), spec).reshape(shape)


def _slow(row: Sequence[str], part: Part) -> Array:
    """One row; raises ``InputError`` that names the cell."""
    spec = part.spec
    if spec.dtype == "str":
        return np.array([row[i] for i in part.columns], dtype=object).reshape(_shape(part))
    parse, values = _parse(spec.dtype), []
    for number, i in enumerate(part.columns):
        cell = row[i]
        if not cell.strip() and np.dtype(spec.dtype).kind == "f":
            values.append(float("nan"))
            continue
        name = spec.columns[number] if spec.columns else str(i + 1)
        try:
            values.append(_array([parse(cell)], spec)[0])
        except (ValueError, OverflowError, InputError) as error:
            raise InputError(f"column {name}: expected {spec.dtype}, got {cell[:40]!r}") from error
    return np.array(values, dtype=spec.dtype).reshape(_shape(part))


def _array(values: Sequence[Any], spec: SampleSpec) -> Array:
    return cast(np.array(values), spec)


def _shape(part: Part) -> tuple[int, ...]:
    if -1 not in part.spec.shape:
        return part.spec.shape
    rest = 1
    for size in part.spec.shape:
        rest *= size if size > 0 else 1
    if len(part.columns) % rest:
        raise InputError(f"{len(part.columns)} columns are no multiple of {rest}")
    return tuple(len(part.columns) // rest if size < 0 else size for size in part.spec.shape)
