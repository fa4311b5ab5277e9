"""Pictures of samples as PNG files (RFC 2083), with the standard library alone."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 160
"""Pixels of a side; larger pictures are thinned out: a report is looked at, not measured from."""


def pixels(sample: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """A picture (H, W) or (H, W, C) with values from ``low`` to ``high`` as bytes (h, w) or (h, w, 3)."""
    step = -(-max(sample.shape[:2]) // LARGEST)
    part = sample[::step, ::step].astype(np.float64)
    if part.ndim == 3:
        part = part[..., 0] if part.shape[2] < 3 else part[..., :3]
    part = np.nan_to_num((part - low) / max(high - low, 1e-12))
    return np.asarray(np.rint(255 * np.clip(part, 0, 1)), np.uint8)


def png(picture: NDArray[np.uint8]) -> bytes:
    """The file of a picture (h, w) grey or (h, w, 3) colour."""
    height, width = picture.shape[:2]
    rows = np.zeros((height, 1 + picture[0].size), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = picture.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if picture.ndim == 3 else 0, 0, 0, 0)
    body = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def image(picture: NDArray[np.uint8], alternative: str) -> str:
    """The picture in a page; ``alternative`` is HTML already."""
    encoded = base64.b64encode(png(picture)).decode()
    return f'<img alt="{alternative}" src="data:image/png;base64,{encoded}">'
