"""The colours of images (n, h, w, c): Grayscale, ChannelOrder."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from shared.pipeline.base import Array, ArrayOperation, Floats, check_numbers, refuse


class Grayscale(ArrayOperation, frozen=True, tag="grayscale"):
    """Luma of colour images, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601); a fourth channel, alpha, is ignored.

    >>> Grayscale()(np.array([[[[100, 0, 0]]]], dtype=np.uint8)).round(1)
    array([[[29.9]]], dtype=float32)
    """

    order: Literal["rgb", "bgr"] = "rgb"
    keep_channel: bool = False

    def __call__(self, batch: Array) -> Floats:
        """(n, h, w, 3 or 4) -> (n, h, w) float32, or (n, h, w, 1) with ``keep_channel``."""
        check_numbers(self, batch, (4,), "colour images (n, h, w, 3 or 4)")
        if batch.shape[-1] not in {3, 4}:
            raise refuse(self, "colour images (n, h, w, 3 or 4)", batch)
        red, blue = (0, 2) if self.order == "rgb" else (2, 0)
        out: Floats = np.multiply(batch[..., red], np.float32(0.299), dtype=np.float32)
        out += np.multiply(batch[..., 1], np.float32(0.587), dtype=np.float32)
        out += np.multiply(batch[..., blue], np.float32(0.114), dtype=np.float32)
        return out[..., None] if self.keep_channel else out


class ChannelOrder(ArrayOperation, frozen=True, tag="channel_order"):
    """Pick channels in another order: ``(2, 1, 0)`` turns RGB into BGR and back, ``(0, 1, 2)`` drops alpha.

    >>> ChannelOrder()(np.array([[[[1, 2, 3]]]]))
    array([[[[3, 2, 1]]]])
    """

    order: Annotated[tuple[Annotated[int, Meta(ge=0, le=1023)], ...], Meta(min_length=1, max_length=1024)] = (2, 1, 0)
    axis: Literal[1, -1] = -1

    def __call__(self, batch: Array) -> Array:
        """(n, ..., c) -> (n, ..., len(order)), dtype kept; with ``axis`` 1, (n, c, ...)."""
        check_numbers(self, batch)
        if batch.ndim < 2 or max(self.order) >= batch.shape[self.axis]:
            raise refuse(self, f"at least {max(self.order) + 1} channels on axis {self.axis}", batch)
        return np.ascontiguousarray(np.take(batch, self.order, axis=self.axis))
