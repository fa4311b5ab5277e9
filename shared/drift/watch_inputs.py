"""What is watched of one input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift.bins import Floats
from shared.drift.statistics import IMAGE, SUMMARY, TEXT, WINDOW, image_statistics, summary, text_statistics
from shared.drift.statistics import window_statistics as window
from shared.errors import InputError
from shared.manifest import SampleSpec

MOST_COLUMNS = 64
MOST_CHANNELS = 8
CHUNK_VALUES = 1 << 14
"""Input values worked on at a time: temporary arrays that stay in the processor's cache, a quarter of the time."""


class InputWatch(Struct, frozen=True):
    """Statistics of one input.

    ``input`` is its name in a sample of several; ``shape`` that of one sample, -1 for any size. ``statistics``:
    "image", "columns", "window", "summary", "length" (and summary, of arrays of any size) or "text". ``names`` of the
    scalars.
    """

    input: str
    shape: tuple[int, ...]
    statistics: str
    names: tuple[str, ...]

    @property
    def fixed(self) -> bool:
        """Whether all samples are numbers of one shape."""
        return self.statistics not in {"length", "text"}

    def of(self, x: NDArray[Any]) -> Floats:
        """Watched numbers (n, F) of samples ``x`` (n, *shape).

        Raises:
            InputError: another shape, or another kind of values.
        """
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
        if self.statistics == "text":
            return text_statistics(value if isinstance(value, str) else " ".join(map(str, np.asarray(value).flat)))
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
            "summary": len(SUMMARY),
            "length": 1 + len(SUMMARY),
            "text": len(TEXT),
        }
        return widths.get(self.statistics) == len(self.names) and (not self.fixed or min(self.shape, default=0) >= 0)


_OF: dict[str, Callable[[NDArray[Any]], Floats]] = {"image": image_statistics, "summary": summary, "window": window}


def watch_input(sample: SampleSpec, *, most_columns: int = MOST_COLUMNS) -> InputWatch:
    """How to watch ``sample``: images by what a camera does to them, signals by channel, tables of up to
    ``most_columns`` values by column, text and arrays of any size by their length too, the rest in summary."""
    shape = tuple(sample.shape)
    if sample.dtype == "str":
        return InputWatch(sample.name, shape, "text", TEXT)
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
        if channels == 1:
            return InputWatch(sample.name, shape, "window", WINDOW)
        of = sample.columns if len(sample.columns) == channels else tuple(f"x{k}" for k in range(channels))
        return InputWatch(sample.name, shape, "window", tuple(f"{name}.{what}" for name in of for what in WINDOW))
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
