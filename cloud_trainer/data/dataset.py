"""Samples in memory, with their truth.

What holds for every :class:`Dataset` that passed :func:`check`:

1. ``x`` and ``y`` have the same length; where there are labels, at least one sample of each class.
2. Every sample has the same shape. Floats are float32 (float64 where a column of times is among them), and finite but
   where :class:`Allowed` says that values may be missing. Words are ``str`` objects.
3. ``y`` is an index into ``labels``, or finite float32 numbers where there are none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.data.findings import Finding
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
        return msgspec.structs.replace(
            self,
            x=self.x[index],
            y=self.y[index],
            groups=None if self.groups is None else self.groups[index],
            times=None if self.times is None else self.times[index],
        )


class Splits(Struct, frozen=True, eq=False):
    """Disjoint parts of the data.

    ``train`` is fitted on; ``validation`` chooses (temperatures, thresholds); ``reference`` becomes the drift profile;
    ``test`` is looked at once, for the figures in the manifest and the gates. ``findings``: what reading and splitting
    had to repair.
    """

    train: Dataset
    validation: Dataset
    reference: Dataset
    test: Dataset
    findings: tuple[Finding, ...] = ()

    def parts(self) -> dict[str, Dataset]:
        """By name, in the order above."""
        return {"train": self.train, "validation": self.validation, "reference": self.reference, "test": self.test}


class Allowed(Struct, frozen=True):
    """What the samples of a kind of task may be, beside numbers that are all there. ``words``: str objects;
    ``missing``: NaN; ``times``: float64 columns, which float32 could not tell apart; ``flat``: ``x`` may be (n,)."""

    words: bool = False
    missing: bool = False
    times: bool = False
    flat: bool = False


NUMBERS = Allowed()
ALLOWED = {
    "tabular-classification": Allowed(words=True, missing=True, times=True),
    "tabular-regression": Allowed(words=True, missing=True, times=True),
    "forecasting": Allowed(missing=True, times=True),
    "text-classification": Allowed(words=True, flat=True),
    "recommendation": Allowed(words=True, missing=True, times=True),
}
"""By kind of task; :data:`NUMBERS` for all others."""


def check(data: Dataset, where: str, *, every_class: bool = True, allowed: Allowed = NUMBERS) -> Dataset:
    """``data`` with ``y`` as int64 (without labels: float32), and ``x`` as float32 if it is any kind of float: what
    the networks compute in.

    Raises:
        DataError: in one line: what is wrong, in which file or split, and what would be right.
    """
    x = _check_samples(np.asarray(data.x), where, allowed)
    y = np.asarray(data.y)
    if not data.labels and np.issubdtype(y.dtype, np.floating):
        y = _check_numbers(y, where)
    elif len(data.labels) < 2:
        raise DataError(f"{where}: {len(data.labels)} class; classification needs at least two")
    elif y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"{where}: y has shape {y.shape} and dtype {y.dtype}; expected one integer class per sample")
    if len(x) != len(y):
        raise DataError(f"{where}: {len(x)} samples in x but {len(y)} in y")
    if not len(y):
        raise DataError(f"{where}: no samples")
    for name, along in (("groups", data.groups), ("times", data.times)):
        if along is not None and len(along) != len(y):
            raise DataError(f"{where}: {len(y)} samples but {len(along)} {name}")
    if data.labels:
        y = _check_classes(y, data.labels, where, every_class=every_class)
    return msgspec.structs.replace(data, x=x, y=y)


def _check_samples(x: NDArray[Any], where: str, allowed: Allowed) -> NDArray[Any]:
    if allowed.words and x.dtype.kind in "UO":
        x = x.astype(object)
        odd = next((cell for cell in x.ravel() if not isinstance(cell, str)), None)
        if odd is not None:
            raise DataError(f"{where}: x has {odd!r} among words; every cell must be str, '' where it is missing")
    elif x.dtype == object or not (np.issubdtype(x.dtype, np.number) or x.dtype == bool):
        raise DataError(f"{where}: x has dtype {x.dtype}; all samples must be numbers of one shape")
    if x.ndim < (1 if allowed.flat else 2):
        raise DataError(f"{where}: x has shape {x.shape}; expected (samples, ...)")
    if np.issubdtype(x.dtype, np.floating):
        if not (allowed.times and x.dtype == np.float64):
            with np.errstate(over="ignore"):  # too large for float32: infinite, which is refused
                x = x.astype(np.float32, copy=False)
        bad = np.isinf(x) if allowed.missing else ~np.isfinite(x)
        if bad.any():
            first = int(np.flatnonzero(bad.reshape(len(x), -1).any(axis=1))[0])
            what = "infinite values" if allowed.missing else "NaN or infinite values"
            raise DataError(f"{where}: sample {first} has {what}; clean the data first")
    return x


def _check_numbers(y: NDArray[Any], where: str) -> NDArray[np.float32]:
    if y.ndim not in {1, 2}:
        raise DataError(f"{where}: y has shape {y.shape}; expected (samples,) or (samples, numbers)")
    with np.errstate(over="ignore"):
        found = y.astype(np.float32)
    if not np.isfinite(found).all():
        bad = int(np.flatnonzero(~np.isfinite(found.reshape(len(y), -1)).all(axis=1))[0])
        raise DataError(f"{where}: the target of sample {bad} is NaN or infinite; leave such samples out")
    return found


def _check_classes(y: NDArray[Any], labels: tuple[str, ...], where: str, *, every_class: bool) -> NDArray[np.int64]:
    if y.min() < 0:
        raise DataError(f"{where}: y has class {int(y.min())}; classes must be 0 to N-1")
    if y.max() >= len(labels):
        raise DataError(
            f"{where}: y has class {int(y.max())}, but there are {len(labels)} labels (0 to {len(labels) - 1})"
        )
    counts = np.bincount(y, minlength=len(labels))
    if every_class and not counts.all():
        raise DataError(f"{where}: class {labels[int(counts.argmin())]!r} has no samples; every class needs some")
    return y.astype(np.int64)


def check_splits(splits: Splits, kind: str = "image-classification") -> Splits:
    """Every part checked by the rules of the ``kind`` of task, and all of one shape, dtype and list of labels. The
    train part has every class; where samples were split by group or time, the others may lack some.

    Raises:
        DataError: which part is wrong, and how.
    """
    allowed = ALLOWED.get(kind, NUMBERS)
    loose = kind in {"image-anomaly", "recommendation"}
    parts = {}
    for name, part in splits.parts().items():
        together = part.groups is not None or part.times is not None
        every = not loose and (name == "train" or not together)
        parts[name] = check(part, f"{name} split", every_class=every, allowed=allowed)
    first = parts["train"]
    for name, part in parts.items():
        if part.x.shape[1:] != first.x.shape[1:] or part.x.dtype != first.x.dtype:
            raise DataError(
                f"{name} split: samples are {part.x.dtype} {part.x.shape[1:]}, "
                f"in the train split {first.x.dtype} {first.x.shape[1:]}"
            )
        if part.y.shape[1:] != first.y.shape[1:]:
            raise DataError(f"{name} split: y has shape {part.y.shape}, in the train split {first.y.shape}")
        if part.labels != first.labels:
            raise DataError(f"{name} split: its labels differ from the train split's")
        if part.columns != first.columns:
            raise DataError(f"{name} split: its columns differ from the train split's")
    return Splits(**parts, findings=splits.findings)


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
    """All samples of ``parts``, in order; labels, columns and rate are the first's. Groups and times are kept where
    every part has them."""
    groups = [part.groups for part in parts if part.groups is not None]
    times = [part.times for part in parts if part.times is not None]
    return msgspec.structs.replace(
        parts[0],
        x=np.concatenate([part.x for part in parts]),
        y=np.concatenate([part.y for part in parts]),
        groups=np.concatenate(groups) if len(groups) == len(parts) else None,
        times=np.concatenate(times) if len(times) == len(parts) else None,
    )


def digest(parts: Sequence[Dataset]) -> str:
    """Hex SHA-256 of samples, truth, labels and all that belongs to them: the same data, the same digest."""
    found = hashlib.sha256()
    for part in parts:
        header = f"{part.x.dtype.str}{part.x.shape}{part.y.shape}{part.labels}"
        if part.columns or part.rate:
            header += f"{part.columns}{part.rate}"
        found.update(header.encode())
        _feed(found, part.x)
        _feed(found, part.y if np.issubdtype(part.y.dtype, np.floating) else part.y.astype(np.int64))
        for name, along in (("groups", part.groups), ("times", part.times)):
            if along is not None:
                found.update(name.encode())
                _feed(found, along)
    return found.hexdigest()


def _feed(found: hashlib._Hash, values: NDArray[Any]) -> None:
    if values.dtype.kind in "UO":  # the length before each text, so that no two lists read the same
        for cell in map(str, values.ravel()):
            text = cell.encode(errors="surrogatepass")
            found.update(len(text).to_bytes(4, "little") + text)
    else:
        found.update(np.ascontiguousarray(values).tobytes())
