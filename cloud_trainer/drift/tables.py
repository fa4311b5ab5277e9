"""A table in a file, read in chunks of columns; CSV and TSV here.

Invariants:

1. A chunk has every column asked for, all of one length, and the chunks in order are the file's rows.
2. No more than a chunk is in memory.
3. Whatever is wrong with a file is a ``UsageError`` of one line that names the file and the place.
"""

from __future__ import annotations

import csv
import io
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from msgspec import Struct

from cloud_trainer.drift.cells import Cells
from shared.errors import UsageError
from shared.files import reason

CHUNK = 4096


class Chunk(Struct, frozen=True, eq=False):
    """Rows ``start`` to ``start + rows``. ``columns``: name -> cells (rows,); ``lines``: where each row ends in a text
    file; ``fraction``: how much of the file has been read."""

    path: str
    start: int
    rows: int
    columns: dict[str, Cells]
    fraction: float
    lines: Sequence[int] = ()

    def place(self, i: int) -> str:
        """Where row ``i`` of the chunk stands, for people."""
        return f"{self.path}:{self.lines[i]}" if self.lines else f"{self.path}: row {self.start + i + 1}"


class Table(ABC):
    """A file of rows. ``names`` of its columns; ``rows`` if the file says how many; ``comma``: numbers may have a
    decimal comma; ``left_out``: what cannot be watched, column -> reason."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: tuple[str, ...] = ()
        self.rows: int | None = None
        self.comma = False
        self.left_out: dict[str, str] = {}

    @abstractmethod
    def chunks(self, names: Sequence[str], size: int = CHUNK) -> Iterator[Chunk]:
        """All rows of the columns ``names``.

        Raises:
            UsageError: the file is damaged.
        """

    def about(self) -> int:
        """How many rows there are, or a few too many: cheap."""
        return self.rows or 0


class CsvTable(Table):
    """A file of lines: cells separated by commas, semicolons (then with decimal commas), tabs or upright bars, or by
    the ``separator`` given, in UTF-8.

    The first line names the columns unless all its cells are numbers, or ``header`` is false; then they are called
    ``c1``, ``c2``, ... or as ``names`` says. Blank lines are no rows.
    """

    def __init__(self, path: Path, *, header: bool = True, separator: str = "", names: Sequence[str] = ()) -> None:
        super().__init__(path)
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                line = file.readline()
                self._separator = separator or separator_of(line)
                self._quoted = self._separator != "\t" or line.startswith(
                    '"'
                )  # quotes in tabbed text are often just text
                file.seek(0)
                first = next(filter(None, self._reader(file)), None)
        except OSError as error:
            raise UsageError(f"{path}: {reason(error)}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{path}: not a table of text in UTF-8 ({error})") from error
        if first is None:
            raise UsageError(f"{path}: the file is empty; expected rows with columns")
        self.comma = self._separator == ";"
        cells = tuple(cell.strip() for cell in first)
        if names and len(names) != len(cells):
            raise UsageError(f"{path}:1: {len(cells)} cells, but {len(names)} names are given: {', '.join(names)}")
        self._header = cells == tuple(names) if names else header and not all(map(_is_number, first))
        self.names = tuple(names) or (cells if self._header else tuple(f"c{i + 1}" for i in range(len(cells))))
        for name in self.names:
            if self.names.count(name) > 1:
                shown = f"column {name!r} is there {self.names.count(name)} times" if name else "a column has no name"
                raise UsageError(f"{path}:1: {shown}; columns need names of their own")

    def chunks(self, names: Sequence[str], size: int = CHUNK) -> Iterator[Chunk]:
        """All rows; cells are texts."""
        at = [self.names.index(name) for name in names]
        width, total, start = len(self.names), max(self.path.stat().st_size, 1), 0
        with self.path.open("rb") as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
            rows = self._records(file)
            while block := list(itertools.islice(rows, size)):
                cells = [row for _, row in block]
                for line, row in block:
                    if len(row) != width:
                        raise UsageError(f"{self.path}:{line}: {len(row)} cells for {width} columns")
                columns = {
                    name: np.array(list(map(itemgetter(i), cells)), object) for name, i in zip(names, at, strict=True)
                }
                yield Chunk(
                    str(self.path),
                    start,
                    len(block),
                    columns,
                    min(raw.tell() / total, 1.0),
                    [line for line, _ in block],
                )
                start += len(block)

    def about(self) -> int:
        """Lines but the header: a few too many where there are blank ones, or cells of several lines."""
        lines, last = -int(self._header), b"\n"
        with self.path.open("rb") as file:
            while block := file.read(1 << 20):
                lines, last = lines + block.count(b"\n"), block[-1:]
        return lines + (last != b"\n")

    def _reader(self, file: TextIO) -> Any:
        return csv.reader(
            file, delimiter=self._separator, quoting=csv.QUOTE_MINIMAL if self._quoted else csv.QUOTE_NONE
        )

    def _records(self, file: TextIO) -> Iterator[tuple[int, list[str]]]:
        reader, line, first = self._reader(file), 0, self._header
        try:
            for row in reader:
                line = reader.line_num
                if row and not first:
                    yield line, row
                first = first and not row
        except (csv.Error, UnicodeDecodeError) as error:
            raise UsageError(f"{self.path}:{line + 1}: {error}") from error


def separator_of(line: str) -> str:
    """What separates the cells of a line.

    >>> separator_of("a;b;1,5"), separator_of("a|b|c"), separator_of("only")
    (';', '|', ',')
    """
    return "\t" if "\t" in line else max(",;|", key=line.count)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
