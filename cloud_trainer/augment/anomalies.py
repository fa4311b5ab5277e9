"""Made-up anomalies: normal images with something wrong, for a network that must learn what normal is without ever
having seen the anomalies that are to come.

The idea is that of CutPaste (Li et al. 2021, arXiv 2104.04015) and of predicting transformations (Golan and El-Yaniv
2018, arXiv 1805.10917): a network that tells normal images from many kinds of altered ones has features in which real
anomalies lie far from the normal ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
"""(H, W) or (H, W, C), values from 0 to 1."""


def alter(x: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Images (n, H, W[, C]), each with one thing wrong, and what: its place in :data:`KINDS`, from 1. Dtype and range
    of the values are kept."""
    low, high = float(x.min()), float(x.max())
    span = (high - low) or 1.0
    which = rng.integers(0, len(KINDS), len(x))
    out = np.empty(x.shape, np.float32)
    for i, kind in enumerate(which):
        image = (x[i].astype(np.float32) - low) / span
        other = (x[int(rng.integers(len(x)))].astype(np.float32) - low) / span
        out[i] = KINDS[kind](image, other, rng)
    scaled = np.clip(out, 0, 1) * span + low
    whole = np.rint(scaled).astype(x.dtype) if x.dtype.kind in "iu" else scaled.astype(x.dtype)
    return whole, which.astype(np.int64) + 1


def _patch(image: Image, rng: np.random.Generator) -> tuple[slice, slice]:
    """Somewhere, between a tenth and a third of each side."""
    height, width = image.shape[:2]
    h = int(rng.integers(max(2, height // 10), max(3, height // 3)))
    w = int(rng.integers(max(2, width // 10), max(3, width // 3)))
    row, column = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    return slice(row, row + h), slice(column, column + w)


def pasted(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """A patch of another image, from another place."""
    rows, columns = _patch(image, rng)
    h, w = rows.stop - rows.start, columns.stop - columns.start
    row, column = int(rng.integers(0, image.shape[0] - h + 1)), int(rng.integers(0, image.shape[1] - w + 1))
    image[rows, columns] = other[row : row + h, column : column + w]
    return image


def scratched(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """A straight line of one value."""
    del other
    height, width = image.shape[:2]
    length, angle = rng.uniform(0.2, 0.6) * min(height, width), rng.uniform(0, np.pi)
    thick = max(1, min(height, width) // 20)
    row, column = rng.uniform(0, height), rng.uniform(0, width)
    along = np.linspace(-length / 2, length / 2, 2 * max(height, width))
    rows = np.rint(row + along * np.sin(angle)).astype(int)
    columns = np.rint(column + along * np.cos(angle)).astype(int)
    value = np.float32(rng.uniform(0, 1))
    for shift in range(thick):
        inside = (rows + shift >= 0) & (rows + shift < height) & (columns >= 0) & (columns < width)
        image[rows[inside] + shift, columns[inside]] = value
    return image


def spotted(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """A soft dark or bright spot."""
    del other
    height, width = image.shape[:2]
    down, along = np.mgrid[:height, :width]
    size = rng.uniform(1 / 24, 1 / 8) * min(height, width)
    strength = rng.choice([-1, 1]) * rng.uniform(0.15, 0.6)
    row, column = rng.uniform(0, height), rng.uniform(0, width)
    spot = strength * np.exp(-((down - row) ** 2 + (along - column) ** 2) / (2 * size**2))
    out: Image = (image + (spot if image.ndim == 2 else spot[..., None])).astype(np.float32)
    return out


def flattened(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """A patch without structure."""
    del other
    where = _patch(image, rng)
    image[where] = image[where].mean(axis=(0, 1))
    return image


def noisy(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """A patch of noise."""
    del other
    where = _patch(image, rng)
    image[where] += rng.normal(0, rng.uniform(0.1, 0.4), image[where].shape).astype(np.float32)
    return image


def turned(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """Turned by a quarter, a half or three quarters; only by a half where it is not square."""
    del other
    turns = int(rng.integers(1, 4)) if image.shape[0] == image.shape[1] else 2
    return np.rot90(image, turns)


def moved(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """Out of its place, by a sixth to a third; what leaves at one side comes in at the other."""
    del other
    shift = [int(rng.integers(max(1, side // 6), side // 3 + 1)) * int(rng.choice([-1, 1])) for side in image.shape[:2]]
    return np.roll(image, shift, (0, 1))


def mixed(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """Half of another image shines through, mirrored or not."""
    share = np.float32(rng.uniform(0.3, 0.5))
    return (1 - share) * image + share * other[:: int(rng.choice([-1, 1])), :: int(rng.choice([-1, 1]))]


def shuffled(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """Cut into 4 x 4 tiles that change places."""
    del other
    out = image.copy()
    rows, columns = (np.linspace(0, side, 5).astype(int) for side in image.shape[:2])
    h, w = image.shape[0] // 4, image.shape[1] // 4
    for place, source in enumerate(rng.permutation(16)):
        top, left = rows[place // 4], columns[place % 4]
        from_top, from_left = rows[source // 4], columns[source % 4]
        out[top : top + h, left : left + w] = image[from_top : from_top + h, from_left : from_left + w]
    return out


KINDS: tuple[Callable[[Image, Image, np.random.Generator], Image], ...] = (
    pasted, scratched, spotted, flattened, noisy, turned, moved, mixed, shuffled,
)  # fmt: skip
