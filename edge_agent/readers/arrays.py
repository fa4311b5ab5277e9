"""NPY and NPZ: arrays of samples, read piece by piece.

Nothing is mapped into memory: a mapped file that somebody cuts short kills the process, and its pages count as the
process's memory. A stored array is read from where the row lies; a compressed one is unpacked as it is read.
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from msgspec import Struct
from numpy.lib import format as npy

from edge_agent.readers.base import Array, Chunk, Reader, row_ids
from edge_agent.readers.convert import fits
from shared.errors import InputError
from shared.manifest import SampleSpec

DAMAGED = (ValueError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)
WHOLE_MAX_BYTES = 1 << 30
"""Arrays that cannot be read in pieces (Fortran order) are refused beyond this."""
DEFAULT_NAME = "x"
IDS_NAME = "ids"


class Stream(Protocol):
    """What is read from."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes, none at the end."""

    def close(self) -> None:
        """Let go of the file."""


class Stored(Struct, frozen=True):
    """An array of a file: what it holds, and how to open it at a row's first byte."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    open_at: Callable[[int], Stream]  # bytes into the data

    def pieces(self, size: int, start: int) -> Generator[Array, None, None]:
        """Rows from ``start`` on, cut at multiples of ``size``."""
        if start >= self.shape[0]:
            return
        if self.fortran:
            yield from self._pieces_of_whole(size, start)
            return
        row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        with closing(self.open_at(start * row_bytes)) as file:
            at = start
            while at < self.shape[0]:
                rows = min(size - at % size, self.shape[0] - at)
                data = _exactly(file, rows * row_bytes)
                yield np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:])
                at += rows

    def _pieces_of_whole(self, size: int, start: int) -> Generator[Array, None, None]:
        total = self.dtype.itemsize * math.prod(self.shape)
        if total > WHOLE_MAX_BYTES:
            raise ValueError(f"{total} bytes in Fortran order cannot be read in pieces; save it in C order")
        with closing(self.open_at(0)) as file:
            flat = np.frombuffer(_exactly(file, total), self.dtype)
        whole = flat.reshape(self.shape[::-1]).T
        at = start
        while at < len(whole):
            stop = min(at + size - at % size, len(whole))
            yield np.ascontiguousarray(whole[at:stop])
            at = stop


class ArrayReader(Reader):
    """Rows of arrays that lie side by side: one for each input of the model, and perhaps ids."""

    def __init__(
        self, path: Path, arrays: dict[str, Stored], ids: Stored | None, signature: Sequence[SampleSpec], prefix: str
    ) -> None:
        self._path = path
        self._ids = ids
        self._prefix = prefix
        self._single = len(signature) == 1
        self._arrays = {}
        for spec in signature:
            stored = arrays[spec.name]
            if fits(stored.shape, spec):  # one sample, without a batch axis
                stored = Stored((1, *stored.shape), stored.dtype, stored.fortran, stored.open_at)
            if not stored.shape:
                raise InputError(f"{path}: array {spec.name} is a single number; expected (n, *shape)")
            self._arrays[spec.name] = stored
        lengths = {name: stored.shape[0] for name, stored in self._arrays.items()}
        self.rows = next(iter(lengths.values()))
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name} {n}" for name, n in lengths.items())
            raise InputError(f"{path}: arrays differ in their number of rows: {counts}")
        if ids is not None and ids.shape != (self.rows,):
            raise InputError(f"{path}: {ids.shape[0] if ids.shape else 1} ids for {self.rows} samples")
        for spec in signature:
            shape = self._arrays[spec.name].shape
            if not fits(shape[1:], spec):
                wanted = tuple(size if want < 0 else want for want, size in zip(spec.shape, shape[1:], strict=False))
                wanted = wanted if len(wanted) == len(spec.shape) else spec.shape
                raise InputError(f"{path}: expected shape {(self.rows, *wanted)}, got {shape}")

    def read(self, size: int, start: int = 0) -> Iterator[Chunk]:
        """Chunks, each read when it is asked for."""
        try:
            yield from self._read(size, start)
        except DAMAGED as error:
            raise InputError(f"{self._path}: {error}") from error

    def _read(self, size: int, start: int) -> Iterator[Chunk]:
        with ExitStack() as stack:
            streams = {n: stack.enter_context(closing(s.pieces(size, start))) for n, s in self._arrays.items()}
            ids = None if self._ids is None else stack.enter_context(closing(self._ids.pieces(size, start)))
            for pieces in zip(*streams.values(), strict=True):
                n = len(pieces[0])
                names = row_ids(self._prefix, start, start + n) if ids is None else list(map(str, next(ids).tolist()))
                yield Chunk(start, names, pieces[0] if self._single else dict(zip(streams, pieces, strict=True)))
                start += n


def open_npy(path: Path, signature: Sequence[SampleSpec], prefix: str = "") -> ArrayReader:
    """Samples (n, *shape), or one sample (*shape), of a ``.npy`` file.

    Raises:
        InputError: it is damaged, holds Python objects, or the model has several inputs.
    """
    if len(signature) > 1:
        names = ", ".join(spec.name for spec in signature)
        raise InputError(f"{path}: one array, but the model takes {names}; use an .npz file")
    try:
        with path.open("rb") as file:
            shape, dtype, fortran = _header(file)
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
    except DAMAGED as error:
        raise InputError(f"{path}: {error}") from error
    wanted = dtype.itemsize * math.prod(shape)
    if size - offset < wanted:
        raise InputError(f"{path}: cut short: {size - offset} bytes of {wanted}")

    def open_at(position: int) -> Stream:
        file = path.open("rb")
        file.seek(offset + position)
        return file

    return ArrayReader(path, {signature[0].name: Stored(shape, dtype, fortran, open_at)}, None, signature, prefix)


def open_npz(path: Path, signature: Sequence[SampleSpec], prefix: str = "") -> ArrayReader:
    """Samples of an ``.npz`` file: array ``x`` (or the input's name), or one array for each input; perhaps ``ids``.

    Raises:
        InputError: it is damaged, holds Python objects, or lacks an array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            sources = {}
            for spec in signature:
                plain = len(signature) == 1 and (DEFAULT_NAME in infos or spec.name not in infos)
                name = DEFAULT_NAME if plain else spec.name
                if name not in infos:
                    raise InputError(f"{path}: has no array {name}; it has {', '.join(infos) or 'none'}")
                sources[spec.name] = _member(path, archive, infos[name])
            taken = {spec.name for spec in signature} if len(signature) > 1 else set()
            ids = _member(path, archive, infos[IDS_NAME]) if IDS_NAME in infos and IDS_NAME not in taken else None
    except DAMAGED as error:
        raise InputError(f"{path}: {error}") from error
    return ArrayReader(path, sources, ids, signature, prefix)


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Stored:
    with archive.open(info) as file:
        shape, dtype, fortran = _header(file)
        skip = file.tell()
    missing = skip + dtype.itemsize * math.prod(shape) - info.file_size
    if missing > 0:
        raise ValueError(f"{info.filename}: cut short, {missing} bytes are missing")

    def open_at(position: int) -> Stream:
        if position and info.compress_type == zipfile.ZIP_STORED:
            file = path.open("rb")
            file.seek(info.header_offset + 26)
            lengths = np.frombuffer(_exactly(file, 4), "<u2")  # of name and extra field: PKWARE's local file header
            file.seek(info.header_offset + 30 + int(lengths.sum()) + skip + position)
            return file
        stream = _Member(path, info)
        stream.skip(skip + position)
        return stream

    return Stored(shape, dtype, fortran, open_at)


class _Member:
    """A member of an archive that closes the archive with itself; its checksum is verified at its end."""

    def __init__(self, path: Path, info: zipfile.ZipInfo) -> None:
        self._archive = zipfile.ZipFile(path)
        self._file = self._archive.open(info)

    def read(self, size: int, /) -> bytes:
        return self._file.read(size)

    def skip(self, count: int) -> None:
        while count > 0:
            data = self._file.read(min(count, 1 << 16))
            if not data:
                raise EOFError("the file is cut short")
            count -= len(data)

    def close(self) -> None:
        self._file.close()
        self._archive.close()


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    version = npy.read_magic(file)
    read: Callable[..., Any] = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("holds Python objects, which are not read; save numbers or text")
    return shape, dtype, fortran and len(shape) > 1


def _exactly(file: Stream, count: int) -> bytes:
    data = file.read(count)
    while len(data) < count:
        more = file.read(count - len(data))
        if not more:
            raise EOFError(f"the file is cut short: {count - len(data)} bytes are missing")
        data += more
    return data
