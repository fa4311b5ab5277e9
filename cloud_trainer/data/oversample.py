"""Few new samples among many old ones: repeated with mild augmentation, so that they count without being memorised."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud_trainer.data.dataset import Dataset, join

NEW_SHARE = 0.5  # of the old samples' number: enough to learn a changed sensor, too few to forget the old one
MOST_COPIES = 20


def oversample(new: Dataset, old: int, seed: int, *, images: bool = True) -> Dataset:
    """``new`` and copies of it, altered if they are ``images``, together about ``NEW_SHARE * old`` samples, at most 20
    of each."""
    copies = int(np.clip(round(NEW_SHARE * old / len(new)), 1, MOST_COPIES))
    rng = np.random.default_rng([seed, 4])
    x = [new.x, *(alter(new.x, rng) if images else new.x for _ in range(copies - 1))]
    return join([msgspec.structs.replace(new, x=samples) for samples in x])


def alter(x: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Images (n, H, W[, C]) shifted by up to one pixel (edges repeated), with contrast and brightness changed by up to
    a tenth; dtype and range of the values are kept."""
    n, height, width = x.shape[:3]
    shift = rng.integers(-1, 2, (2, n))
    rows = np.clip(np.arange(height) + shift[0][:, None], 0, height - 1)
    columns = np.clip(np.arange(width) + shift[1][:, None], 0, width - 1)
    moved = x[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]].astype(np.float32)
    low, high = float(x.min()), float(x.max())
    one_each = (n, *(1,) * (x.ndim - 1))
    centre = moved.mean(axis=tuple(range(1, x.ndim)), keepdims=True)
    moved = centre + (moved - centre) * rng.uniform(0.9, 1.1, one_each)
    moved = np.clip(moved + rng.uniform(-0.05, 0.05, one_each) * (high - low), low, high)
    altered: NDArray[Any] = (
        np.rint(moved).astype(x.dtype) if np.issubdtype(x.dtype, np.integer) else moved.astype(x.dtype)
    )
    return altered
