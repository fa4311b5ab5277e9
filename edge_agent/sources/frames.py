"""Video frames as samples of an image model. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.errors import ConfigError, InputError
from shared.manifest import SampleSpec

LUMA = np.array([299, 587, 114], np.uint32)
"""Rec. ITU-R BT.601, in thousandths, as in Pillow's conversion to grey."""


class Layout(Struct, frozen=True):
    """How a model takes images: ``channels`` 1 or 3 on ``axis`` (None: a plain (H, W)), ``dtype``, and for floating
    point the value of ``white``. A ``height`` or ``width`` of None is any."""

    axis: int | None
    channels: int
    dtype: str
    white: float | None
    height: int | None
    width: int | None

    @classmethod
    def of(cls, signature: Sequence[SampleSpec], pixels: float | None) -> Self:
        """The layout of a model's only input.

        Raises:
            ConfigError: it has several inputs, no image, or floating point values and ``pixels`` is None.
        """
        spec = signature[0]
        shape = spec.shape
        axis: int | None = None
        if len(shape) == 3:
            axis = 2 if shape[2] in {1, 3, -1} else 0
        taken = spec.dtype != "str" and len(signature) == 1 and len(shape) in {2, 3}
        if not taken or (axis is not None and shape[axis] not in {1, 3, -1}):
            told = ", ".join(f"{one.dtype} {one.shape}" for one in signature)
            raise ConfigError(f"source: a camera needs a model of one image (H, W) or (H, W, 3); this one takes {told}")
        floating = np.dtype(spec.dtype).kind == "f"
        if floating and pixels is None:
            raise ConfigError(f"source: the model takes {spec.dtype} images; say with pixels = 255 or 1 what white is")
        height, width = (None if size < 0 else size for i, size in enumerate(shape) if i != axis)
        channels = 1 if axis is None or shape[axis] == 1 else 3
        return cls(axis, channels, spec.dtype, float(pixels or 1) if floating else None, height, width)

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Height and width."""
        return self.height, self.width


def to_sample(frame: NDArray[np.uint8], layout: Layout) -> NDArray[Any]:
    """A frame (height, width, 3), RGB, as the model takes it; grey is BT.601 luma, another size is resampled.

    Raises:
        InputError: it is no such frame.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
        raise InputError(f"expected a frame (height, width, 3) uint8, got {frame.shape} {frame.dtype}")
    image = resized(frame, layout.height or frame.shape[0], layout.width or frame.shape[1])
    if layout.channels == 1:
        image = ((image @ LUMA + 500) // 1000).astype(np.uint8)
    if layout.axis is not None:
        image = np.moveaxis(image[..., None] if image.ndim == 2 else image, -1, layout.axis)
    dtype = np.dtype(layout.dtype)
    if layout.white is not None:
        scaled: NDArray[Any] = np.ascontiguousarray(image, dtype) * dtype.type(layout.white / 255)
        return scaled
    made = np.ascontiguousarray(image.astype(dtype))
    if dtype == np.int8 and (image > 127).any():
        raise InputError("int8 cannot hold pixels above 127")
    return made


def resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """``image`` (h, w, c) as (height, width, c): the mean of the pixels under each new one when it shrinks (exact area
    weights), the nearest pixel when it grows."""
    for axis, size in ((0, height), (1, width)):
        found = image.shape[axis]
        if size < found:
            image = _shrunk(image, axis, size)
        elif size > found:
            image = np.take(image, np.arange(size) * found // size, axis)
    return image


def _shrunk(image: NDArray[np.uint8], axis: int, size: int) -> NDArray[np.uint8]:
    """Area average along one axis, from sums up to each (fractional) edge."""
    found = image.shape[axis]
    sums = np.zeros((found + 1, *np.moveaxis(image, axis, 0).shape[1:]))
    np.cumsum(np.moveaxis(image, axis, 0), axis=0, out=sums[1:])
    edges = np.arange(size + 1) * (found / size)
    low = np.minimum(edges.astype(np.intp), found - 1)
    part = (edges - low).reshape(-1, *[1] * (sums.ndim - 1))
    at = sums[low] + part * (sums[low + 1] - sums[low])
    mean = np.diff(at, axis=0) * (size / found)
    return np.moveaxis(np.rint(mean).astype(np.uint8), 0, axis)
