"""Rows of a table in the order of time, in flat memory: a sorted file is streamed, another one is spooled to disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.drift.cells import Odd
from cloud_trainer.drift.scalars import Plan
from cloud_trainer.drift.tables import CHUNK, Table
from cloud_trainer.drift.times import Floats, read_times
from shared.errors import UsageError

Show = Callable[[float, str], None]


class Times(Struct, frozen=True, eq=False):
    """The time column of a file. ``values`` (n,) as they stand; ``kind``: dates or numbers; ``order`` (n,): of the
    sorted rows, None if they are sorted; ``twins``: rows whose time is also the time of the row before them, after
    sorting."""

    values: Floats
    kind: str
    order: NDArray[np.int64] | None
    twins: int

    @property
    def sorted(self) -> Floats:
        """Times (n,) in order."""
        return self.values if self.order is None else self.values[self.order]


class Block(NamedTuple):
    """Rows (n, scalars), times (n,) or None, and how much has been read."""

    rows: NDArray[np.float64]
    times: Floats | None
    fraction: float


def times_of(table: Table, name: str, show: Show) -> Times:
    """Read the time column.

    Raises:
        UsageError: a cell is no time, or some are numbers and some are dates.
    """
    parts, kind = [], ""
    for chunk in table.chunks([name]):
        found, this = read_times(chunk.columns[name], name, chunk.place)
        if kind and this != kind:
            raise UsageError(f"{chunk.place(0)}: time column {name!r} changes from {kind} to {this}")
        kind = this
        parts.append(found)
        show(chunk.fraction, f"{table.path.name}: column {name}")
    if not parts:
        raise UsageError(f"{table.path}: no rows; expected a line of column names and rows below it")
    values = np.concatenate(parts)
    steps = np.diff(values)
    order = None
    if (steps < 0).any():
        order = np.argsort(values, kind="stable")
        steps = np.diff(values[order])
    return Times(values, kind, order, int(np.count_nonzero(steps == 0)))


def blocks(table: Table, plan: Plan, times: Times | None, odd: dict[str, Odd]) -> Iterator[Block]:
    """Rows of ``table`` as the detector takes them, in the order of ``times``, in the file's own without."""
    streamed = _streamed(table, plan, odd)
    if times is None:
        for rows, fraction in streamed:
            yield Block(rows, None, fraction)
    elif times.order is None:
        at = 0
        for rows, fraction in streamed:
            yield Block(rows, times.values[at : at + len(rows)], fraction)
            at += len(rows)
    else:
        yield from _sorted(streamed, len(plan.scalars), times, times.order)


def _streamed(table: Table, plan: Plan, odd: dict[str, Odd]) -> Iterator[tuple[NDArray[np.float64], float]]:
    for chunk in table.chunks(plan.columns):
        yield plan.rows(chunk, odd, comma=table.comma), chunk.fraction


def _sorted(
    streamed: Iterator[tuple[NDArray[np.float64], float]], width: int, times: Times, order: NDArray[np.int64]
) -> Iterator[Block]:
    with tempfile.TemporaryFile() as file:
        for rows, _ in streamed:
            file.write(np.ascontiguousarray(rows).tobytes())
        file.flush()
        spooled: NDArray[np.float64] = np.memmap(file, np.float64, "r", shape=(len(order), width))
        for at in range(0, len(order), CHUNK):
            piece = order[at : at + CHUNK]
            yield Block(np.asarray(spooled[piece]), times.values[piece], min((at + CHUNK) / len(order), 1.0))
