"""Step one: from what the sensor gives to what the model was trained on. Arrays have the batch first."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Self

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]


class Scale(Struct, frozen=True, tag="scale", tag_field="op", forbid_unknown_fields=True):
    """``x * factor + offset`` as float32, e.g. ``factor = 1/255`` for images of bytes.

    >>> Scale(factor=0.5)(np.array([[2, 4]], dtype=np.uint8))
    array([[1., 2.]], dtype=float32)
    """

    factor: float
    offset: float = 0.0

    def __call__(self, batch: Array) -> Floats:
        """(n, ...) any numeric dtype -> (n, ...) float32."""
        out: Floats = np.multiply(batch, np.float32(self.factor), dtype=np.float32)
        if self.offset:
            out += np.float32(self.offset)
        return out

    def into(self, target: Array) -> Callable[[Array], None]:
        """The same, written into ``target``."""
        factor, offset = np.float32(self.factor), np.float32(self.offset)
        multiply, add = np.multiply, np.add

        def run(batch: Array) -> None:
            multiply(batch, factor, target, dtype=np.float32)

        def run_with_offset(batch: Array) -> None:
            multiply(batch, factor, target, dtype=np.float32)
            add(target, offset, target)

        return run_with_offset if self.offset else run


class Standardize(Struct, frozen=True, tag="standardize", tag_field="op", forbid_unknown_fields=True):
    """``(x - mean) / std`` as float32; one pair for the whole sample, or one for each entry of the last axis."""

    mean: tuple[float, ...]
    std: tuple[Annotated[float, Meta(gt=0)], ...]

    def __call__(self, batch: Array) -> Floats:
        """(n, ..., c) -> (n, ..., c) float32."""
        mean = np.asarray(self.mean, np.float32)
        inverse = np.float32(1) / np.asarray(self.std, np.float32)
        out: Floats = np.subtract(batch, mean, dtype=np.float32)
        out *= inverse
        return out

    def into(self, target: Array) -> Callable[[Array], None]:
        """The same, written into ``target``."""
        mean = np.asarray(self.mean, np.float32)
        inverse = np.float32(1) / np.asarray(self.std, np.float32)
        subtract, multiply = np.subtract, np.multiply

        def run(batch: Array) -> None:
            subtract(batch, mean, target, dtype=np.float32)
            multiply(target, inverse, target)

        return run

    @classmethod
    def fit(cls, batch: Array, *, per_column: bool = False) -> Self:
        """Mean and standard deviation of training data; a constant column gets a standard deviation of 1."""
        axes = tuple(range(batch.ndim - 1)) if per_column else None
        mean = np.atleast_1d(np.mean(batch, axis=axes, dtype=np.float64))
        std = np.atleast_1d(np.std(batch, axis=axes, dtype=np.float64))
        std[std < 1e-12] = 1.0
        return cls(mean=tuple(mean.tolist()), std=tuple(std.tolist()))


class Clip(Struct, frozen=True, tag="clip", tag_field="op", forbid_unknown_fields=True):
    """Limit values to ``[low, high]``; for integer samples to the integers in between."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"clip: low {self.low} must not be above high {self.high}")

    def __call__(self, batch: Array) -> Array:
        """(n, ...) -> (n, ...), dtype kept."""
        low, high = self._limits(batch.dtype)
        return np.clip(batch, low, high)

    def into(self, target: Array) -> Callable[[Array], None]:
        """The same, written into ``target``."""
        low, high = self._limits(target.dtype)
        clip = np.clip

        def run(batch: Array) -> None:
            clip(batch, low, high, out=target)

        return run

    def _limits(self, dtype: np.dtype[Any]) -> tuple[Any, Any]:
        """Both limits as ``dtype``: as Python floats they would turn integers into float64."""
        low, high = self.low, self.high
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            low, high = max(math.ceil(low), info.min), min(math.floor(high), info.max)
        return dtype.type(low), dtype.type(high)


class Resize(Struct, frozen=True, tag="resize", tag_field="op", forbid_unknown_fields=True):
    """Bilinear resize of images with half-pixel centres and no antialiasing, edges repeated (ONNX ``Resize`` with
    ``coordinate_transformation_mode=half_pixel``, ``mode=linear``)."""

    height: Annotated[int, Meta(ge=1, le=4096)]
    width: Annotated[int, Meta(ge=1, le=4096)]

    def __call__(self, batch: Array) -> Floats:
        """(n, h, w) or (n, h, w, c) -> (n, height, width[, c]) float32."""
        rows, row_weight = _positions(batch.shape[1], self.height)
        columns, column_weight = _positions(batch.shape[2], self.width)
        tail = (1,) * (batch.ndim - 3)
        row_weight = row_weight.reshape(1, -1, 1, *tail)
        column_weight = column_weight.reshape(1, 1, -1, *tail)
        image = batch.astype(np.float32, copy=False)
        image = image[:, rows[0]] * (1 - row_weight) + image[:, rows[1]] * row_weight
        out: Floats = image[:, :, columns[0]] * (1 - column_weight) + image[:, :, columns[1]] * column_weight
        return out


def _positions(size: int, wanted: int) -> tuple[NDArray[np.intp], Floats]:
    """For each wanted position: the two source positions (2, wanted), and the weight of the second."""
    centre = (np.arange(wanted) + 0.5) * size / wanted - 0.5
    low = np.floor(centre)
    pair = np.clip(np.stack([low, low + 1]), 0, size - 1).astype(np.intp)
    return pair, (centre - low).astype(np.float32)
