"""What every reader gives: rows of a file, in chunks, from any row on.

Invariants, held by ``tests/edge_agent/readers``:

1. Reading on from a boundary gives the very chunks that a reading from the start gives there, so an interrupted job and
   a split one hand the model the same batches as an undisturbed one. Multiples of ``size`` are always boundaries.
2. A row has one place and one id, whether it can be used or not.
3. No more than a chunk or two is in memory, except where a format's page says so (JSON documents).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.errors import InputError

Array = NDArray[Any]
Samples = Array | dict[str, Array]
"""Samples (n, *shape) of a model with one input, or one such array for each input by its name."""


class BadRow(Struct, frozen=True):
    """A row that is no sample. ``position`` in its chunk; ``text`` names file, place and what was wrong."""

    position: int
    text: str


class Chunk(Struct, frozen=True):
    """Rows ``start`` to ``start + len(ids)``. ``samples`` holds those that are not ``bad``, ``None`` if all are."""

    start: int
    ids: list[str]
    samples: Samples | None
    bad: tuple[BadRow, ...] = ()


class ReadOptions(Struct, frozen=True):
    """What a file cannot say about itself.

    ``pixels``: the value of a white pixel where the model takes floating point images (255 or 1), ``None``: refuse
    those. ``resize``: fit images to the sample's height and width. ``rate``: Hz that sound must have, ``None``: any.
    """

    pixels: float | None = None
    resize: bool = False
    rate: int | None = None


class Reader(ABC):
    """Rows of one source. ``rows`` is how many, ``None`` while nobody has counted."""

    rows: int | None = None

    @abstractmethod
    def read(self, size: int, start: int = 0) -> Iterator[Chunk]:
        """Chunks of at most ``size`` rows, from row ``start`` on, with bad rows marked.

        Raises:
            InputError: the file as a whole is damaged or does not fit the model.
        """

    def count(self) -> int:
        """How many rows there are; reads the file through where it does not say."""
        if self.rows is None:
            self.rows = sum(len(chunk.ids) for chunk in self.read(4096))
        return self.rows

    def cut(self, row: int, size: int) -> int:
        """The last boundary of chunks at or before ``row``."""
        return row // size * size

    def chunks(self, size: int, start: int = 0) -> Iterator[tuple[list[str], Samples]]:
        """Ids and samples (n, *shape), at most ``size`` at once, from row ``start`` on.

        Raises:
            InputError: a row is no sample; the message names file and row.
        """
        for chunk in self.read(size, start):
            if chunk.bad:
                raise InputError(chunk.bad[0].text)
            if chunk.samples is not None:
                yield chunk.ids, chunk.samples

    def close(self) -> None:  # noqa: B027  (most have nothing to close)
        """Let go of files. Nothing can be read afterwards."""


def check_paths(paths: Sequence[Path]) -> None:
    """Raise ``FileNotFoundError`` for the first that is not there."""
    for path in paths:
        path.stat()


def length(samples: Samples) -> int:
    """How many samples there are."""
    return len(next(iter(samples.values()))) if isinstance(samples, dict) else len(samples)


def row_of(samples: Samples, i: int) -> Samples:
    """Sample ``i`` alone, without the batch axis."""
    return {name: array[i] for name, array in samples.items()} if isinstance(samples, dict) else samples[i]


def take(samples: Samples, which: Sequence[int]) -> Samples:
    """The samples at these positions."""
    index = np.asarray(which, np.intp)
    return {name: array[index] for name, array in samples.items()} if isinstance(samples, dict) else samples[index]


def row_id(prefix: str, row: int) -> str:
    """The id of a row whose file gives none: its number, after the file's name where there are several files."""
    return f"{prefix}#{row}" if prefix else str(row)


def row_ids(prefix: str, start: int, stop: int) -> list[str]:
    """:func:`row_id` of many rows."""
    return [f"{prefix}#{row}" for row in range(start, stop)] if prefix else list(map(str, range(start, stop)))


def assemble(start: int, ids: list[str], rows: Sequence[Samples | str]) -> Iterator[Chunk]:
    """Chunks out of single samples; a text instead of a sample says why the row is bad.

    A chunk ends where the shape changes, since an array has one shape.
    """
    first, shape, good, bad = 0, None, list[Samples](), list[BadRow]()
    for i, row in enumerate(rows):
        if isinstance(row, str):
            bad.append(BadRow(i - first, row))
            continue
        found = _shape(row)
        if good and found != shape:
            yield Chunk(start + first, ids[first:i], _stack(good), tuple(bad))
            first, good, bad = i, [], []
        shape = found
        good.append(row)
    if first < len(rows):
        yield Chunk(start + first, ids[first:], _stack(good) if good else None, tuple(bad))


def _shape(sample: Samples) -> Any:
    return tuple(array.shape for array in sample.values()) if isinstance(sample, dict) else sample.shape


def _stack(rows: Sequence[Samples]) -> Samples:
    first = rows[0]
    if isinstance(first, dict):
        return {name: np.stack([row[name] for row in rows]) for name in first}
    return np.stack(rows)  # type: ignore[arg-type]
