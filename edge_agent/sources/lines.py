"""Samples as JSON lines: ``{"id": "...", "data": BASE64}`` or ``{"id": "...", "values": [...]}``."""

from __future__ import annotations

import os
import select
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from edge_agent.sources import Sample
from shared.errors import UNREADABLE, InputError
from shared.manifest import SampleSpec

LINE_MAX_BYTES = 64 << 20
READ_BYTES = 1 << 16
OVERLONG = b"(an overlong line)"


class _Line(Struct):
    id: str | int | None = None
    data: bytes | None = None
    values: Any = None


def parse_line(line: bytes, spec: SampleSpec) -> Sample:
    """One line as a sample of ``spec``'s dtype and shape.

    Raises:
        InputError: it is no JSON object, has neither ``data`` nor ``values``, or another size than ``spec``.

    >>> parse_line(b'{"id": "a", "values": [1, 2]}', SampleSpec("uint8", (2,)))
    Sample(id='a', data=array([1, 2], dtype=uint8))
    """
    try:
        found = msgspec.json.decode(line, type=_Line)
    except UNREADABLE as error:
        raise InputError(f"not a sample in JSON: {error}") from error
    dtype = np.dtype(spec.dtype)
    size = int(np.prod(spec.shape, dtype=np.int64))
    if found.data is not None:
        if len(found.data) != size * dtype.itemsize:
            raise InputError(
                f"data has {len(found.data)} bytes; {spec.dtype} of shape {spec.shape} needs {size * dtype.itemsize}"
            )
        array = np.frombuffer(found.data, dtype.newbyteorder("<")).astype(dtype, copy=False)
    elif found.values is not None:
        try:
            given = np.asarray(found.values)
            array = given.astype(dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(f"values are no {spec.dtype} array: {error}") from error
        if array.size != size:
            raise InputError(f"{array.size} values; shape {spec.shape} needs {size}")
        if dtype.kind in "iub" and not np.array_equal(array, given):
            raise InputError(f"values do not fit into {spec.dtype}")
    else:
        raise InputError("a sample needs 'data' (base64) or 'values'")
    return Sample(None if found.id is None else str(found.id), array.reshape(spec.shape))


class LineReader:
    """Whole lines from a file descriptor, without ever blocking longer than asked. Of a line longer than
    ``LINE_MAX_BYTES`` only ``OVERLONG`` is given."""

    def __init__(self, descriptor: int) -> None:
        self.ended = False
        self._descriptor = descriptor
        self._rest = bytearray()
        self._skipping = False

    def read(self, seconds: float) -> list[bytes]:
        """Lines that are there, waiting up to ``seconds`` for data. After the end, the unfinished last line too."""
        if self.ended:
            return []
        ready, _, _ = select.select([self._descriptor], [], [], seconds)
        if not ready:
            return []
        data = os.read(self._descriptor, READ_BYTES)
        if not data:
            self.ended = True
            rest, self._rest = bytes(self._rest), bytearray()
            return [rest] if rest.strip() else []
        return self._split(data)

    def _split(self, data: bytes) -> list[bytes]:
        first, newline, others = data.partition(b"\n")
        if not newline:
            self._rest += first
            if len(self._rest) > LINE_MAX_BYTES:
                self._rest.clear()
                self._skipping = True
            return []
        lines = [OVERLONG if self._skipping else bytes(self._rest + first), *others.split(b"\n")]
        self._skipping = False
        self._rest = bytearray(lines.pop())
        return lines


class LineSource:
    """Samples from a stream of lines: what ``command`` and ``stdin`` have in common."""

    def __init__(self, spec: SampleSpec) -> None:
        self.bad = 0
        self.last_error = ""
        self._spec = spec

    def parse(self, lines: list[bytes]) -> list[Sample]:
        """The samples of ``lines``; bad ones are counted. Blank lines mean nothing."""
        samples = []
        for line in lines:
            if not line.strip():
                continue
            try:
                samples.append(parse_line(line, self._spec))
            except InputError as error:
                self.bad += 1
                self.last_error = str(error)
        return samples
