"""Rows (n, columns): numbers with NaN for what is missing, or text with "" for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.corruptions.base import Corruption, Samples, level


def _missing(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del like
    found = x.copy()
    nothing: Any = np.nan if x.dtype.kind == "f" else "" if x.dtype.kind in "OU" else 0
    found[rng.random(x.shape) < level(severity, 0.02, 0.05, 0.1, 0.2, 0.4)] = nothing
    return found


def numbers_of(column: NDArray[Any]) -> NDArray[np.float64] | None:
    """A column of text as numbers, NaN where it is empty; ``None`` if it is words."""
    try:
        return np.array([float(cell) if cell != "" else np.nan for cell in column])
    except ValueError:
        return None


def _noise(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    size = level(severity, 0.05, 0.1, 0.2, 0.4, 0.8)
    if x.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            deviation = np.nan_to_num(np.nanstd(like.astype(np.float64), axis=0))
        return np.asarray(x + rng.normal(0, size, x.shape) * deviation, x.dtype)
    found = x.copy()
    for k in range(x.shape[1]):
        values, whole = numbers_of(x[:, k]), numbers_of(like[:, k])
        if values is None or whole is None or np.isnan(whole).all():
            continue
        noisy = values + rng.normal(0, size, len(x)) * np.nanstd(whole)
        found[:, k] = [cell if np.isnan(value) else f"{value:.7g}" for cell, value in zip(x[:, k], noisy, strict=True)]
    return found


def _mixed_up(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    others = np.take_along_axis(like, rng.integers(0, len(like), x.shape), axis=0)
    return np.where(rng.random(x.shape) < level(severity, 0.02, 0.05, 0.1, 0.2, 0.4), others, x).astype(x.dtype)


CORRUPTIONS = (
    Corruption("missing", "2 to 40 % of the cells are empty", _missing),
    Corruption("noise", "Gaussian noise of 0.05 to 0.8 standard deviations on numbers", _noise),
    Corruption("wrong value", "2 to 40 % of the cells hold another row's word or number", _mixed_up),
)
