"""Samples that a wrapped model is measured on, and their truth: from .npz or .csv, without torch."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.data.npz import NAMES, read_arrays
from edge_agent.selftest import rows_of
from shared.errors import DataError, UsageError

Array = NDArray[Any]
TRUTH = "y"
ROWS_MAX = 1_000_000


class Reference(Struct, frozen=True, eq=False):
    """``inputs``: name → (n, ...) of each of the model's inputs, the first one first; ``truth`` (n,) or ``None``;
    ``columns``: names of a table's columns."""

    inputs: dict[str, Array]
    truth: Array | None = None
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return min(map(len, self.inputs.values()))

    @property
    def first(self) -> Array:
        """The first input's samples."""
        return next(iter(self.inputs.values()))

    @property
    def rows(self) -> Any:
        """Samples one by one, as ``Engine.infer`` takes them."""
        return self.first if len(self.inputs) == 1 else rows_of(self.inputs)


def read_reference(path: Path, names: Sequence[str]) -> Reference:
    """Samples for a model whose inputs are ``names``: arrays of those names (the first may be called ``x``), or the
    columns of a table; ``y`` is the truth.

    Raises:
        UsageError: no such file, or of another kind.
        DataError: it cannot be read, or lacks an input.
    """
    if path.suffix.lower() == ".csv":
        if len(names) != 1:
            raise DataError(f"{path}: a table is for models of one input; this one has {', '.join(names)}: use .npz")
        return _read_csv(path, names[0])
    if path.suffix.lower() != ".npz":
        raise UsageError(f"{path}: expected a .npz or .csv file")
    arrays = read_arrays(path)
    first = names[0] if names[0] in arrays else "x"
    missing = [name for name in (first, *names[1:]) if name not in arrays]
    if missing:
        wanted = ", ".join(("x", *names[1:]))
        raise DataError(f"{path}: no array {missing[0]!r}; expected {wanted} (n, ...), found {sorted(arrays)}")
    inputs = {names[0]: arrays[first], **{name: arrays[name] for name in names[1:]}}
    lengths = {name: len(values) if values.ndim else 0 for name, values in inputs.items()}
    truth = arrays.get(TRUTH) if TRUTH not in names else None
    if truth is not None:
        lengths[TRUTH] = len(truth) if truth.ndim else 0
    if len(set(lengths.values())) != 1 or not min(lengths.values()):
        told = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise DataError(f"{path}: expected as many samples in each array, and at least one; found {told}")
    return Reference(inputs, truth)


def _read_csv(path: Path, name: str) -> Reference:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = [cell.strip() for cell in next(reader, [])]
            rows = [row for row, _ in zip(reader, range(ROWS_MAX), strict=False) if row]
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    columns = [i for i, column in enumerate(header) if column != TRUTH]
    if not rows or not columns:
        raise DataError(f"{path}: expected a line of column names and at least one line of numbers")
    x = np.empty((len(rows), len(columns)), np.float32)
    for at, row in enumerate(rows):
        line = at + 2
        if len(row) != len(header):
            raise DataError(f"{path}:{line}: {len(row)} cells for {len(header)} columns")
        for k, i in enumerate(columns):
            try:
                x[at, k] = float(row[i])
            except ValueError:
                raise DataError(f"{path}:{line}: column {header[i]}: {row[i]!r} is no number") from None
    truth = _truth([row[header.index(TRUTH)] for row in rows]) if TRUTH in header else None
    return Reference({name: x}, truth, tuple(header[i] for i in columns))


def _truth(cells: list[str]) -> Array:
    """Whole numbers, else numbers, else names."""
    for kind in (np.int64, np.float64):
        try:
            return np.array(cells).astype(kind)
        except ValueError:
            continue
    return np.array([cell.strip() for cell in cells])


def classes_of(truth: Array, labels: tuple[str, ...], where: str) -> NDArray[np.int64]:
    """``truth`` (n,) of class indices or of names of ``labels``, as indices.

    Raises:
        DataError: a class that has no label, or no classes at all.
    """
    if truth.ndim != 1:
        raise DataError(f"{where}: y has shape {truth.shape}; expected one class per sample")
    if truth.dtype.kind == "U":
        unknown = sorted(set(truth.tolist()) - set(labels))
        if unknown:
            raise DataError(f"{where}: y has {unknown[0]!r}, which is none of the labels {', '.join(labels)}")
        return np.array([labels.index(name) for name in truth.tolist()], np.int64)
    if truth.dtype.kind not in "iu":
        raise DataError(f"{where}: y has dtype {truth.dtype}; expected one integer class per sample")
    for wrong in (int(truth.min()), int(truth.max())):
        if not 0 <= wrong < len(labels):
            raise DataError(
                f"{where}: y has class {wrong}, but there are {len(labels)} labels (0 to {len(labels) - 1})"
            )
    return truth.astype(np.int64)


def labels_in(truth: Array | None, path: Path, outputs: int | None) -> tuple[str, ...]:
    """Names of the classes that ``truth`` (n,) is: those that an .npz file has beside it, else its words, else numbers,
    one for each of the model's ``outputs`` (two classes for a single one; ``None``: unknown).

    Raises:
        DataError: there is no truth, or it is no classes.
    """
    if truth is None:
        raise DataError(f"{path}: no y; classes are measured by the truth of samples")
    arrays = read_arrays(path) if path.suffix.lower() == ".npz" else {}
    for name in NAMES:
        if name in arrays and arrays[name].ndim == 1:
            return tuple(map(str, arrays[name]))
    if truth.ndim == 1 and truth.dtype.kind == "U":
        return tuple(sorted(set(truth.tolist())))
    if truth.ndim != 1 or truth.dtype.kind not in "iu":
        raise DataError(f"{path}: y has dtype {truth.dtype} and shape {truth.shape}; expected one class per sample")
    count = outputs if outputs is not None and outputs > 1 else int(truth.max()) + 1
    return tuple(map(str, range(max(count, 2))))
