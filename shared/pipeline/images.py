"""The geometry of images (n, h, w) or (n, h, w, c): Resize, Crop, Pad."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.pipeline.base import Array, ArrayOperation, Floats, check_numbers, refuse

IMAGES = "images (n, h, w) or (n, h, w, c)"
Side = Annotated[int, Meta(ge=1, le=4096)]
Margin = Annotated[int, Meta(ge=0, le=4096)]


class Resize(ArrayOperation, frozen=True, tag="resize"):
    """Resize to ``height`` x ``width``, with half-pixel centres.

    - ``bilinear``: no antialiasing, edges repeated (ONNX ``Resize`` with
      ``coordinate_transformation_mode=half_pixel``, ``mode=linear``; OpenCV's ``INTER_LINEAR``).
    - ``nearest``: the pixel under the centre (ONNX ``nearest_mode=round_prefer_ceil``; PIL's ``NEAREST``).
    - ``antialias``: a triangle as wide as the reduction (PIL's ``BILINEAR``; Turkowski 1990).
    - ``area``: the mean of the pixels whose centres are covered (PIL's ``BOX``).

    >>> Resize(height=1, width=2, method="area")(np.array([[[1.0, 3.0, 5.0, 7.0]]]))
    array([[[2., 6.]]], dtype=float32)
    """

    height: Side
    width: Side
    method: Literal["bilinear", "nearest", "antialias", "area"] = "bilinear"

    def __call__(self, batch: Array) -> Floats:
        """(n, h, w) or (n, h, w, c) -> (n, height, width[, c]) float32."""
        check_numbers(self, batch, (3, 4), IMAGES)
        if 0 in batch.shape[1:]:
            raise refuse(self, IMAGES + " of at least one pixel", batch)
        image = batch.astype(np.float32, copy=False)
        if self.method == "bilinear":
            return self._bilinear(image)
        if self.method == "nearest":
            rows, columns = _nearest(image.shape[1], self.height), _nearest(image.shape[2], self.width)
            return image[:, rows][:, :, columns]
        return self._weighted(image)

    def _bilinear(self, image: Floats) -> Floats:
        rows, row_weight = _positions(image.shape[1], self.height)
        columns, column_weight = _positions(image.shape[2], self.width)
        tail = (1,) * (image.ndim - 3)
        row_weight = row_weight.reshape(1, -1, 1, *tail)
        column_weight = column_weight.reshape(1, 1, -1, *tail)
        image = image[:, rows[0]] * (1 - row_weight) + image[:, rows[1]] * row_weight
        out: Floats = image[:, :, columns[0]] * (1 - column_weight) + image[:, :, columns[1]] * column_weight
        return out

    def _weighted(self, image: Floats) -> Floats:
        n, height, width = image.shape[:3]
        channels = image.shape[3:]
        rows = _weights(height, self.height, self.method)
        columns = _weights(width, self.width, self.method)
        flat = np.ascontiguousarray(image).reshape(n, height, math.prod(image.shape[2:]))  # one product a picture
        tall = np.matmul(rows, flat).reshape(n, self.height, width, *channels)
        if not channels:
            out: Floats = np.matmul(tall, columns.T)
            return out
        apart = np.ascontiguousarray(tall.transpose(0, 1, 3, 2)).reshape(n, self.height * channels[0], width)
        small = np.matmul(apart, columns.T).reshape(n, self.height, channels[0], self.width)
        return np.ascontiguousarray(small.transpose(0, 1, 3, 2))


class Crop(ArrayOperation, frozen=True, tag="crop"):
    """Cut out ``height`` x ``width``, at ``top`` and ``left`` or, without them, from the centre (rounded up and left).

    >>> Crop(height=1, width=2)(np.arange(12).reshape(1, 3, 4))
    array([[[5, 6]]])
    """

    height: Side
    width: Side
    top: Margin | None = None
    left: Margin | None = None

    def __call__(self, batch: Array) -> Array:
        """(n, h, w) or (n, h, w, c) -> (n, height, width[, c]), dtype kept; a view."""
        check_numbers(self, batch, (3, 4), IMAGES)
        top = self.top if self.top is not None else (batch.shape[1] - self.height) // 2
        left = self.left if self.left is not None else (batch.shape[2] - self.width) // 2
        if min(top, left) < 0 or top + self.height > batch.shape[1] or left + self.width > batch.shape[2]:
            raise refuse(self, f"images of at least {max(top, 0) + self.height} x {max(left, 0) + self.width}", batch)
        return batch[:, top : top + self.height, left : left + self.width]


class Pad(ArrayOperation, frozen=True, tag="pad"):
    """Add a margin: of ``value``, of the edge's pixels repeated, or of the picture mirrored at its edge.

    >>> Pad(left=1, right=1, value=9)(np.array([[[1, 2]]]))
    array([[[9, 1, 2, 9]]])
    """

    top: Margin = 0
    bottom: Margin = 0
    left: Margin = 0
    right: Margin = 0
    value: float = 0.0
    mode: Literal["constant", "edge", "reflect"] = "constant"

    def __call__(self, batch: Array) -> Array:
        """(n, h, w) or (n, h, w, c) -> (n, top + h + bottom, left + w + right[, c]), dtype kept."""
        check_numbers(self, batch, (3, 4), IMAGES)
        height, width = batch.shape[1:3]
        if self.mode != "constant" and min(height, width) < 1:
            raise refuse(self, IMAGES + " of at least one pixel", batch)
        if self.mode == "reflect" and (max(self.top, self.bottom) >= height or max(self.left, self.right) >= width):
            raise refuse(self, "images larger than the margin to mirror", batch)
        margins = [(0, 0), (self.top, self.bottom), (self.left, self.right), *[(0, 0)] * (batch.ndim - 3)]
        if self.mode != "constant":
            return np.pad(batch, margins, mode=self.mode)
        value = np.array(self.value).astype(batch.dtype)
        if float(value) != self.value and batch.dtype.kind != "f":
            raise refuse(self, f"a dtype that can hold the margin's {self.value}", batch)
        return np.pad(batch, margins, constant_values=value[()])


@lru_cache(maxsize=64)
def _positions(size: int, wanted: int) -> tuple[NDArray[np.intp], Floats]:
    """For each wanted position: the two source positions (2, wanted), and the weight of the second."""
    centre = (np.arange(wanted) + 0.5) * size / wanted - 0.5
    low = np.floor(centre)
    pair = np.clip(np.stack([low, low + 1]), 0, size - 1).astype(np.intp)
    return _frozen(pair), _frozen((centre - low).astype(np.float32))


@lru_cache(maxsize=64)
def _nearest(size: int, wanted: int) -> NDArray[np.intp]:
    """For each wanted position: the source position under its centre."""
    doubled = (2 * np.arange(wanted) + 1) * size  # whole numbers: no centre falls to the wrong side by rounding
    return _frozen((doubled // (2 * wanted)).astype(np.intp))


@lru_cache(maxsize=64)
def _weights(size: int, wanted: int, method: str) -> Floats:
    """(wanted, size): each row the share of every source position, as Pillow's ``Resample.c`` has them."""
    reach = {"area": 0.5, "antialias": 1.0}[method]
    scale = size / wanted
    width = max(scale, 1.0)  # wider than a pixel only when the picture gets smaller
    weights = np.zeros((wanted, size))
    for i in range(wanted):
        centre = (i + 0.5) * scale
        first = max(int(centre - reach * width + 0.5), 0)
        last = min(int(centre + reach * width + 0.5), size)
        distance = (np.arange(first, last) - centre + 0.5) / width
        if method == "area":
            weights[i, first:last] = (distance > -0.5) & (distance <= 0.5)
        else:
            weights[i, first:last] = np.maximum(1 - np.abs(distance), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return _frozen(weights.astype(np.float32))


def _frozen(values: Array) -> Array:
    values.setflags(write=False)
    return values
