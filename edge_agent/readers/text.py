"""JSON, JSON lines and lines of text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.readers.base import Chunk, Reader, Samples, assemble, row_id
from edge_agent.readers.convert import to_batch, to_samples
from shared.errors import UNREADABLE, InputError
from shared.manifest import SampleSpec

VALUES = "values"
TEXT = "text"
ID = "id"


class LinesReader(Reader):
    """One sample a line: JSON (``.jsonl``, ``.ndjson``) or, for a model of text, the line itself (``.txt``).

    A JSON line is nested lists, a text, ``{"id": ..., "values": ...}`` with one of those, for several inputs an object
    with each input's name, or for rows of named columns an object with theirs, of which some may be missing. Blank
    lines are no rows.
    """

    def __init__(self, path: Path, signature: Sequence[SampleSpec], prefix: str = "", *, json: bool = True) -> None:
        if not json and (len(signature) > 1 or signature[0].dtype != "str"):
            raise InputError(f"{path}: lines of text, but the model takes {signature[0].dtype}")
        path.open("rb").close()
        self._path = path
        self._signature = signature
        self._prefix = prefix
        self._json = json

    def read(self, size: int, start: int = 0) -> Iterator[Chunk]:
        """Chunks; skipped lines are not parsed."""
        lines = itertools.islice(self._lines(), start, None)
        at = start
        while block := list(itertools.islice(lines, size - at % size)):
            items: list[Any] = []
            for number, line in block:
                where = f"{self._path}:{number}"
                try:
                    items.append(msgspec.json.decode(line) if self._json else line.decode().rstrip("\r\n"))
                except UNREADABLE as error:
                    items.append(InputError(f"{where}: {error}"))
            places = [f"{self._path}:{number}" for number, _ in block]
            yield from _chunks(at, items, places, self._signature, self._prefix)
            at += len(block)
        self.rows = at

    def count(self) -> int:
        """Lines that are not blank."""
        if self.rows is None:
            self.rows = sum(1 for _ in self._lines())
        return self.rows

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with self._path.open("rb") as file:
            yield from ((number, line) for number, line in enumerate(file, 1) if not line.isspace())


class JsonReader(Reader):
    """A JSON document: a list of what a JSON line may be. It is read at once; for much data use JSON lines."""

    def __init__(self, path: Path, signature: Sequence[SampleSpec], prefix: str = "") -> None:
        try:
            items = msgspec.json.decode(path.read_bytes())
        except UNREADABLE as error:
            raise InputError(f"{path}: {error}") from error
        if not isinstance(items, list):
            kind = "an object" if isinstance(items, dict) else type(items).__name__
            raise InputError(f"{path}: expected a list of samples, got {kind}")
        self._path = path
        self._signature = signature
        self._prefix = prefix
        self._items = items
        self.rows = len(items)

    def read(self, size: int, start: int = 0) -> Iterator[Chunk]:
        """Chunks of what is in memory."""
        at = start
        while at < len(self._items):
            stop = min(at + size - at % size, len(self._items))
            places = [f"{self._path}: sample {i}" for i in range(at, stop)]
            yield from _chunks(at, self._items[at:stop], places, self._signature, self._prefix)
            at = stop

    def close(self) -> None:
        """Free the document."""
        self._items = []


def _chunks(
    start: int, items: Sequence[Any], places: Sequence[str], signature: Sequence[SampleSpec], prefix: str
) -> Iterator[Chunk]:
    columns = set(signature[0].columns) if len(signature) == 1 and len(signature[0].shape) == 1 else set()
    names = {spec.name for spec in signature} | columns
    texts = len(signature) == 1 and signature[0].dtype == "str" and signature[0].shape in {(), (1,)}
    ids = [
        str(item[ID]) if isinstance(item, Mapping) and ID in item and ID not in names else row_id(prefix, start + i)
        for i, item in enumerate(items)
    ]
    values = [_values(item, names, texts=texts) for item in items]
    if len(signature) == 1:
        batch = to_batch(values, signature[0])
        if batch is not None:
            yield Chunk(start, ids, batch)
            return
    rows: list[Samples | str] = []
    for value, place in zip(values, places, strict=True):
        if isinstance(value, InputError):
            rows.append(str(value) if str(value).startswith(place) else f"{place}: {value}")
            continue
        try:
            rows.append(to_samples(value, signature))
        except InputError as error:
            rows.append(f"{place}: {error}")
    yield from assemble(start, ids, rows)


def _values(item: Any, names: set[str], *, texts: bool) -> Any:
    """The sample in ``item``, or the error that there is none. Of ``texts`` it may stand under the name that training
    data has it under."""
    if not isinstance(item, Mapping):
        return item
    if VALUES in item and VALUES not in names:
        return item[VALUES]
    if texts and TEXT in item:
        return item[TEXT]
    found = {key: value for key, value in item.items() if key in names}
    return found or InputError(f"has no {VALUES!r}")
