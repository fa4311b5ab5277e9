"""NPZ and Parquet: arrays of a chunk as a segment, and segments joined into one file in bounded memory."""

from __future__ import annotations

import math
import os
import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.lib import format as npy
from numpy.typing import NDArray

from edge_agent.bulk.formats import Answers, Build, texts
from shared.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

Array = NDArray[Any]
LENGTH = struct.Struct("<I")
GROUP_ROWS = 1 << 16
"""Rows of a Parquet row group, about."""
IDS, BAD_IDS, ERRORS = "ids", "bad_ids", "errors"


class Column(Struct, frozen=True):
    """An array of a segment; its bytes follow the segment's head in the order of the columns."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Of its data."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


class Head(Struct, frozen=True):
    """What a segment holds. ``positions`` are those of bad rows among all of the chunk."""

    rows: int
    positions: tuple[int, ...]
    columns: tuple[Column, ...]


class Segment(Struct, frozen=True):
    """A segment in the partial file, and where each column's bytes begin."""

    head: Head
    offsets: dict[str, int]


class Columnar:
    """Arrays by name: ``ids``, every field of the answers, and of bad rows ``bad_ids`` and ``errors``."""

    build: Build | None

    def __init__(self, build: Build) -> None:
        self.build = build
        self._shapes: dict[str, tuple[int, ...]] = {}

    def head(self) -> bytes:
        """Nothing."""
        return b""

    def segment(self, answers: Answers) -> bytes:
        """See :class:`~edge_agent.bulk.formats.Format`.

        Raises:
            InputError: a field's shape differs between rows, so that it cannot be one array.
        """
        arrays: dict[str, Array] = {IDS: np.array(answers.ids, dtype=np.str_)}
        for name, values in answers.fields.items():
            if name != "input":
                arrays[name] = np.array(texts(values.tolist()), np.str_) if values.dtype == object else values
                self._same_shape(name, arrays[name].shape[1:])
        arrays[BAD_IDS] = np.array([id_ for _, id_, _ in answers.bad], np.str_)
        arrays[ERRORS] = np.array([text for _, _, text in answers.bad], np.str_)
        columns = tuple(Column(name, array.dtype.str, array.shape) for name, array in arrays.items())
        head = msgspec.msgpack.encode(Head(answers.rows, tuple(at for at, _, _ in answers.bad), columns))
        return b"".join([LENGTH.pack(len(head)), head, *(array.tobytes() for array in arrays.values())])

    def _same_shape(self, name: str, shape: tuple[int, ...]) -> None:
        if self._shapes.setdefault(name, shape) != shape:
            raise InputError(
                f"field {name} has shape {shape} here and {self._shapes[name]} before; "
                "write JSON lines (.jsonl) instead"
            )


def segments_of(data: IO[bytes]) -> list[Segment]:
    """Every segment of a partial file."""
    end, at, found = data.seek(0, os.SEEK_END), 0, []
    while at < end:
        data.seek(at)
        (length,) = LENGTH.unpack(data.read(LENGTH.size))
        head = msgspec.msgpack.decode(data.read(length), type=Head)
        at += LENGTH.size + length
        offsets = {}
        for column in head.columns:
            offsets[column.name] = at
            at += column.bytes
        found.append(Segment(head, offsets))
    return found


def _columns(segments: Sequence[Segment]) -> dict[str, Column]:
    """Every column over all segments: its rows in all, and the dtype that holds every piece."""
    found: dict[str, Column] = {}
    for segment in segments:
        for column in segment.head.columns:
            if column.name not in found:
                found[column.name] = column
                continue
            before = found[column.name]
            if column.shape[1:] != before.shape[1:]:
                raise InputError(
                    f"field {column.name} has shape {column.shape[1:]} and {before.shape[1:]} in different rows; "
                    "write JSON lines (.jsonl) instead"
                )
            dtype = np.result_type(np.dtype(before.dtype), np.dtype(column.dtype)).str
            found[column.name] = Column(column.name, dtype, (before.shape[0] + column.shape[0], *before.shape[1:]))
    return found


def _array(data: IO[bytes], segment: Segment, name: str) -> Array | None:
    for column in segment.head.columns:
        if column.name == name:
            data.seek(segment.offsets[name])
            return np.frombuffer(data.read(column.bytes), column.dtype).reshape(column.shape)
    return None


def build_npz(data: IO[bytes], out: Path) -> None:
    """One array for each column, of all good rows in order; ``bad_ids`` and ``errors`` only if there are any."""
    segments = segments_of(data)
    columns = _columns(segments) or {IDS: Column(IDS, "<U1", (0,))}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, column in columns.items():
            if name in {BAD_IDS, ERRORS} and not column.shape[0]:
                continue
            dtype = np.dtype(column.dtype)
            info = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, so that equal answers make equal files
            with archive.open(info, "w", force_zip64=True) as member:
                description = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": column.shape}
                npy.write_array_header_1_0(member, description)
                for segment in segments:
                    piece = _array(data, segment, name)
                    if piece is not None:
                        member.write(piece.astype(dtype, copy=False).tobytes())


def build_parquet(data: IO[bytes], out: Path) -> None:
    """A row for each row: ``id``, the fields (arrays as lists of fixed size), and ``error``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    segments = segments_of(data)
    columns = _columns(segments)
    fields = [column for name, column in columns.items() if name not in {IDS, BAD_IDS, ERRORS}]
    schema = pa.schema(
        [("id", pa.string()), *((column.name, _type(column, pa)) for column in fields), ("error", pa.string())]
    )
    with pq.ParquetWriter(out, schema) as writer:
        for group in _groups(segments):
            tables = [_table(data, segment, fields, schema, pa) for segment in group]
            writer.write_table(pa.concat_tables(tables), row_group_size=GROUP_ROWS * 2)


def _groups(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    group: list[Segment] = []
    for segment in segments:
        group.append(segment)
        if sum(one.head.rows for one in group) >= GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _type(column: Column, pa: Any) -> Any:
    dtype = np.dtype(column.dtype)
    scalar = pa.string() if dtype.kind == "U" else pa.from_numpy_dtype(dtype)
    return pa.list_(scalar, math.prod(column.shape[1:])) if len(column.shape) > 1 else scalar


def _table(data: IO[bytes], segment: Segment, fields: Sequence[Column], schema: Any, pa: Any) -> pa.Table:
    rows, bad = segment.head.rows, segment.head.positions
    good = np.setdiff1d(np.arange(rows), np.array(bad, int))

    def spread(values: Any, where: Any) -> Any:
        """``values`` at rows ``where``, null elsewhere."""
        index = np.zeros(rows, np.int64)
        index[where] = np.arange(len(where))
        empty = np.ones(rows, bool)
        empty[where] = False
        return values.take(pa.array(index, mask=empty))

    def strings(name: str) -> list[str]:
        array = _array(data, segment, name)
        return [] if array is None else array.tolist()

    ids = np.empty(rows, object)
    ids[good], ids[list(bad)] = strings(IDS), strings(BAD_IDS)
    made = [pa.array(ids, pa.string())]
    for column in fields:
        type_, array = schema.field(column.name).type, _array(data, segment, column.name)
        if array is None:
            made.append(pa.nulls(rows, type_))
            continue
        array = array.astype(column.dtype, copy=False)
        if array.ndim > 1:
            values = pa.FixedSizeListArray.from_arrays(_flat(array, pa), type_.list_size)
        else:
            values = _flat(array, pa)
        made.append(spread(values, good) if bad else values)
    errors = pa.array(strings(ERRORS), pa.string())
    made.append(spread(errors, list(bad)) if bad else pa.nulls(rows, pa.string()))
    return pa.Table.from_arrays(made, schema=schema)


def _flat(array: Array, pa: Any) -> Any:
    flat = array.reshape(-1)
    return pa.array(flat.tolist(), pa.string()) if flat.dtype.kind == "U" else pa.array(flat)
