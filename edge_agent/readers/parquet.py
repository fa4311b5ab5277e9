"""Parquet, through pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.readers.base import Array, Chunk, Reader, Samples, assemble, row_ids
from edge_agent.readers.columns import Part, match, names_of
from edge_agent.readers.convert import cast, to_array, to_batch
from shared.errors import InputError, MissingExtraError
from shared.manifest import SampleSpec
from shared.pipeline.columns import text_of

if TYPE_CHECKING:
    import pyarrow as pa

LISTS = ("x", "values")


class ParquetReader(Reader):
    """Rows of a Parquet file: a column for each value by name (or by position where the count fits), or one column of
    lists called as the input, ``x`` or ``values``. A column ``id`` gives ids; a null is NaN where the model takes
    floats; rows of text with named columns take values of any type. Only the row groups and columns that are needed are
    read."""

    def __init__(self, path: Path, signature: Sequence[SampleSpec], prefix: str = "") -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingExtraError("reading Parquet", "parquet") from error
        self._path, self._prefix = path, prefix
        self._errors: tuple[type[Exception], ...] = (pa.ArrowException, OSError)
        path.open("rb").close()
        try:
            self._file = pq.ParquetFile(path)
        except self._errors as error:
            raise InputError(f"{path}: {error}") from error
        schema = self._file.schema_arrow
        names: list[str] = schema.names
        self.rows = self._file.metadata.num_rows
        self._lists = {spec.name: _list_column(schema, spec, pa) for spec in signature}
        self._id = "id" if "id" in names and "id" not in [n for s in signature for n in names_of(s)] else None
        self._parts: tuple[Part, ...] = ()
        flat = [spec for spec in signature if not self._lists[spec.name]]
        if flat:
            flat_names = [name for name in names if name not in self._lists.values()]
            try:
                plan = match(flat_names, len(flat_names), flat)
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
            self._parts = plan.parts
            names = flat_names
        self._names = names
        self._signature = signature

    def read(self, size: int, start: int = 0) -> Iterator[Chunk]:
        """Chunks, from the row group on that holds ``start``."""
        try:
            yield from self._read(size, start)
        except self._errors as error:
            raise InputError(f"{self._path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, size: int, start: int) -> Iterator[Chunk]:
        import pyarrow as pa

        wanted = [self._names[i] for part in self._parts for i in part.columns]
        wanted += [name for name in (*self._lists.values(), self._id) if name]
        metadata = self._file.metadata
        groups, first = list(range(metadata.num_row_groups)), 0
        while groups and first + metadata.row_group(groups[0]).num_rows <= start:
            first += metadata.row_group(groups.pop(0)).num_rows
        skip, at, held, rows = start - first, start, [], 0
        for batch in self._file.iter_batches(size, row_groups=groups, columns=wanted, use_threads=False):
            piece = batch.slice(min(skip, len(batch)))
            skip -= len(batch) - len(piece)
            while len(piece):
                part = piece.slice(0, size - at % size - rows)
                piece = piece.slice(len(part))
                held.append(part)
                rows += len(part)
                if (at + rows) % size == 0:
                    yield from self._convert(at, pa.Table.from_batches(held))
                    at, held, rows = at + rows, [], 0
        if held:
            yield from self._convert(at, pa.Table.from_batches(held))

    def _convert(self, start: int, table: pa.Table) -> Iterator[Chunk]:
        n = len(table)
        if self._id:
            ids = [str(value) for value in table[self._id].to_pylist()]
        else:
            ids = row_ids(self._prefix, start, start + n)
        arrays: dict[str, Array | None] = {}
        for part in self._parts:
            arrays[part.spec.name] = self._columns(table, part)
        for spec in self._signature:
            column = self._lists[spec.name]
            if column:
                arrays[spec.name] = to_batch(_values(table[column]), spec)
        if all(array is not None for array in arrays.values()):
            found = {spec.name: arrays[spec.name] for spec in self._signature}
            samples: Any = found if len(found) > 1 else next(iter(found.values()))
            yield Chunk(start, ids, samples)
            return
        yield from assemble(start, ids, [self._row(table, i, start + i) for i in range(n)])

    def _columns(self, table: pa.Table, part: Part) -> Array | None:
        """The columns side by side, ``None`` if one has nulls or numbers that the model's dtype cannot hold."""
        spec, columns = part.spec, [table[self._names[i]] for i in part.columns]
        shape = (len(table), *(len(columns) if size < 0 else size for size in spec.shape))
        if spec.dtype == "str" and spec.columns:
            cells = [np.array([text_of(value) for value in c.to_pylist()], dtype=object) for c in columns]
            return np.stack(cells, axis=1).reshape(shape)
        if spec.dtype == "str":
            if any(column.null_count or str(column.type) not in {"string", "large_string"} for column in columns):
                return None
            return np.stack([np.array(c.to_pylist(), dtype=object) for c in columns], axis=1).reshape(shape)
        if np.dtype(spec.dtype).kind != "f" and any(column.null_count for column in columns):
            return None
        try:
            made = [cast(column.to_numpy(), spec) for column in columns]
        except InputError:
            return None
        return np.stack(made, axis=1).reshape(shape)

    def _row(self, table: pa.Table, i: int, row: int) -> Samples | str:
        """One row, or why it is none."""
        samples: dict[str, Array] = {}
        names = {part.spec.name: [self._names[at] for at in part.columns] for part in self._parts}
        for spec in self._signature:
            column = self._lists[spec.name]
            try:
                if column:
                    samples[spec.name] = to_array(_values(table[column].slice(i, 1))[0], spec)
                else:
                    samples[spec.name] = _cells([(n, table[n][i].as_py()) for n in names[spec.name]], spec)
            except InputError as error:
                return f"{self._path}: row {row}: {error}"
        return samples if len(samples) > 1 else next(iter(samples.values()))


def _cells(cells: Sequence[tuple[str, Any]], spec: SampleSpec) -> Array:
    missing, scalar = float("nan"), SampleSpec(spec.dtype, ())
    values = []
    for name, value in cells:
        try:
            if value is None and spec.dtype != "str":
                value = missing  # noqa: PLW2901  (what stands for a null)
            values.append(to_array(value, scalar)[()])
        except InputError as error:
            raise InputError(f"column {name}: expected {spec.dtype}, got {value!r}"[:200]) from error
    shape = tuple(len(cells) if size < 0 else size for size in spec.shape)
    return np.array(values, dtype=object if spec.dtype == "str" else spec.dtype).reshape(shape)


def _list_column(schema: Any, spec: SampleSpec, pa: Any) -> str | None:
    for name in (spec.name, *LISTS):
        if name in schema.names:
            kind = schema.field(name).type
            if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
                return name
    return None


def _values(column: Any) -> Any:
    """Lists as one array if they are regular and flat, else as Python's."""
    n = len(column)
    chunk = column.combine_chunks()
    flat = chunk.flatten()
    if n and not chunk.null_count and not flat.null_count and len(flat) % n == 0 and hasattr(flat, "to_numpy"):
        sizes = {len(chunk[0]), len(chunk[-1])}
        lengths = np.asarray(chunk.value_lengths()) if sizes == {len(flat) // n} else np.array([-1])
        if (lengths == len(flat) // n).all() and str(flat.type) not in {"string", "large_string"}:
            try:
                return flat.to_numpy(zero_copy_only=False).reshape(n, -1)
            except (ValueError, TypeError):
                pass
    return column.to_pylist()
