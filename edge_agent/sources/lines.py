"""Samples as JSON lines: ``{"id": "...", "data": BASE64}`` or ``{"id": "...", "values": [...]}``, and for models with
several inputs ``{"id": "...", "inputs": {NAME: [...]}}``."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence

from edge_agent.sources import Sample
from edge_agent.sources.values import parse_values
from shared.errors import InputError
from shared.manifest import SampleSpec

LINE_MAX_BYTES = 64 << 20
READ_BYTES = 1 << 16
OVERLONG = b"(an overlong line)"


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

    def __init__(self, signature: Sequence[SampleSpec]) -> None:
        self.bad = 0
        self.last_error = ""
        self.trouble = ""
        self._signature = tuple(signature)

    def parse(self, lines: list[bytes]) -> list[Sample]:
        """The samples of ``lines``; bad ones are counted. Blank lines mean nothing."""
        samples = []
        for line in lines:
            if not line.strip():
                continue
            try:
                samples.append(parse_values(line, self._signature))
            except InputError as error:
                self.bad += 1
                self.last_error = str(error)
        return samples
