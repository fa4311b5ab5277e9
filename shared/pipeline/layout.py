"""Shape and dtype of the tensor that the model file declares: AddChannel, Layout, Reshape, Cast.

Quantized inputs are the backend's. ``through(target, source)`` of an operation that only arranges memory is a view of
``target`` with the shape of ``source``: who writes there has done the operation. ``None`` where there is no such view.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from shared.pipeline.base import Array, ArrayOperation, check_numbers, refuse

DTYPES = (
    "float16",
    "float32",
    "float64",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    "bool",
)


class AddChannel(ArrayOperation, frozen=True, tag="add_channel"):
    """Give grey images a channel axis, first (``NCHW``, ``axis=1``) or last (``NHWC``, ``axis=-1``).

    >>> AddChannel(axis=1)(np.zeros((5, 8, 6))).shape
    (5, 1, 8, 6)
    """

    axis: int = 1

    def __post_init__(self) -> None:
        if self.axis == 0:
            raise ValueError("add_channel: axis 0 is the batch; expected 1, 2, ... or -1, -2, ...")

    def __call__(self, batch: Array) -> Array:
        """(n, h, w) -> (n, 1, h, w) or (n, h, w, 1); a view."""
        if not -batch.ndim <= self.axis <= batch.ndim:
            raise refuse(self, f"an array that an axis {self.axis} can be added to", batch)
        return np.expand_dims(batch, self.axis)

    def through(self, target: Array, source: Array) -> Array | None:  # noqa: ARG002  (the contract's)
        """A view of ``target`` without the channel."""
        return np.squeeze(target, self.axis)


class Layout(ArrayOperation, frozen=True, tag="layout"):
    """Turn images into ``nchw`` (from NHWC) or ``nhwc`` (from NCHW).

    >>> Layout(to="nchw")(np.zeros((5, 8, 6, 3))).shape
    (5, 3, 8, 6)
    """

    to: Literal["nchw", "nhwc"] = "nchw"

    def __call__(self, batch: Array) -> Array:
        """(n, h, w, c) -> (n, c, h, w) or back, dtype kept, C order."""
        check_numbers(self, batch, (4,), "images (n, h, w, c)" if self.to == "nchw" else "images (n, c, h, w)")
        return np.ascontiguousarray(batch.transpose((0, 3, 1, 2) if self.to == "nchw" else (0, 2, 3, 1)))

    def through(self, target: Array, source: Array) -> Array | None:  # noqa: ARG002
        """A view of ``target`` with the axes where they were."""
        return target.transpose((0, 2, 3, 1) if self.to == "nchw" else (0, 3, 1, 2))


class Reshape(ArrayOperation, frozen=True, tag="reshape"):
    """Give each sample ``shape``, in C order; one entry may be -1, for what is left.

    >>> Reshape(shape=(2, -1))(np.zeros((5, 8))).shape
    (5, 2, 4)
    """

    shape: Annotated[tuple[Annotated[int, Meta(ge=-1, le=1 << 30)], ...], Meta(max_length=8)]

    def __post_init__(self) -> None:
        if self.shape.count(-1) > 1:
            raise ValueError(f"reshape: shape {list(self.shape)} has more than one -1")

    def __call__(self, batch: Array) -> Array:
        """(n, ...) -> (n, *shape), dtype kept; a view where the memory allows it."""
        size = math.prod(batch.shape[1:])
        known = math.prod(entry for entry in self.shape if entry != -1)
        rest = size // known if known else 0
        shape = tuple(rest if entry == -1 else entry for entry in self.shape)
        if math.prod(shape) != size:
            raise refuse(self, f"samples that fit into {list(self.shape)}", batch)
        return batch.reshape(len(batch), *shape)

    def through(self, target: Array, source: Array) -> Array | None:
        """A view of ``target`` with the shape of ``source``, if its memory allows one."""
        view = target.reshape(source.shape)
        return view if np.shares_memory(view, target) else None


class Cast(ArrayOperation, frozen=True, tag="cast"):
    """Convert to ``dtype`` and make the memory contiguous.

    >>> Cast("int64")(np.array([[1.7, -1.7]]))
    array([[ 1, -1]])
    """

    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"cast: dtype {self.dtype!r}; expected one of {', '.join(DTYPES)}")

    def __call__(self, batch: Array) -> Array:
        """(n, ...) -> (n, ...) of ``dtype``, C order; no copy where nothing changes."""
        check_numbers(self, batch)
        with np.errstate(invalid="ignore", over="ignore"):  # what a dtype cannot hold is the caller's
            return np.ascontiguousarray(batch, dtype=np.dtype(self.dtype))
