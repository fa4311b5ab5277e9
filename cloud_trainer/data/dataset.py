"""Labelled samples in memory.

What holds for every :class:`Dataset` that passed :func:`check`:

1. ``x`` and ``y`` have the same length, at least one sample of each class.
2. ``x`` is finite and numeric, its floats are float32; every sample has the same shape.
3. ``y`` is an index into ``labels``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.errors import DataError


class Dataset(Struct, frozen=True, eq=False):
    """Samples and their truth.

    ``x`` (n, *shape) as the sensor gives it: numbers, or ``str`` objects (n,) for text and (n, columns) for rows that
    have words in them. ``y`` (n,) int64 class indices of ``labels``; or float32 (n,) or (n, k) numbers, without labels.
    ``columns`` names the last axis of ``x``. ``groups`` (n,) str: samples of one group belong together. ``times`` (n,)
    float64 seconds since 1970, or any other number that orders them. ``rate``: samples a second, of sounds and sensors;
    0: unknown.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    groups: NDArray[Any] | None = None
    times: NDArray[np.float64] | None = None
    rate: float = 0.0

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: NDArray[Any]) -> Dataset:
        """The samples at ``index`` (m,) int or (n,) bool."""
        groups = None if self.groups is None else self.groups[index]
        times = None if self.times is None else self.times[index]
        return Dataset(self.x[index], self.y[index], self.labels, self.columns, groups, times, self.rate)


class Splits(Struct, frozen=True, eq=False):
    """Disjoint parts of the data.

    ``train`` is fitted on; ``validation`` chooses (temperatures, thresholds); ``reference`` becomes the drift profile;
    ``test`` is looked at once, for the figures in the manifest and the gates.
    """

    train: Dataset
    validation: Dataset
    reference: Dataset
    test: Dataset

    def parts(self) -> dict[str, Dataset]:
        """By name, in the order above."""
        return {"train": self.train, "validation": self.validation, "reference": self.reference, "test": self.test}


def check(data: Dataset, where: str, *, every_class: bool = True) -> Dataset:
    """``data`` with ``y`` as int64, and ``x`` as float32 if it is any kind of float: what the networks compute in.

    Raises:
        DataError: in one line: what is wrong, in which file or split, and what would be right.
    """
    x, y, labels = np.asarray(data.x), np.asarray(data.y), data.labels
    if len(labels) < 2:
        raise DataError(f"{where}: {len(labels)} class; classification needs at least two")
    if x.dtype == object or not (np.issubdtype(x.dtype, np.number) or x.dtype == bool):
        raise DataError(f"{where}: x has dtype {x.dtype}; all samples must be numbers of one shape")
    if x.ndim < 2:
        raise DataError(f"{where}: x has shape {x.shape}; expected (samples, ...)")
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"{where}: y has shape {y.shape} and dtype {y.dtype}; expected one integer class per sample")
    if len(x) != len(y):
        raise DataError(f"{where}: {len(x)} samples in x but {len(y)} in y")
    if not len(y):
        raise DataError(f"{where}: no samples")
    if np.issubdtype(x.dtype, np.floating):
        with np.errstate(over="ignore"):  # too large for float32: infinite, which is refused
            x = x.astype(np.float32, copy=False)
    if x.dtype == np.float32 and not np.isfinite(x).all():
        bad = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))[0])
        raise DataError(f"{where}: sample {bad} has NaN or infinite values; clean the data first")
    if y.min() < 0:
        raise DataError(f"{where}: y has class {int(y.min())}; classes must be 0 to N-1")
    if y.max() >= len(labels):
        raise DataError(
            f"{where}: y has class {int(y.max())}, but there are {len(labels)} labels (0 to {len(labels) - 1})"
        )
    counts = np.bincount(y, minlength=len(labels))
    if every_class and not counts.all():
        raise DataError(f"{where}: class {labels[int(counts.argmin())]!r} has no samples; every class needs some")
    return Dataset(x, y.astype(np.int64), labels)


def check_splits(splits: Splits) -> Splits:
    """Every part checked, and all of one shape, dtype and list of labels.

    Raises:
        DataError: which part is wrong, and how.
    """
    parts = {name: check(part, f"{name} split") for name, part in splits.parts().items()}
    first = parts["train"]
    for name, part in parts.items():
        if part.x.shape[1:] != first.x.shape[1:] or part.x.dtype != first.x.dtype:
            raise DataError(
                f"{name} split: samples are {part.x.dtype} {part.x.shape[1:]}, "
                f"in the train split {first.x.dtype} {first.x.shape[1:]}"
            )
        if part.labels != first.labels:
            raise DataError(f"{name} split: its labels differ from the train split's")
    return Splits(**parts)


def value_range(x: NDArray[Any], where: str) -> tuple[float, float]:
    """The smallest and the largest value of ``x``.

    Raises:
        DataError: they are the same, so that there is nothing to tell samples apart by.
    """
    low, high = float(x.min()), float(x.max())
    if low == high:
        raise DataError(f"{where}: every value of x is {low:g}; there is nothing in it to tell classes apart")
    return low, high


def join(parts: Sequence[Dataset]) -> Dataset:
    """All samples of ``parts``, in order; the labels are the first's."""
    return Dataset(
        np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]), parts[0].labels
    )


def digest(parts: Sequence[Dataset]) -> str:
    """Hex SHA-256 of samples, classes and labels: the same data, the same digest."""
    found = hashlib.sha256()
    for part in parts:
        header = f"{part.x.dtype.str}{part.x.shape}{part.y.shape}{part.labels}"
        found.update(header.encode())
        found.update(np.ascontiguousarray(part.x).tobytes())
        found.update(np.ascontiguousarray(part.y, np.int64).tobytes())
    return found.hexdigest()
