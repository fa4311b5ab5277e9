"""What is watched of one input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift.bins import CATEGORY, VALUE, Floats
from shared.drift.statistics import (
    IMAGE,
    LEAST_TIMES,
    SIGNAL,
    SUMMARY,
    TEXT,
    WINDOW,
    image_statistics,
    signal_statistics,
    summary,
    text_statistics,
    window_statistics,
)
from shared.errors import InputError
from shared.manifest import SampleSpec
from shared.pipeline.columns import Parse
from shared.pipeline.spec import Pipeline
from shared.pipeline.text import CleanText, Tokens

MOST_COLUMNS = 64
MOST_CHANNELS = 8
MOST_SPECTRA = 4
"""Channels of a signal whose bands are watched too: more would be too many scalars."""
UNKNOWN = "unknown"
CHUNK_VALUES = 1 << 14
"""Input values worked on at a time: temporary arrays that stay in the processor's cache, a quarter of the time."""


class InputWatch(Struct, frozen=True):
    """Statistics of one input.

    ``input`` is its name in a sample of several; ``shape`` that of one sample, -1 for any size. ``statistics``:
    "image", "columns", "window", "signal" (and its bands), "summary", "length" (and summary, of arrays of any size),
    "text" or "row". ``names`` of the scalars. ``tokens``: the operations that make tokens of a text, for the share of
    those that the vocabulary lacks; the last one is a ``Tokens``. ``parse``: how a row of text becomes numbers, which
    are watched column by column.
    """

    input: str
    shape: tuple[int, ...]
    statistics: str
    names: tuple[str, ...]
    tokens: tuple[CleanText | Tokens, ...] = ()
    parse: Parse | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the scalars: categories of a row of text have no order."""
        categories = {entry.column for entry in self.parse.categories} if self.parse is not None else set[int]()
        return tuple(CATEGORY if k in categories else VALUE for k in range(len(self.names)))

    @property
    def fixed(self) -> bool:
        """Whether all samples are numbers of one shape."""
        return self.statistics not in {"length", "text", "row"}

    def of(self, x: NDArray[Any]) -> Floats:
        """Watched numbers (n, F) of samples ``x`` (n, *shape).

        Raises:
            InputError: another shape, or another kind of values.
        """
        if self.parse is not None:
            try:
                return self.parse(np.asarray(x)).astype(np.float64)
            except ValueError as error:
                raise InputError(f"samples: {error}") from error
        if not self.fixed:
            return np.array([self.one(value) for value in x]).reshape(len(x), len(self.names))
        x = np.asarray(x)
        if x.shape[1:] != self.shape or x.dtype.kind not in "fiub":
            raise InputError(
                f"samples of shape {x.shape} and dtype {x.dtype}; "
                f"expected numbers of shape (n, {', '.join(map(str, self.shape))})"
            )
        if self.statistics == "columns":
            return x.reshape(len(x), math.prod(self.shape)).astype(np.float64)
        step = max(1, CHUNK_VALUES // max(1, math.prod(self.shape)))
        parts = [_OF[self.statistics](x[at : at + step]) for at in range(0, len(x), step)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.names)))

    def one(self, value: Any) -> tuple[float, ...]:
        """Watched numbers of one sample of any size, or of one text or array of texts."""
        if self.parse is not None:
            return tuple(self.parse(np.asarray(value)[None])[0].tolist())
        if self.statistics == "text":
            text = value if isinstance(value, str) else " ".join(map(str, np.asarray(value).flat))
            found = text_statistics(text)
            return (*found, unknown_share(text, self.tokens)) if self.tokens else found
        array = np.asarray(value)
        return (float(array.size), *summary(array[None])[0].tolist())

    def valid(self) -> bool:
        """Whether statistics, shape and names belong together."""
        colour = len(self.shape) == 3 and self.shape[2] >= 3
        channels = max(1, math.prod(self.shape[1:]))
        image, signal = (
            len(self.shape) in {2, 3} and min(self.shape[:2]) >= 3,
            bool(self.shape) and self.shape[0] >= 2,
        )
        widths = {
            "image": len(IMAGE) + colour if image else -1,
            "columns": math.prod(self.shape),
            "window": len(WINDOW) * channels if signal and channels <= MOST_CHANNELS else -1,
            "signal": len(SIGNAL) * channels if signal and _has_bands(self.shape) else -1,
            "summary": len(SUMMARY),
            "length": 1 + len(SUMMARY),
            "text": len(TEXT) + bool(self.tokens),
            "row": math.prod(self.shape),
        }
        if (self.statistics == "row") != (self.parse is not None and (self.parse.width,) == self.shape):
            return False
        if self.tokens and not isinstance(self.tokens[-1], Tokens):
            return False
        return widths.get(self.statistics) == len(self.names) and (not self.fixed or min(self.shape, default=0) >= 0)


_OF: dict[str, Callable[[NDArray[Any]], Floats]] = {
    "image": image_statistics,
    "signal": signal_statistics,
    "summary": summary,
    "window": window_statistics,
}


def unknown_share(text: str, tokens: Sequence[CleanText | Tokens]) -> float:
    """Share of ``text``'s tokens, as many as the model takes, that are not in the vocabulary; 0 of none.

    >>> unknown_share("red or blue", [Tokens(vocabulary=("red", "blue"), max_length=8)])
    0.3333333333333333
    """
    batch: NDArray[Any] = np.array([text], dtype=object)
    for operation in tokens:
        batch = operation(batch)
    last = tokens[-1]
    assert isinstance(last, Tokens)
    frame = (last.begin is not None) + (last.end is not None)
    count = int(np.count_nonzero(batch != last.padding)) - frame
    return float(np.count_nonzero(batch == last.unknown)) / count if count > 0 else 0.0


def tokens_of(pipeline: Pipeline | None) -> tuple[CleanText | Tokens, ...]:
    """The operations of ``pipeline`` that make tokens of its text; none where it has other ones before these, or where
    unknown words look like padding."""
    if pipeline is None:
        return ()
    found: list[CleanText | Tokens] = []
    for operation in (*pipeline.preprocess, *pipeline.encode):
        if not isinstance(operation, CleanText | Tokens):
            break
        found.append(operation)
        if isinstance(operation, Tokens):
            return tuple(found) if operation.unknown != operation.padding else ()
    return ()


def parse_of(pipeline: Pipeline | None) -> Parse | None:
    """The operation of ``pipeline`` that makes numbers of rows of text."""
    first = next(iter(pipeline.preprocess), None) if pipeline is not None else None
    return first if isinstance(first, Parse) else None


def watch_input(
    sample: SampleSpec, *, most_columns: int = MOST_COLUMNS, pipeline: Pipeline | None = None
) -> InputWatch:
    """How to watch ``sample``: images by what a camera does to them, signals by channel, tables of up to
    ``most_columns`` values by column, text and arrays of any size by their length too, the rest in summary; text for
    a ``pipeline`` with a vocabulary also by the share of words that are not in it. Rows of text that a ``pipeline``
    parses are watched by column, too: as numbers, or as categories."""
    shape = tuple(sample.shape)
    if sample.dtype == "str":
        parse = parse_of(pipeline)
        if parse is not None and shape == (parse.width,) and parse.width <= most_columns:
            named = sample.columns if len(sample.columns) == parse.width else tuple(f"x{k}" for k in range(parse.width))
            return InputWatch(sample.name, shape, "row", tuple(named), parse=parse)
        tokens = tokens_of(pipeline)
        return InputWatch(sample.name, shape, "text", (*TEXT, *((UNKNOWN,) if tokens else ())), tokens)
    if not sample.fixed:
        return InputWatch(sample.name, shape, "length", ("length", *SUMMARY))
    size = math.prod(shape)
    if sample.kind == "image" and len(shape) in {2, 3} and min(shape[:2]) >= 3:
        colour = len(shape) == 3 and shape[2] >= 3
        return InputWatch(sample.name, shape, "image", (*IMAGE, *(("saturation",) if colour else ())))
    if size <= most_columns:
        named = sample.columns if len(sample.columns) == size else tuple(f"x{k}" for k in range(size))
        return InputWatch(sample.name, shape, "columns", tuple(named))
    channels = max(1, math.prod(shape[1:]))
    if sample.kind == "window" and shape[0] >= 2 and channels <= MOST_CHANNELS:
        statistics, what = ("signal", SIGNAL) if _has_bands(shape) else ("window", WINDOW)
        if channels == 1:
            return InputWatch(sample.name, shape, statistics, what)
        of = sample.columns if len(sample.columns) == channels else tuple(f"x{k}" for k in range(channels))
        return InputWatch(sample.name, shape, statistics, tuple(f"{name}.{one}" for name in of for one in what))
    return InputWatch(sample.name, shape, "summary", SUMMARY)


def watch_further(samples: Sequence[SampleSpec], room: int) -> tuple[InputWatch, ...]:
    """How to watch the inputs beside the first, ``room`` scalars at most: single numbers as they are, the rest in
    summary, named after the input. What there is no room for is not watched."""
    found = []
    for sample in samples:
        if sample.dtype == "str":
            part = InputWatch(sample.name, sample.shape, "text", TEXT)
        elif not sample.fixed:
            part = InputWatch(sample.name, sample.shape, "length", ("length", *SUMMARY))
        elif math.prod(sample.shape) == 1:
            found.append(InputWatch(sample.name, sample.shape, "columns", (sample.name,)))
            room -= 1
            continue
        else:
            part = InputWatch(sample.name, sample.shape, "summary", SUMMARY)
        names = tuple(f"{sample.name}.{name}" for name in part.names)
        found.append(InputWatch(sample.name, sample.shape, part.statistics, names))
        room -= len(names)
    while found and room < 0:
        room += len(found.pop().names)
    return tuple(found)


def _has_bands(shape: Sequence[int]) -> bool:
    return shape[0] >= LEAST_TIMES and max(1, math.prod(shape[1:])) <= MOST_SPECTRA
