"""Directories, and several inputs in one job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edge_agent.readers import images
from edge_agent.readers.arrays import open_npy, open_npz
from edge_agent.readers.base import Chunk, Reader, ReadOptions
from edge_agent.readers.images import ImageReader
from edge_agent.readers.parquet import ParquetReader
from edge_agent.readers.table import CsvReader
from edge_agent.readers.text import JsonReader, LinesReader
from edge_agent.readers.wav import WavReader
from shared.errors import UsageError
from shared.files import reason
from shared.manifest import SampleSpec

Opener = Callable[[], Reader]
Signature = Sequence[SampleSpec]

FILES: dict[str, Callable[[Path, Signature, str], Reader]] = {
    ".csv": CsvReader,
    ".tsv": CsvReader,
    ".npy": open_npy,
    ".npz": open_npz,
    ".parquet": ParquetReader,
    ".json": JsonReader,
    ".jsonl": LinesReader,
    ".ndjson": LinesReader,
    ".txt": lambda path, signature, prefix: LinesReader(path, signature, prefix, json=False),
}
MEDIA: dict[str, Callable[[Sequence[Path], Sequence[str], Signature, ReadOptions], Reader]] = {
    **dict.fromkeys(sorted(images.SUFFIXES), ImageReader),
    ".wav": WavReader,
}
KINDS = (*FILES, ".wav", ".png", ".jpg")


DEFAULTS = ReadOptions()


class Joined(Reader):
    """Readers one after the other. Each is open only while its rows are read."""

    def __init__(self, openers: Sequence[Opener]) -> None:
        self._openers = openers
        self._counts: list[int | None] = [None] * len(openers)
        self._current: Reader | None = None

    def read(self, size: int, start: int = 0) -> Iterator[Chunk]:
        """Chunks, which never reach over from one file to the next."""
        offset = 0
        for i in range(len(self._openers)):
            if offset < start:  # perhaps all of it is to be skipped
                self._count(i)
            known = self._counts[i]
            if known is None or offset + known > start:
                for chunk in self._read(i, size, max(start - offset, 0)):
                    yield Chunk(chunk.start + offset, chunk.ids, chunk.samples, chunk.bad)
            offset += self._count(i)
        self.rows = offset

    def count(self) -> int:
        """Rows of all."""
        if self.rows is None:
            self.rows = sum(map(self._count, range(len(self._openers))))
        return self.rows

    def cut(self, row: int, size: int) -> int:
        """The last boundary at or before ``row``: within a file as that file has it."""
        offset = 0
        for i in range(len(self._openers)):
            count = self._count(i)
            if row < offset + count:
                return offset + (row - offset) // size * size
            offset += count
        return offset

    def close(self) -> None:
        """Close what is open."""
        if self._current is not None:
            self._current.close()

    def _read(self, i: int, size: int, start: int) -> Iterator[Chunk]:
        reader = self._current = self._openers[i]()
        try:
            yield from reader.read(size, start)
            self._counts[i] = reader.rows
        finally:
            reader.close()

    def _count(self, i: int) -> int:
        known = self._counts[i]
        if known is None:
            reader = self._openers[i]()
            try:
                known = self._counts[i] = reader.count()
            finally:
                reader.close()
        return known


def open_reader(path: Path, signature: Signature, options: ReadOptions = DEFAULTS, prefix: str = "") -> Reader:
    """The reader for a file, by its suffix, or for a directory: its files of known kinds, in the order of their names.

    Ids that a file does not give are row numbers, with the file's name before them in a directory; an image's id is its
    path within the directory. ``prefix`` stands before the numbers of a single file.

    Raises:
        UsageError: there is nothing at ``path``, or nothing of a known kind.
        InputError: it is damaged, or its columns or arrays do not fit ``signature``.
        MissingExtraError: its kind needs an extra that is not installed.
    """
    try:
        return _opened(path, signature, options, prefix)
    except OSError as error:
        raise UsageError(f"{path}: {reason(error)}") from error


def open_readers(paths: Sequence[Path], signature: Signature, options: ReadOptions = DEFAULTS) -> Reader:
    """One reader for all ``paths``, in the order given; what can be checked without reading rows is.

    Raises:
        UsageError, InputError, MissingExtraError: as :func:`open_reader`.
    """
    if len(paths) == 1:
        return open_reader(paths[0], signature, options)
    openers = [_deferred(path, signature, options) for path in paths]
    for opener in openers:
        opener().close()
    return Joined(openers)


def _deferred(path: Path, signature: Signature, options: ReadOptions) -> Opener:
    return lambda: open_reader(path, signature, options, prefix=path.name)


def _opened(path: Path, signature: Signature, options: ReadOptions, prefix: str) -> Reader:
    if path.is_dir():
        return _directory(path, signature, options)
    suffix = path.suffix.lower()
    if suffix in MEDIA:
        return MEDIA[suffix]([path], [path.name], signature, options)
    if suffix not in FILES:
        raise UsageError(f"{path}: expected a directory or a file ending in {', '.join(KINDS)}")
    return FILES[suffix](path, signature, prefix)


def files_of(path: Path) -> list[Path]:
    """The files that a reader of ``path`` reads: itself, or those of known kinds under a directory, sorted by path;
    nothing hidden."""
    if not path.is_dir():
        return [path]
    found = [file for file in path.rglob("*") if file.suffix.lower() in {*FILES, *MEDIA}]
    shown = [f for f in found if not any(part.startswith(".") for part in f.relative_to(path).parts)]
    return sorted((f for f in shown if f.is_file()), key=lambda file: file.relative_to(path).as_posix())


def _directory(path: Path, signature: Signature, options: ReadOptions) -> Reader:
    files = files_of(path)
    if not files:
        raise UsageError(f"{path}: no file in it ends in {', '.join(KINDS)}")
    openers: list[Opener] = []
    at = 0
    while at < len(files):
        kind, stop = MEDIA.get(files[at].suffix.lower()), at + 1
        if kind is None:
            openers.append(_named(files[at], path, signature, options))
        else:  # neighbours of one kind share batches
            while stop < len(files) and MEDIA.get(files[stop].suffix.lower()) is kind:
                stop += 1
            group = files[at:stop]
            names = [file.relative_to(path).as_posix() for file in group]
            openers.append(_media(kind, group, names, signature, options))
        at = stop
    return openers[0]() if len(openers) == 1 else Joined(openers)


def _named(file: Path, root: Path, signature: Signature, options: ReadOptions) -> Opener:
    return lambda: _opened(file, signature, options, file.relative_to(root).as_posix())


def _media(
    kind: Callable[[Sequence[Path], Sequence[str], Signature, ReadOptions], Reader],
    group: Sequence[Path],
    names: Sequence[str],
    signature: Signature,
    options: ReadOptions,
) -> Opener:
    return lambda: kind(group, names, signature, options)
