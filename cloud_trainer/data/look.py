"""A look at data that nobody has described yet: which format, which kind of task, which column is what. Guesses, for
``cloud-trainer init --data``; a person reads them before anything is trained."""

from __future__ import annotations

import csv
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from cloud_trainer.config import DataConfig
from cloud_trainer.data import audio_folder
from cloud_trainer.data.anomaly import NORMAL
from cloud_trainer.data.folders import PARTS, walk
from cloud_trainer.data.loading import read_table
from cloud_trainer.data.npz import LENGTHS, Arrays, as_table, is_table, read_arrays
from cloud_trainer.data.table import Table, is_missing, number_of, parse, words
from cloud_trainer.drift.opening import PARQUET
from cloud_trainer.drift.tables import separator_of
from cloud_trainer.drift.times import is_timestamp
from edge_agent.readers.images import SUFFIXES as IMAGES
from shared.errors import UsageError

TARGETS = (
    "target",
    "label",
    "class",
    "y",
    "category",
    "activity",
    "state",
    "relevance",
    "sales",
    "demand",
    "cnt",
    "value",
)
GROUPS = ("group", "user", "user_id", "machine", "machine_id", "patient", "patient_id", "speaker", "subject", "query")
ITEMS = ("item", "item_id", "product", "product_id", "movie", "movie_id")
USERS = ("user", "user_id", "customer", "customer_id", "session", "session_id")
TIMES = ("time", "timestamp", "date", "datetime", "day", "ts", "dteday")
ENDINGS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".npz": "npz"}
FEW = 20
"""Different values of a target that are still classes."""
WORDY = 4
"""Words in a cell, on average, from which a column is a text."""
FILES_MOST = 2000
HEADER_ROWS = 200


class Look(Struct, frozen=True):
    """What was guessed: ``data`` are keys of ``[data]``; ``kind`` of the task, "" if it cannot be told; ``notes`` for
    the person who asked."""

    data: dict[str, Any]
    kind: str = ""
    notes: tuple[str, ...] = ()


def look(path: Path, kind: str = "") -> Look:
    """Guess what ``path`` holds, for a task of ``kind`` (empty: guess that, too).

    Raises:
        UsageError: there is nothing, or nothing that is read.
        DataError: it is damaged.
    """
    if path.is_dir():
        return _folder(path, kind)
    if not path.exists():
        raise UsageError(f"{path}: no such file or directory")
    ending = path.suffix.lower()
    format_ = "parquet" if ending in PARQUET else ENDINGS.get(ending)
    if format_ is None:
        raise UsageError(f"{path}: expected a directory, or a file that ends in {', '.join(ENDINGS)} or .parquet")
    if format_ == "npz":
        arrays = read_arrays(path)
        if not is_table(arrays):
            return _arrays(arrays, kind)
        return _table(as_table(path, arrays), kind, {"format": "npz"})
    data: dict[str, Any] = {"format": format_}
    if format_ == "csv" and (names := _names_of_headless(path)):
        data["names"] = names
    config = msgspec.convert(data, DataConfig, strict=False)
    return _table(read_table(path, config), kind, data)


def _folder(path: Path, kind: str) -> Look:
    files = list(islice(walk(path), FILES_MOST))
    counts = Counter(
        "image" if file.suffix.lower() in IMAGES else "audio" if file.suffix.lower() in audio_folder.SUFFIXES else ""
        for file in files
    )
    what = max(("image", "audio"), key=lambda name: counts[name])
    if not counts[what]:
        raise UsageError(f"{path}: no images and no WAV files in its folders")
    data: dict[str, Any] = {"format": f"{what}-folder"}
    of_kind = [
        file
        for file in files
        if file.parent != path  # those beside the classes are not read
        and (file.suffix.lower() in (audio_folder.SUFFIXES if what == "audio" else IMAGES))
    ]
    if not of_kind:
        raise UsageError(f"{path}: its files lie beside each other; expected a folder for each class, with them inside")
    prefixes = Counter(file.stem.partition("_")[0] for file in of_kind if "_" in file.stem)
    if what == "audio" and prefixes.total() == len(of_kind) and 4 <= len(prefixes) < len(of_kind):
        data["group"] = "prefix"
    classes = sorted({_class_of(file, path) for file in of_kind})
    normal = next((name for name in NORMAL for label in classes if label.lower() == name), "")
    if what == "image" and (kind == "image-anomaly" or (not kind and normal)):
        kind = "image-anomaly"
        if normal:
            data["target"] = next(label for label in classes if label.lower() == normal)
    notes = (
        f"{len(of_kind)}{'+' * (len(files) == FILES_MOST)} files in {len(classes)} classes: {', '.join(classes[:8])}",
    )
    return Look(data, kind or f"{what}-classification", notes)


def _class_of(file: Path, root: Path) -> str:
    parts = file.relative_to(root).parts
    return parts[1] if parts[0].lower() in PARTS and len(parts) > 2 else parts[0]


def _arrays(arrays: Arrays, kind: str) -> Look:
    data: dict[str, Any] = {"format": "npz"} | ({"target": "y"} if "y" in arrays else {})
    x = next((arrays[name] for name in ("x", "X", "data") if name in arrays), None)
    if group := next((name for name in GROUPS if name in arrays), ""):
        data["group"] = group
    notes = (f"arrays: {', '.join(f'{name} {array.dtype} {array.shape}' for name, array in arrays.items())}",)
    if kind or x is None:
        return Look(data, kind, notes)
    y = arrays.get("y")
    if LENGTHS in arrays:
        kind = "series-classification"
    elif x.dtype == np.uint8 and x.ndim in {3, 4}:
        kind = "image-classification"
    elif x.ndim == 2 and x.dtype == np.int16:
        kind = "audio-classification"
    elif x.ndim == 3:
        kind = "series-classification"
    elif x.ndim == 2:
        numbers = y is not None and y.dtype.kind == "f"
        kind = "tabular-regression" if numbers else "tabular-classification"
    return Look(data, kind, notes)


def _table(table: Table, kind: str, data: dict[str, Any]) -> Look:
    names = list(table.columns)
    lower = {name.lower(): name for name in names}
    notes = [f"{len(table)} rows of {len(names)} columns: {', '.join(names[:12])}"]
    time = (
        _first(lower, TIMES)
        if _is_time(table, _first(lower, TIMES))
        else next((n for n in names if _is_time(table, n)), "")
    )
    item, user = _first(lower, ITEMS), _first(lower, USERS)
    text = next((name for name in names if _is_text(table, name)), "")
    target = _first(lower, TARGETS)
    if not target and text:
        target = min((n for n in names if n != text), key=lambda n: _different(table, n), default="")
    if not target:
        target = next((name for name in reversed(names) if name not in {time, text, user, item}), "")
    if not kind:
        kind = _kind_of(table, target, text, item, user)
    if kind == "recommendation" and item and user:
        data |= {"item": item, "user": user}
    else:
        data["target"] = target
        notes.append(f"target is taken to be {target!r}")
    if kind == "text-classification" and text:
        data["text"] = text
    group = _first({k: v for k, v in lower.items() if v not in {target, text}}, GROUPS)
    if group and "user" not in data and 4 <= _different(table, group) < len(table):
        data["group"] = group
    if time and time != target and kind != "text-classification":
        data["time"] = time
    return Look(data, kind, tuple(notes))


def _kind_of(table: Table, target: str, text: str, item: str, user: str) -> str:
    if item and user:
        return "recommendation"
    if text and target and text != target:
        return "text-classification"
    if target.lower() == "relevance":
        return "recommendation"
    parsed = parse(table.columns[target], comma=table.comma)
    numbers = parsed.share() < 0.01 and _different(table, target) > FEW
    return "tabular-regression" if numbers else "tabular-classification"


def _first(lower: dict[str, str], wanted: tuple[str, ...]) -> str:
    return next((lower[name] for name in wanted if name in lower), "")


def _different(table: Table, name: str) -> int:
    return len(set(words(table.columns[name]).tolist()))


def _is_time(table: Table, name: str) -> bool:
    if not name:
        return False
    cells = table.columns[name]
    if cells.dtype.kind == "M":
        return True
    if cells.dtype != object:
        return name.lower() in TIMES
    head = [cell for cell in cells[:50].tolist() if not is_missing(cell)]
    if bool(head) and all(is_timestamp(cell.strip()) for cell in head):
        return True
    return bool(head) and name.lower() in TIMES and all(number_of(cell, comma=False) is not None for cell in head)


def _is_text(table: Table, name: str) -> bool:
    cells = table.columns[name]
    if cells.dtype != object:
        return False
    head = [cell for cell in cells[:500].tolist() if cell]
    return bool(head) and float(np.mean([len(cell.split()) for cell in head])) >= WORDY


def _names_of_headless(path: Path) -> tuple[str, ...]:
    """Names for the columns of a file whose first line is a row like the others: one of its words is there again, in
    the same column, and none of its cells is unlike those below."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator = separator_of(file.readline())
            file.seek(0)
            tabbed = separator == "\t"  # quotes there are often just text
            reader = csv.reader(file, delimiter=separator, quoting=csv.QUOTE_NONE if tabbed else csv.QUOTE_MINIMAL)
            rows = list(islice(filter(None, reader), HEADER_ROWS))
    except (OSError, UnicodeDecodeError, csv.Error):
        return ()  # the reader says what is wrong
    if len(rows) < 3 or len({len(row) for row in rows}) != 1:
        return ()
    first, rest = rows[0], rows[1:]
    if all(number_of(cell, comma=False) is not None for cell in first):
        return ()  # no header, which the reader sees itself
    again = any(
        number_of(cell, comma=False) is None and cell.strip() and any(row[i] == cell for row in rest)
        for i, cell in enumerate(first)
    )
    if not again:
        return ()
    if len(first) == 2:
        lengths = [sum(len(row[i]) for row in rows) for i in (0, 1)]
        return ("label", "text") if lengths[0] < lengths[1] else ("text", "label")
    return tuple(f"c{i + 1}" for i in range(len(first)))
