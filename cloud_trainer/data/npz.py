"""Samples from ``.npz`` files: arrays ``x`` and ``y``, optionally ``names`` (of the classes) and ``ids``."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.data.dataset import Dataset, check
from shared.errors import DataError, UsageError

MAX_BYTES = 4 << 30  # unpacked; more than this belongs in a factory that streams


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
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
    except ValueError as error:
        if "pickle" in str(error):
            raise DataError(f"{path}: holds objects instead of numbers; all samples must have one shape") from error
        raise DataError(f"{path}: damaged ({error})") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable .npz file ({error})") from error


def class_names(arrays: dict[str, NDArray[Any]], y: NDArray[Any]) -> tuple[str, ...]:
    """``names`` where the file has it, else the numbers from 0 to the largest class."""
    if "names" in arrays:
        return tuple(str(name) for name in arrays["names"])
    whole = y.ndim == 1 and len(y) > 0 and np.issubdtype(y.dtype, np.integer) and y.min() >= 0
    return tuple(str(value) for value in range(int(y.max()) + 1)) if whole else ("0", "1")


def read_npz(path: Path) -> Dataset:
    """A checked data set from one file.

    Raises:
        UsageError: no such file.
        DataError: the file or what is in it cannot be used.
    """
    arrays = read_arrays(path)
    for name in ("x", "y"):
        if name not in arrays:
            raise DataError(f"{path}: no array {name!r}; expected x (n, ...) and y (n,), found {sorted(arrays)}")
    return check(Dataset(arrays["x"], arrays["y"], class_names(arrays, arrays["y"])), str(path))
