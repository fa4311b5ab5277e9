"""How many samples of which shape the data has, without reading it: headers, lines and names of files only."""

from __future__ import annotations

import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.config import DataConfig, TaskConfig
from cloud_trainer.data.anomaly import normal_class
from cloud_trainer.data.folders import find_files
from cloud_trainer.data.npz import NAMES, SAMPLES, truth
from shared.errors import DataError, MissingExtraError, UsageError, one_line

LOOK = 64 << 20  # bytes of a text file that are counted; the rest is reckoned from its size
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
PHOTO = (224, 224, 3)
TARGETS = ("y", "Y", "target")


class Facts(Struct, frozen=True):
    """``samples`` of ``shape``, as the sensor gives them, of ``sample_bytes`` each; ``outputs`` of an answer. ``how``
    it is known. ``normal``: how many of the samples are normal ones, where that matters and is known."""

    samples: int
    shape: tuple[int, ...]
    outputs: int
    sample_bytes: float
    how: str
    normal: int = 0


def look(task: TaskConfig) -> Facts:
    """At the data that ``task`` names.

    Raises:
        UsageError: there is no such file, or a ``python`` factory, which only training calls.
        DataError: it is not of the format that the task says.
    """
    config = task.data
    if config.format == "python":
        raise UsageError("data.format 'python': advise does not call the factory; give --samples")
    path = Path(config.path)
    if not config.path or not path.exists():
        raise UsageError(f"data.path: no such file or folder: {config.path or '(none given)'}; or give --samples")
    try:
        return LOOKS[config.format](path, task)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, wave.Error) as error:
        raise DataError(f"{path}: not readable as {config.format} ({one_line(error)})") from error


def _npz(path: Path, task: TaskConfig) -> Facts:
    data = task.data
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy"): name for name in archive.namelist()}
        if not names:
            raise DataError(f"{path}: no arrays in it")
        matrix = next((name for name in SAMPLES if name in names), "")
        with archive.open(names[matrix or next(iter(names))]) as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
    if not shape:
        raise DataError(f"{path}: {matrix or next(iter(names))} is one number; expected an array of samples")
    rows, sample = int(shape[0]), tuple(shape[1:])
    if not matrix:  # every array is a column
        return _rows(rows, len(names), path, task, exact=True)
    if task.kind == "forecasting" and len(sample) < 2:
        return _rows(rows, sample[0] if sample else 1, path, task, exact=True)
    if data.shape:
        sample = tuple(data.shape)
    target = next((name for name in (data.target, *TARGETS) if name in names), "")
    with np.load(path, allow_pickle=False) as arrays:
        y = arrays[target] if target else np.zeros(0)
        others = {name: arrays[name] for name in NAMES if name in names}
    outputs = _classes(y) if y.dtype.kind in "iubU" else (int(y.shape[-1]) if y.ndim > 1 else 1)
    if "lens" in names:
        size = data.window or 128
        rows, sample = max(1, rows // (data.step or size)), (size, *sample)
    elif task.kind == "audio-classification" and data.seconds and len(sample) == 1:
        sample = (int(data.seconds * (data.sample_rate or 16000)),)
    normal = 0
    if task.kind == "image-anomaly":
        found = truth(path, {data.target or "y": y, **others} if target else {}, data, classes=True)
        normal = int((found.y == found.labels.index(normal_class(found.labels, "", str(path)))).sum())
    of_one = dtype.itemsize * float(np.prod(sample))
    return Facts(rows, sample, outputs, of_one, f"counted in {path.name}", normal)


def _classes(y: NDArray[Any]) -> int:
    return max(2, len(np.unique(y)))


def _csv(path: Path, task: TaskConfig) -> Facts:
    lines, exact = _lines(path)
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline()
    separator = task.data.separator or max(",;\t", key=header.count)
    rows = lines if task.data.names else lines - 1
    return _rows(rows, header.count(separator) + 1, path, task, exact=exact)


def _parquet(path: Path, task: TaskConfig) -> Facts:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading Parquet", "parquet") from error
    try:
        metadata = parquet.read_metadata(path)
    except pa.ArrowException as error:
        raise DataError(f"{path}: not readable as parquet ({one_line(error)})") from error
    return _rows(metadata.num_rows, metadata.num_columns, path, task, exact=True)


def _rows(rows: int, columns: int, path: Path, task: TaskConfig, *, exact: bool) -> Facts:
    """Rows of a table as samples of the task's kind."""
    data = task.data
    if rows < 1:
        raise DataError(f"{path}: no rows under the header")
    named = {name for name in (data.target, data.group, *data.ignore) if name}
    features = len(data.columns) or max(1, columns - len(named))
    how = f"{'counted' if exact else 'reckoned from the size of'} {path.name}: {rows:,} rows, {columns} columns"
    if task.kind == "forecasting":
        samples = max(1, rows - data.history - data.horizon + 1)
        return Facts(samples, (data.history, features + 1), data.horizon, 4.0 * data.history * (features + 1), how)
    if task.kind == "series-classification":
        window = data.window or 128
        return Facts(max(1, rows // (data.step or window)), (window, features), 10, 4.0 * window * features, how)
    if task.kind == "text-classification":
        return Facts(rows, (), 10, path.stat().st_size / rows, how)
    if task.kind == "recommendation" and data.item:
        return Facts(rows, (data.history,), 1000, 8.0 * data.history, how)
    outputs = {"tabular-regression": 1, "recommendation": 1}.get(task.kind, 10)
    return Facts(rows, (features,), outputs, 4.0 * features, how)


def _jsonl(path: Path, task: TaskConfig) -> Facts:
    lines, exact = _lines(path)
    return _rows(lines, 8, path, task, exact=exact)


def _lines(path: Path) -> tuple[int, bool]:
    """Lines, and whether all were counted."""
    size, seen, lines, last = path.stat().st_size, 0, 0, b"\n"
    with path.open("rb") as file:
        while seen < LOOK and (block := file.read(1 << 20)):
            seen, lines, last = seen + len(block), lines + block.count(b"\n"), block[-1:]
    if seen < size:
        return round(lines * size / seen), False
    return lines + (last != b"\n"), True


def _images(path: Path, task: TaskConfig) -> Facts:
    files = find_files(path, task.data, PICTURES, "images")
    shape, how = _picture(files.paths[0], task.data)
    normal = 0
    if task.kind == "image-anomaly":
        normal = files.y.count(files.labels.index(normal_class(files.labels, task.data.target, str(path))))
    told = f"{len(files.paths):,} files counted in {path.name}; {how}"
    return Facts(len(files.paths), shape, max(2, len(files.labels)), float(np.prod(shape)), told, normal)


def _picture(first: Path, config: DataConfig) -> tuple[tuple[int, ...], str]:
    if config.image_size:
        height, width = (*config.image_size, *config.image_size)[:2]
        return (height, width, 3), "size by data.image_size"
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError:
        return PHOTO, "size assumed (Pillow is not installed)"
    try:
        with Image.open(first) as image:
            return (image.height, image.width, len(image.getbands())), f"size of {first.name}"
    except UnidentifiedImageError as error:
        raise DataError(f"{first}: not an image") from error


def _sounds(path: Path, task: TaskConfig) -> Facts:
    files = find_files(path, task.data, {".wav"}, "WAV files")
    first = files.paths[0]
    with wave.open(str(first)) as file:
        seconds = task.data.seconds or file.getnframes() / file.getframerate()
        size = int(seconds * (task.data.sample_rate or file.getframerate()))
    told = f"{len(files.paths):,} files counted in {path.name}; length of {first.name}"
    return Facts(len(files.paths), (size,), max(2, len(files.labels)), 2.0 * size, told)


LOOKS = {
    "npz": _npz, "csv": _csv, "parquet": _parquet, "jsonl": _jsonl, "image-folder": _images, "audio-folder": _sounds,
}  # fmt: skip
