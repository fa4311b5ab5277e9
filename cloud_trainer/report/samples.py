"""One raw sample as something that a person can look at: picture, lines, text, or the cells of a row."""

from __future__ import annotations

from html import escape
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.data import Dataset
from cloud_trainer.report.plot import padded
from cloud_trainer.report.png import image, pixels
from cloud_trainer.svg import ACCENT, ALARM, SERIES, Canvas, linear, shortened
from shared.manifest import SampleSpec

Look = Literal["image", "lines", "wave", "text", "history", "row"]
LINE_COLOURS = (ACCENT, ALARM, *SERIES)
LINES, POINTS, CELLS, LETTERS, LONG = 5, 240, 7, 240, 40


def look_of(spec: SampleSpec, data: Dataset) -> Look:
    """How samples of ``data`` are shown."""
    x = data.x
    if x.dtype == object or x.dtype.kind == "U":
        if x.ndim == 1:
            return "text"
        return "row" if data.columns else "history"
    if spec.kind == "image" or x.ndim == 4:
        return "image"
    if x.ndim == 3:
        return "lines"
    return "wave" if x.ndim == 2 and (data.rate > 0 or x.shape[1] > LONG) and not data.columns else "row"


class Shower:
    """Shows samples of one data set on one scale."""

    def __init__(self, spec: SampleSpec, data: Dataset) -> None:
        self.look = look_of(spec, data)
        self._data = data
        if self.look == "image":
            part = data.x[:512]
            self._range = (0.0, 255.0) if part.dtype == np.uint8 else (float(part.min()), float(part.max()))

    def html(self, i: int) -> str:
        """Sample ``i``: everything but a row."""
        x = self._data.x[i]
        if self.look == "image":
            return image(pixels(x, *self._range), "a sample")
        if self.look == "lines":
            return lines(x)
        if self.look == "wave":
            return wave(x)
        if self.look == "history":
            kept = [str(item) for item in x if item != ""]
            return escape(shortened(" → ".join(kept[-8:]), LETTERS))
        return escape(shortened(str(x), LETTERS))

    def columns(self) -> tuple[str, ...]:
        """Names of the cells that :meth:`cells` gives."""
        width = self._data.x.shape[1] if self._data.x.ndim > 1 else 1
        names = self._data.columns or tuple(f"x{k}" for k in range(width))
        return names[:CELLS]

    def cells(self, i: int) -> tuple[str, ...]:
        """The first cells of row ``i``, as HTML."""
        row = np.atleast_1d(self._data.x[i])[:CELLS]
        return tuple(escape(shortened(_cell(value), 22)) for value in row)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value or "–"
    return "–" if np.isnan(value) else f"{value:.5g}"


def lines(sample: NDArray[Any], width: float = 210.0, height: float = 90.0) -> str:
    """A window (time, channels): at most five channels."""
    values = sample[:: max(1, len(sample) // POINTS), :LINES].astype(np.float64)
    known = values[np.isfinite(values)]
    low, high = padded(float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    canvas = Canvas(width, height)
    at, up = linear(0, max(len(values) - 1, 1), 1, width - 1), linear(low, high, height - 2, 2)
    for k in range(values.shape[1]):
        points = [(at(i), up(v)) for i, v in enumerate(values[:, k]) if np.isfinite(v)]
        canvas.path(points, LINE_COLOURS[k], width=1.3)
    return canvas.done("a window")


def wave(sample: NDArray[Any], width: float = 210.0, height: float = 70.0) -> str:
    """A sound (samples,) as its envelope."""
    parts = np.array_split(sample.astype(np.float64), min(int(width) // 2, len(sample)))
    high, low = (np.asarray([f(part) for part in parts]) for f in (np.max, np.min))
    most = max(float(np.abs([high, low]).max()), 1e-9)
    canvas = Canvas(width, height)
    at, up = linear(0, len(parts) - 1 or 1, 1, width - 1), linear(-most, most, height - 2, 2)
    edge = [(at(i), up(v)) for i, v in enumerate(high)]
    canvas.area([*edge, *reversed([(at(i), up(v)) for i, v in enumerate(low)])], ACCENT, opacity=0.75)
    return canvas.done("a sound")
