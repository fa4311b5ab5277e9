"""Tables of arrays: NPZ, NPY and Parquet."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from cloud_trainer.drift.cells import Cells
from cloud_trainer.drift.tables import CHUNK, Chunk, Table
from edge_agent.readers.arrays import DAMAGED, Stored, Stream
from shared.errors import MissingExtraError, UsageError
from shared.files import reason

MATRICES = ("x", "X", "data")
NAMES = ("columns", "names", "feature_names")


class ArrayTable(Table):
    """Arrays of a ``.npz`` file (n,) are columns, and so are the columns of its matrices (n, F): ``x_0``, ``x_1``, ...,
    or what an array of F texts called ``columns`` or ``names`` says. A ``.npy`` file is one matrix or column, ``x``.
    Arrays of another number of rows than the others (than ``x``, if there is one) are left out. Read in pieces, never
    as a whole."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._stored = _npy(path) if path.suffix.lower() == ".npy" else _npz(path)
            names = _names(self._stored)
        except OSError as error:
            raise UsageError(f"{path}: {reason(error)}") from error
        except DAMAGED as error:
            raise UsageError(f"{path}: {error}") from error
        tables = {name: stored for name, stored in self._stored.items() if stored.shape}
        first = next((name for name in MATRICES if name in tables), None)
        lengths = [stored.shape[0] for stored in tables.values()]
        self.rows = tables[first].shape[0] if first else max(lengths, default=0, key=lambda n: (lengths.count(n), n))
        self._columns: dict[str, tuple[str, int | None]] = {}
        for name, stored in tables.items():
            if stored.shape[0] != self.rows:
                continue
            if len(stored.shape) > 2:
                self.left_out[name] = f"it has {len(stored.shape)} dimensions; a table has rows and columns"
            elif len(stored.shape) == 1:
                self._columns[name] = (name, None)
            else:
                width = stored.shape[1]
                called = names if len(names) == width else [f"{name}_{i}" for i in range(width)]
                self._columns |= {column: (name, i) for i, column in enumerate(called)}
        self.names = tuple(self._columns)

    def chunks(self, names: Sequence[str], size: int = CHUNK) -> Iterator[Chunk]:
        """Rows, read as they are asked for."""
        wanted = {name: self._columns[name] for name in names}
        start, total = 0, self.rows or 0
        try:
            with ExitStack() as stack:
                arrays = dict.fromkeys(array for array, _ in wanted.values())
                streams = {a: stack.enter_context(closing(self._stored[a].pieces(size, 0))) for a in arrays}
                for pieces in zip(*streams.values(), strict=True):
                    found = dict(zip(streams, pieces, strict=True))
                    columns = {n: _cells(found[a] if i is None else found[a][:, i]) for n, (a, i) in wanted.items()}
                    rows = len(pieces[0])
                    yield Chunk(str(self.path), start, rows, columns, min((start + rows) / max(total, 1), 1.0))
                    start += rows
        except DAMAGED as error:
            raise UsageError(f"{self.path}: {error}") from error


def _cells(array: Cells) -> Cells:
    return array.astype(object) if array.dtype.kind == "U" else array


def _npy(path: Path) -> dict[str, Stored]:
    with path.open("rb") as file:
        shape, dtype, fortran = _header(file)
        offset = file.tell()

    def open_at(position: int) -> Stream:
        file = path.open("rb")
        file.seek(offset + position)
        return file

    return {"x": Stored(shape, dtype, fortran, open_at)}


def _npz(path: Path) -> dict[str, Stored]:
    found = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            with archive.open(info) as file:
                shape, dtype, fortran = _header(file)
                skip = file.tell()
            if dtype.kind in "biufUM":
                found[info.filename.removesuffix(".npy")] = Stored(
                    shape, dtype, fortran, _opener(path, info.filename, skip)
                )
    return found


def _opener(path: Path, member: str, skip: int) -> Any:
    def open_at(position: int) -> Stream:
        archive = zipfile.ZipFile(path)
        file = archive.open(member)
        archive.close()  # as far as it is concerned: the member keeps the file open
        left = skip + position
        while left and (data := file.read(min(left, 1 << 16))):
            left -= len(data)
        return file

    return open_at


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    version = npy.read_magic(file)
    read: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("holds Python objects, which are not read; save numbers or text")
    return shape, dtype, fortran and len(shape) > 1


def _names(stored: dict[str, Stored]) -> list[str]:
    """Column names that the file gives itself; the array that holds them is no column."""
    for name in NAMES:
        array = stored.get(name)
        if array is not None and array.dtype.kind == "U" and len(array.shape) == 1 and array.shape[0] <= 4096:
            del stored[name]
            return [str(text) for piece in array.pieces(4096, 0) for text in piece]
    return []


class ParquetTable(Table):
    """Columns of numbers, truths, texts and times of a Parquet file; lists and the like are left out. Only the columns
    asked for are read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            path.open("rb").close()
        except OSError as error:
            raise UsageError(f"{path}: {reason(error)}") from error
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingExtraError("reading Parquet", "parquet") from error
        self._errors: tuple[type[Exception], ...] = (pa.ArrowException, OSError)
        try:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                self.rows = file.metadata.num_rows
        except self._errors as error:
            raise UsageError(f"{path}: not a Parquet file, or damaged ({str(error).splitlines()[0][:200]})") from error
        names = []
        for field in schema:
            if pa.types.is_nested(field.type) or pa.types.is_binary(field.type) or pa.types.is_null(field.type):
                self.left_out[field.name] = f"it is of type {field.type}"
            else:
                names.append(field.name)
        self.names = tuple(names)

    def chunks(self, names: Sequence[str], size: int = CHUNK) -> Iterator[Chunk]:
        """Rows, a batch at a time."""
        import pyarrow.parquet as pq

        start, total = 0, max(self.rows or 0, 1)
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(size, columns=list(names), use_threads=False):
                    columns = {name: _arrow(batch.column(batch.schema.get_field_index(name))) for name in names}
                    yield Chunk(str(self.path), start, len(batch), columns, min((start + len(batch)) / total, 1.0))
                    start += len(batch)
        except self._errors as error:
            raise UsageError(f"{self.path}: {str(error).splitlines()[0][:200]}") from error


def _arrow(column: Any) -> Cells:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_boolean(kind):
        column, kind = column.cast(pa.int8()), pa.int8()
    if pa.types.is_decimal(kind) or pa.types.is_integer(kind):
        column, kind = column.cast(pa.float64(), safe=False), pa.float64()
    if pa.types.is_floating(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    if pa.types.is_timestamp(kind):
        return np.asarray(column.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False))
    if pa.types.is_date(kind):
        return np.asarray(column.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False))
    found = np.empty(len(column), object)
    found[:] = [None if value is None else str(value) for value in column.to_pylist()]
    return found
