"""Samples from ``.npz`` files: arrays ``x`` and ``y``, optionally ``names`` (of the classes), ``group`` and ``time``.

``X`` does for ``x``; ``data.target``, ``data.group``, ``data.time`` and ``data.text`` name other arrays. A file without
a matrix, whose arrays are all (n,), is a table: see :mod:`cloud_trainer.data.rows`.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.config import DataConfig, TaskConfig
from cloud_trainer.data.dataset import ALLOWED, NUMBERS, Dataset, check
from cloud_trainer.data.findings import Finding
from cloud_trainer.data.loaded import MAX_BYTES, Loaded
from cloud_trainer.data.table import Table, listed, parse
from cloud_trainer.data.target import Target, as_classes, as_numbers
from shared.errors import DataError, UsageError
from shared.files import reason

SAMPLES = ("x", "X", "data")
NAMES = ("names", "labels", "classes")
COLUMNS = ("columns", "feature_names")
LENGTHS = "lens"
RATES = ("rate", "sample_rate")
Arrays = dict[str, NDArray[Any]]


def read_arrays(path: Path) -> Arrays:
    """Every array of an ``.npz`` file, without pickle; sizes are checked before anything is unpacked.

    Raises:
        UsageError: no such file.
        DataError: damaged, pickled or too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            raise DataError(f"{path}: {size >> 20} MiB unpacked; at most {MAX_BYTES >> 20} MiB are read at once")
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except IsADirectoryError as error:
        raise UsageError(f"{path}: {reason(error)}") from error
    except ValueError as error:
        if "pickle" in str(error):
            raise DataError(f"{path}: holds objects instead of numbers; all samples must have one shape") from error
        raise DataError(f"{path}: damaged ({error})") from error
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path}: not a readable .npz file ({error})") from error


def class_names(arrays: Arrays, y: NDArray[Any]) -> tuple[str, ...]:
    """``names`` (or ``labels``, ``classes``) where the file has it, else the numbers from 0 to the largest class."""
    for name in NAMES:
        if name in arrays and arrays[name].ndim == 1 and arrays[name] is not y:
            return tuple(str(label) for label in arrays[name])
    whole = y.ndim == 1 and len(y) > 0 and np.issubdtype(y.dtype, np.integer) and y.min() >= 0
    return tuple(str(value) for value in range(int(y.max()) + 1)) if whole else ("0", "1")


def read_npz(path: Path) -> Dataset:
    """A checked data set of arrays ``x`` and ``y`` from one file.

    Raises:
        UsageError: no such file.
        DataError: the file or what is in it cannot be used.
    """
    arrays = read_arrays(path)
    for name in ("x", "y"):
        if name not in arrays:
            raise DataError(f"{path}: no array {name!r}; expected x (n, ...) and y (n,), found {sorted(arrays)}")
    return check(Dataset(arrays["x"], arrays["y"], class_names(arrays, arrays["y"])), str(path))


def is_table(arrays: Arrays) -> bool:
    """Whether the arrays are columns: all (n,), none of them the samples."""
    return samples_name(arrays) is None and all(array.ndim == 1 for array in arrays.values())


def samples_name(arrays: Arrays) -> str | None:
    """Which array holds the samples."""
    return next((name for name in SAMPLES if name in arrays), None)


def as_table(path: Path, arrays: Arrays) -> Table:
    """Arrays (n,) as columns.

    Raises:
        DataError: they are not of one length.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(f"{path}: no array 'x', and the others are no columns of one length: {lengths}")
    return Table(str(path), {name: _column(array) for name, array in arrays.items()})


def _column(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    return array if array.dtype.kind == "M" else array.astype(np.str_).astype(object)


def samples(path: Path, arrays: Arrays, config: DataConfig) -> NDArray[Any]:
    """The array of samples, as ``data.shape`` says.

    Raises:
        DataError: there is none, or it does not have this shape.
    """
    name = config.text or samples_name(arrays)
    if name is None or name not in arrays:
        raise DataError(f"{path}: no array {name or 'x'!r}; expected x (n, ...) and y (n,), found {sorted(arrays)}")
    x = arrays[name]
    if config.shape:
        if x.ndim < 1 or x.size != len(x) * math.prod(config.shape):
            raise DataError(f"{path}: samples of shape {x.shape[1:]} cannot be brought to data.shape {config.shape}")
        x = x.reshape(len(x), *config.shape)
    return x


def along(path: Path, arrays: Arrays, key: str, name: str, count: int) -> NDArray[Any] | None:
    """The array ``name`` (n,) that ``data.<key>`` asks for; ``None`` without a name.

    Raises:
        DataError: there is none, or it is not of this length.
    """
    if not name:
        return None
    if name not in arrays:
        raise DataError(f"{path}: no array {name!r} (data.{key}); there are {listed(arrays)}")
    found = arrays[name]
    if len(found.shape) != 1 or len(found) != count:
        raise DataError(f"{path}: {name} (data.{key}) has shape {found.shape}; expected ({count},)")
    return found


def truth(path: Path, arrays: Arrays, config: DataConfig, *, classes: bool) -> Target:
    """``y`` of the rows that have one.

    Raises:
        DataError: there is none, or it is not what is expected.
    """
    name = config.target or "y"
    if name not in arrays:
        raise DataError(f"{path}: no array {name!r}; expected x (n, ...) and y (n,), found {sorted(arrays)}")
    y = arrays[name]
    every = np.arange(len(y))
    if classes and (y.ndim != 1 or np.issubdtype(y.dtype, np.integer)):
        return Target(y, tuple(config.names) or class_names(arrays, y), every)
    if not classes and y.ndim != 1:
        return Target(y.astype(np.float32), (), every)
    if y.dtype.kind == "f" and classes and np.isfinite(y).all() and (y % 1 != 0).any():
        raise DataError(f"{path}: y has shape {y.shape} and dtype {y.dtype}; expected one integer class per sample")
    table = Table(str(path), {name: _column(y)})
    return as_classes(table, name) if classes else as_numbers(table, name)


def load_samples(path: Path, arrays: Arrays, task: TaskConfig) -> Loaded:
    """Samples that lie ready in ``x``, one for each ``y``: for every kind but tables that have a time column.

    Raises:
        DataError: the arrays do not fit each other or the kind of task.
    """
    config = task.data
    x = samples(path, arrays, config)
    numbers = task.kind in {"tabular-regression", "forecasting"} or (task.kind == "recommendation")
    found = truth(path, arrays, config, classes=not numbers)
    count = len(x) if x.ndim else 0
    groups = along(path, arrays, "group", config.group, count)
    times = along(path, arrays, "time", config.time, count)
    if count == len(arrays[config.target or "y"]) > len(found.rows):
        x = x[found.rows]
        groups = None if groups is None else groups[found.rows]
        times = None if times is None else times[found.rows]
    if times is not None:
        times = parse(_column(times)).values
    columns: tuple[str, ...] = ()
    if task.kind.startswith("tabular") or task.kind == "recommendation":
        columns = _column_names(arrays, x)
        x = x.astype(np.float32) if x.dtype.kind in "biu" else x
    findings, allowed = found.findings, ALLOWED.get(task.kind, NUMBERS)
    if allowed.missing and x.dtype.kind == "f" and (infinite := np.isinf(x)).any():
        text = f"x has {int(infinite.sum())} infinite values: taken as missing"
        findings = (*findings, Finding("infinite", "warning", text, "x"))
        x = np.where(infinite, np.nan, x)
    names = None if groups is None else groups.astype(np.str_)
    data = Dataset(x, found.y, found.labels, columns, names, times, _rate(arrays, config))
    return Loaded(check(data, str(path), allowed=allowed), findings)


def _column_names(arrays: Arrays, x: NDArray[Any]) -> tuple[str, ...]:
    if x.ndim != 2:
        return ()
    for name in COLUMNS:
        if name in arrays and arrays[name].shape == (x.shape[1],):
            return tuple(map(str, arrays[name]))
    return tuple(f"x_{i}" for i in range(x.shape[1]))


def _rate(arrays: Arrays, config: DataConfig) -> float:
    for name in RATES:
        if name in arrays and arrays[name].size == 1 and arrays[name].dtype.kind in "iuf":
            return float(arrays[name].item())
    return float(config.sample_rate)
