"""Dictionaries of arrays as ``.npz`` files that are safe to read from strangers: bounded, no pickle."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.errors import ProfileError, one_line
from shared.files import write_atomic

Arrays = dict[str, NDArray[Any]]

MAX_BYTES = 256 << 20
"""Most bytes that the arrays of one file may take in memory; checked before anything is unpacked."""
MAX_ARRAYS = 65_536
NUMBERS = "biuf"
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, EOFError),
    *(ValueError, SyntaxError, TypeError, KeyError, NotImplementedError, OverflowError),
)
"""What a damaged file makes zipfile and numpy raise; numpy parses an array's header as Python."""


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of an ``.npz`` file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def numbers(values: ArrayLike) -> NDArray[np.float64]:
    """``values`` as float64.

    Raises:
        ValueError: they are something else: text, dates, complex numbers, rows of different lengths.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind in NUMBERS:
            return array.astype(np.float64, copy=False)
        if array.dtype.kind != "O":
            raise ValueError(f"values are {array.dtype.name}")
        return np.asarray(values, dtype=np.float64)
    except (TypeError, OverflowError) as error:
        raise ValueError(one_line(error)) from error


def save_arrays(path: Path | str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write ``arrays`` to ``path`` atomically.

    Raises:
        ProfileError: the file can't be written; nothing is left behind.
    """
    try:
        write_atomic(Path(path), pack(arrays))
    except OSError as error:
        raise ProfileError(f"{path}: cannot be written ({error.strerror})") from error


def unpack(data: bytes, *, max_bytes: int = MAX_BYTES) -> Arrays:
    """The arrays that :func:`pack` made ``data`` of.

    Raises:
        ProfileError: damaged, larger than ``max_bytes`` unpacked, or with Python objects.
    """
    return _read(io.BytesIO(data), "saved arrays", max_bytes)


def load_arrays(path: Path, *, max_bytes: int = MAX_BYTES) -> Arrays:
    """Read an ``.npz`` file.

    Raises:
        ProfileError: it is missing, damaged, larger than ``max_bytes`` unpacked, or holds Python objects.
    """
    return _read(path, path, max_bytes)


def _read(source: Path | io.BytesIO, path: Path | str, max_bytes: int) -> Arrays:
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
        if size > max_bytes or len(entries) > MAX_ARRAYS:
            raise ProfileError(
                f"{path}: {size} bytes in {len(entries)} arrays; at most {max_bytes} in {MAX_ARRAYS} are allowed"
            )
        with np.load(source, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except DAMAGED as error:
        raise ProfileError(f"{path}: not a drift profile, or damaged ({error})") from error


def take(arrays: Mapping[str, NDArray[Any]], name: str, kind: str, ndim: int = 1) -> NDArray[Any]:
    """Array ``name`` if it has the dtype kind ("f", "i", "U") and number of dimensions expected.

    Raises:
        ProfileError: it is missing or another one.
    """
    array = arrays.get(name)
    if array is None:
        raise ProfileError(f"drift profile: array {name!r} is missing")
    if array.dtype.kind != kind or array.ndim != ndim:
        raise ProfileError(
            f"drift profile: array {name!r} has dtype {array.dtype} and {array.ndim} dimensions; "
            f"expected kind {kind!r} and {ndim}"
        )
    return array
