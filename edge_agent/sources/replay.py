"""Samples of any file or folder that a reader knows, played at a steady rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edge_agent.sources import Sample
from edge_agent.sources.config import ReplaySource
from edge_agent.sources.pace import Pace
from edge_agent.sources.supervised import Supervised
from shared.manifest import SampleSpec

CHUNK = 64


class Replay(Supervised):
    """Plays the rows of ``path``. Rows that are no samples are counted and left out; a file that breaks off is opened
    again and read on from the row where it broke. Rows without an id, and all from the second round of a loop on, get
    one from the engine."""

    def __init__(
        self,
        config: ReplaySource,
        signature: Sequence[SampleSpec],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(config.path, clock=clock, sleep=sleep)
        self._path = Path(config.path)
        self._signature = tuple(signature)
        self._options = (config.pixels, config.resize)
        self._loop = config.loop
        self._pace = Pace(config.rate_hz, clock=clock, sleep=sleep)
        self._row = 0
        self._rounds = 0
        self._given = 0
        self._rows: Iterator[Sample | None] | None = None

    def open(self) -> None:
        """See :class:`Supervised`."""
        self._rows = self._read_on()

    def read(self, seconds: float) -> list[Sample]:
        """See :class:`Supervised`."""
        assert self._rows is not None
        samples = []
        for _ in range(self._pace.due(seconds)):
            for sample in self._rows:
                self._row += 1
                if sample is not None:
                    samples.append(sample)
                    break
            else:
                self._over()
                break
        self._given += len(samples)
        return samples

    def close(self) -> None:
        """See :class:`Supervised`."""
        self._rows = None

    def _over(self) -> None:
        if self._loop and self._given:  # nothing usable in a whole round would never be otherwise
            self._row, self._given, self._rounds = 0, 0, self._rounds + 1
            self._rows = self._read_on()
        else:
            self.ended = True

    def _read_on(self) -> Iterator[Sample | None]:
        """Rows from ``_row`` on, None for those that are no samples."""
        start = self._row // CHUNK * CHUNK
        skip = self._row - start
        found = rows(self._path, self._signature, start, self._spoilt_from(self._row), *self._options)
        for i, sample in enumerate(found):
            if i >= skip:
                yield sample if sample is None or not self._rounds else Sample(None, sample.data)

    def _spoilt_from(self, first: int) -> Callable[[int, str], None]:
        def tell(row: int, error: str) -> None:
            if row >= first:
                self.spoilt(error)

        return tell


def rows(
    path: Path,
    signature: Sequence[SampleSpec],
    start: int,
    spoilt: Callable[[int, str], None],
    pixels: float | None = None,
    resize: bool = False,
    prefix: str = "",
) -> Iterator[Sample | None]:
    """The rows of a file from ``start`` (a multiple of ``CHUNK``) on; None, told to ``spoilt``, where one is no
    sample. ``prefix`` stands before ids that only count rows; without one they are left out, as they would come again
    with the next file.

    Raises:
        SanderlingError: the file as a whole cannot be read.
    """
    from edge_agent.readers import ReadOptions, open_reader
    from edge_agent.readers.base import row_of

    reader = open_reader(path, signature, ReadOptions(pixels=pixels, resize=resize), prefix)
    try:
        for chunk in reader.read(CHUNK, start):
            bad = {one.position: one.text for one in chunk.bad}
            good = 0
            for i, name in enumerate(chunk.ids):
                row = chunk.start + i
                if i in bad:
                    spoilt(row, bad[i])
                    yield None
                    continue
                assert chunk.samples is not None
                yield Sample(None if name == str(row) else name, row_of(chunk.samples, good))
                good += 1
    finally:
        reader.close()
