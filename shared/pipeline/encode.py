"""Step two: from clean values to the tensor that the model file declares. Quantized inputs are the backend's."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Array = NDArray[Any]


class AddChannel(Struct, frozen=True, tag="add_channel", tag_field="op", forbid_unknown_fields=True):
    """Give grey images a channel axis, first (``NCHW``, ``axis=1``) or last (``NHWC``, ``axis=-1``)."""

    axis: int = 1

    def __call__(self, batch: Array) -> Array:
        """(n, h, w) -> (n, 1, h, w) or (n, h, w, 1); a view."""
        return np.expand_dims(batch, self.axis)

    def through(self, target: Array) -> Array:
        """A view of ``target`` without the channel: who writes there has added it."""
        return np.squeeze(target, self.axis)


class Cast(Struct, frozen=True, tag="cast", tag_field="op", forbid_unknown_fields=True):
    """Convert to ``dtype`` and make the memory contiguous."""

    dtype: str = "float32"

    def __call__(self, batch: Array) -> Array:
        """(n, ...) -> (n, ...) of ``dtype``, C order; no copy where nothing changes."""
        return np.ascontiguousarray(batch, dtype=np.dtype(self.dtype))
