"""Answers as they are kept until they are counted: copies of what is watched, no more, and no sums yet.

A copy of 16 numbers costs a tenth of a microsecond, their statistics ten times that; so statistics are made of many
samples at once. Only of samples without a fixed shape they are made at once, since copies of those have no bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.drift.bins import Floats
from shared.drift.watch import WatchSpec
from shared.drift.watch_inputs import InputWatch
from shared.drift.watch_outputs import ClassWatch, FieldWatch, OutputWatch

Row = Mapping[str, Any]
Captured = tuple[Any, ...] | None
Capture = Callable[[Any, Row], Captured]
SLICE_BYTES = 1 << 19
"""Samples whose numbers are made in one go: their statistics need several times the memory of the samples."""
FLOAT32 = np.dtype(np.float32)
STRANGE = (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError)
"""What an answer that is not like the others makes happen; it counts as missing."""


class _Part(Protocol):
    """One input or output."""

    nbytes: int

    def keep(self, value: Any) -> Any:
        """A copy of one sample, or of what is watched of an answer's fields."""

    def fold(self, kept: Sequence[Any]) -> Floats:
        """Watched numbers (n, F) of copies, NaN for those that are None."""


class Recorder:
    """Captures what ``watch`` looks at, and makes numbers of it.

    ``capture`` is the function that captures one answer, given its sample and fields: None where it is strange.
    ``nbytes``: memory of one captured answer, about.
    """

    def __init__(self, watch: WatchSpec, dtypes: Sequence[str]) -> None:
        """``dtypes`` of the samples of each watched input."""
        self._inputs: list[_Part] = [
            _Values(part, dtype) if part.fixed else _AnySize(part)
            for part, dtype in zip(watch.parts, dtypes, strict=True)
        ]
        self._names = [part.input for part in watch.parts]
        self._outputs: list[_Part] = [_output(part) for part in watch.answers]
        self._kept = watch.kept if watch.dropped else None
        self.watch = watch
        self.capture = self._capture()
        self.nbytes = sum(part.nbytes for part in (*self._inputs, *self._outputs))

    def _capture(self) -> Capture:
        if len(self._inputs) == len(self._outputs) == 1:
            first, last = self._inputs[0], self._outputs[0]
            if isinstance(first, _Values) and isinstance(last, _Scores) and not last.wide:
                return _classifier(first.dtype)
            return _pair(first.keep, last.keep)
        return self._any

    def _any(self, sample: Any, row: Row) -> Captured:
        try:
            if isinstance(sample, Mapping):
                kept = [part.keep(sample[name]) for name, part in zip(self._names, self._inputs, strict=True)]
            else:
                kept = [self._inputs[0].keep(sample), *(None for _ in self._inputs[1:])]
            return (*kept, *(part.keep(row) for part in self._outputs))
        except STRANGE:
            return None

    def fold(self, captured: Sequence[Captured]) -> Floats:
        """Watched numbers (n, F) of captured answers; all missing of strange ones."""
        parts = (*self._inputs, *self._outputs)
        whole = [(None,) * len(parts) if one is None else one for one in captured] if None in captured else captured
        columns = zip(*whole, strict=True)
        rows = np.concatenate([part.fold(column) for part, column in zip(parts, columns, strict=True)], axis=1)
        return rows if self._kept is None else rows[:, self._kept]


def _classifier(dtype: np.dtype[Any]) -> Capture:
    """One array in, scores out, in as few steps as can be."""

    def capture(sample: Any, row: Row) -> Captured:
        try:
            if sample.dtype is not dtype:
                sample = sample.astype(dtype)
            scores = row["scores"]
            if scores.dtype is not FLOAT32:
                scores = scores.astype(FLOAT32)
            return sample.tobytes(), scores.tobytes()
        except STRANGE:
            return None

    return capture


def _pair(keep_input: Callable[[Any], Any], keep_output: Callable[[Any], Any]) -> Capture:
    def capture(sample: Any, row: Row) -> Captured:
        try:
            return keep_input(sample), keep_output(row)
        except STRANGE:
            return None

    return capture


class _Values:
    """Samples of one shape."""

    def __init__(self, part: InputWatch, dtype: str) -> None:
        self._of, self._shape, self._width = part.of, part.shape, len(part.names)
        self.dtype = np.dtype(dtype)
        self.nbytes = max(1, math.prod(part.shape) * self.dtype.itemsize)

    def keep(self, value: Any) -> bytes:
        if value.dtype is not self.dtype:
            value = value.astype(self.dtype)
        copy: bytes = value.tobytes()
        return copy

    def fold(self, kept: Sequence[Any]) -> Floats:
        return _fold(kept, self.dtype, self._shape, self._width, self._of)


class _AnySize:
    """Samples without a fixed shape, and texts: their statistics."""

    def __init__(self, part: InputWatch) -> None:
        self._part, self.nbytes = part, 8 * len(part.names)

    def keep(self, value: Any) -> tuple[float, ...]:
        return self._part.one(value)

    def fold(self, kept: Sequence[Any]) -> Floats:
        return _table(kept, len(self._part.names))


class _Scores:
    """Answers of a classifier."""

    def __init__(self, part: ClassWatch) -> None:
        self._part = part
        self.wide = len(part.directions) > 0
        self.nbytes = 4 * (part.classes + len(part.center))

    def keep(self, row: Row) -> Any:
        scores = row["scores"]
        if scores.dtype is not FLOAT32:
            scores = scores.astype(FLOAT32)
        if not self.wide:
            return scores.tobytes()
        embedding = row["embedding"]
        if embedding.dtype is not FLOAT32:
            embedding = embedding.astype(FLOAT32)
        return scores.tobytes() + embedding.tobytes()

    def fold(self, kept: Sequence[Any]) -> Floats:
        part = self._part
        size = part.classes + (len(part.center) if self.wide else 0)

        def of(rows: NDArray[Any]) -> Floats:
            return part.of(rows[:, : part.classes], rows[:, part.classes :])

        return _fold(kept, FLOAT32, (size,), len(part.names), of)


class _Projected:
    """Embeddings, projected many at once."""

    def __init__(self, part: FieldWatch) -> None:
        self._part, self.nbytes = part, FLOAT32.itemsize * part.size

    def keep(self, row: Row) -> bytes:
        embedding = row[self._part.field]
        if embedding.dtype is not FLOAT32:
            embedding = embedding.astype(FLOAT32)
        copy: bytes = embedding.tobytes()
        return copy

    def fold(self, kept: Sequence[Any]) -> Floats:
        return _fold(kept, FLOAT32, (self._part.size,), len(self._part.names), self._part.project)


class _Field:
    """Answers that are a number, numbers or boxes."""

    def __init__(self, part: FieldWatch) -> None:
        self._part, self.nbytes = part, 8 * len(part.names)

    def keep(self, row: Row) -> tuple[float, ...]:
        value = row[self._part.field]
        return (value,) if type(value) is float and self._part.what == "number" else self._part.one(value)

    def fold(self, kept: Sequence[Any]) -> Floats:
        return _table(kept, len(self._part.names))


def _output(part: OutputWatch) -> _Part:
    if isinstance(part, ClassWatch):
        return _Scores(part)
    return _Projected(part) if part.what == "projections" else _Field(part)


def _fold(
    kept: Sequence[Any], dtype: np.dtype[Any], shape: tuple[int, ...], width: int, of: Callable[[NDArray[Any]], Floats]
) -> Floats:
    """``of`` the arrays whose bytes ``kept`` are; NaN for those that are None or of another size."""
    each = math.prod(shape) * dtype.itemsize
    if None not in kept and set(map(len, kept)) <= {each}:
        step = max(1, SLICE_BYTES // max(1, each))
        slices = [kept[start : start + step] for start in range(0, len(kept), step)] or [kept]
        found = [of(np.frombuffer(b"".join(part), dtype).reshape(len(part), *shape)) for part in slices]
        return found[0] if len(found) == 1 else np.concatenate(found)
    good = [k for k, one in enumerate(kept) if one is not None and len(one) == each]
    rows = np.full((len(kept), width), np.nan)
    if good:
        rows[good] = of(np.frombuffer(b"".join([kept[k] for k in good]), dtype).reshape(len(good), *shape))
    return rows


def _table(kept: Sequence[Any], width: int) -> Floats:
    missing = (math.nan,) * width
    return np.array([missing if one is None else one for one in kept], dtype=np.float64).reshape(len(kept), width)
