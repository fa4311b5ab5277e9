"""Pictures (n, H, W) or (n, H, W, C), after Hendrycks and Dietterich 2019 (arXiv 1903.12261); sizes are shares of the
picture's, so that severities mean the same for 28 and 224 pixels. Bytes go from 0 to 255, floats over the range of the
clean samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.corruptions.base import Corruption, Samples, level, restored

Floats = NDArray[np.float64]
BLOCK = 8
# luminance, Annex K of the JPEG standard (ITU T.81)
QUANTA = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62], [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip


def _unit(x: Samples, like: Samples) -> tuple[Floats, float, float]:
    """Values from 0 to 1, and the range that they had."""
    low, high = (0.0, 255.0) if x.dtype == np.uint8 else (float(np.nanmin(like)), float(np.nanmax(like)))
    return (x.astype(np.float64) - low) / max(high - low, 1e-12), low, high


def _back(values: Floats, x: Samples, low: float, high: float) -> Samples:
    return restored(low + np.clip(values, 0, 1) * (high - low), x)


def _noise(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    unit, low, high = _unit(x, like)
    return _back(unit + rng.normal(0, level(severity, 0.04, 0.08, 0.12, 0.18, 0.26), x.shape), x, low, high)


def _blur(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del rng
    unit, low, high = _unit(x, like)
    return _back(blurred(unit, level(severity, 0.012, 0.02, 0.03, 0.045, 0.065) * min(x.shape[1:3])), x, low, high)


def blurred(unit: Floats, sigma: float) -> Floats:
    """(n, H, W[, C]) under a Gaussian of ``sigma`` pixels; edges are repeated."""
    reach = max(1, int(np.ceil(3 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    kernel /= kernel.sum()
    for axis in (1, 2):
        size = unit.shape[axis]
        places = np.clip(np.arange(size)[:, None] + np.arange(-reach, reach + 1), 0, size - 1)
        matrix = np.zeros((size, size))
        np.add.at(matrix, (np.repeat(np.arange(size), 2 * reach + 1), places.ravel()), np.tile(kernel, size))
        unit = np.moveaxis(np.moveaxis(unit, axis, -1) @ matrix.T, -1, axis)
    return unit


def _fog(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    unit, low, high = _unit(x, like)
    height, width = x.shape[1:3]
    cells = rng.random((len(x), 5, 5))
    rows, columns = np.linspace(0, 4, height), np.linspace(0, 4, width)
    patches = _between(_between(cells, rows, 1), columns, 2)
    patches = (0.65 + 0.35 * patches).reshape(len(x), height, width, *[1] * (x.ndim - 3))
    share = level(severity, 0.2, 0.35, 0.5, 0.6, 0.7)
    return _back((1 - share) * unit + share * patches, x, low, high)


def _between(values: Floats, at: Floats, axis: int) -> Floats:
    """Linear interpolation of ``values`` along ``axis`` at fractional places."""
    below = np.minimum(at.astype(int), values.shape[axis] - 2)
    rest = (at - below).reshape([-1 if k == axis else 1 for k in range(values.ndim)])
    found: Floats = np.take(values, below, axis) * (1 - rest) + np.take(values, below + 1, axis) * rest
    return found


def _contrast(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del rng
    unit, low, high = _unit(x, like)
    mean = unit.mean(axis=tuple(range(1, unit.ndim)), keepdims=True)
    return _back(mean + level(severity, 0.75, 0.6, 0.45, 0.3, 0.2) * (unit - mean), x, low, high)


def _brightness(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    unit, low, high = _unit(x, like)
    sign = rng.choice([-1.0, 1.0], len(x)).reshape(-1, *[1] * (x.ndim - 1))
    return _back(unit + sign * level(severity, 0.08, 0.16, 0.24, 0.32, 0.4), x, low, high)


def _pixelate(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del rng, like
    found = x.copy()
    for axis in (1, 2):
        size = x.shape[axis]
        kept = max(1, round(size * level(severity, 0.75, 0.6, 0.5, 0.4, 0.3)))
        cell = np.arange(size) * kept // size
        middle = ((cell + 0.5) * size / kept).astype(int)
        found = np.take(found, np.minimum(middle, size - 1), axis)
    return found


def _jpeg(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del rng
    unit, low, high = _unit(x, like)
    quality = level(severity, 25, 18, 12, 8, 5)
    quanta = np.clip(np.floor((QUANTA * 5000 / quality + 50) / 100), 1, 255)
    k = np.arange(BLOCK)
    transform = np.sqrt(2 / BLOCK) * np.cos(np.pi * (2 * k[None, :] + 1) * k[:, None] / (2 * BLOCK))
    transform[0] /= np.sqrt(2)
    planes = np.moveaxis(unit.reshape(*unit.shape[:3], -1), -1, 1) * 255 - 128  # (n, C, H, W)
    height, width = planes.shape[2:]
    padded = np.pad(planes, ((0, 0), (0, 0), (0, -height % BLOCK), (0, -width % BLOCK)), mode="edge")
    n, channels, tall, wide = padded.shape
    blocks = padded.reshape(n, channels, tall // BLOCK, BLOCK, wide // BLOCK, BLOCK).swapaxes(3, 4)
    frequencies = transform @ blocks @ transform.T
    blocks = transform.T @ (np.rint(frequencies / quanta) * quanta) @ transform
    whole = blocks.swapaxes(3, 4).reshape(n, channels, tall, wide)[:, :, :height, :width]
    return _back(((np.moveaxis(whole, 1, -1) + 128) / 255).reshape(x.shape), x, low, high)


def _dropout(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    lost = rng.random(x.shape[:3]) < level(severity, 0.02, 0.05, 0.1, 0.2, 0.3)
    found = x.copy()
    dark: Any = 0 if x.dtype == np.uint8 else np.nanmin(like)
    found[lost] = dark
    return found


CORRUPTIONS = (
    Corruption("noise", "Gaussian noise of 4 to 26 % of the range", _noise),
    Corruption("blur", "Gaussian blur of 1.2 to 6.5 % of the side", _blur),
    Corruption("fog", "20 to 70 % covered by patchy fog", _fog),
    Corruption("contrast", "contrast of 75 to 20 %", _contrast),
    Corruption("brightness", "brighter or darker by 8 to 40 % of the range", _brightness),
    Corruption("pixelate", "resolution of 75 to 30 %", _pixelate),
    Corruption("JPEG blocks", "JPEG's quantization at quality 25 to 5", _jpeg),
    Corruption("dropout", "2 to 30 % of the pixels are black", _dropout),
)
