"""Rows of a table as samples: of columns, and of text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.config import TaskConfig
from cloud_trainer.data.dataset import Dataset
from cloud_trainer.data.findings import Finding
from cloud_trainer.data.loaded import Loaded
from cloud_trainer.data.table import Column, Table, as_words, listed, typed, words
from cloud_trainer.data.target import as_classes, as_numbers
from cloud_trainer.drift.times import read_times
from shared.errors import DataError

TEXT = "text"


def load_table(table: Table, task: TaskConfig) -> Loaded:
    """Rows for the tabular kinds and for ranking: ``x`` (n, c) float32 where every column is numbers (float64 where the
    time is one of them), else str objects; ``y`` as the kind wants it.

    Raises:
        DataError: a column that is asked for is missing, or nothing is left.
    """
    config = task.data
    names = feature_names(table, task)
    target = (
        as_classes(table, config.target) if task.kind == "tabular-classification" else as_numbers(table, config.target)
    )
    table = table.take(target.rows)
    columns = [typed(table, name, word=name in config.categorical) for name in names if name != config.time]
    findings = [*table.findings, *target.findings, *(finding for column in columns for finding in column.findings)]
    times = row_times(table, config.time) if config.time else None
    wordy = not all(column.numeric for column in columns)
    if times is not None and config.time in names:
        moment = Column(config.time, words(table.columns[config.time]) if wordy else times)
        columns.insert(names.index(config.time), moment)
    x: NDArray[Any]
    if wordy:
        x = np.stack([as_words(table, column) for column in columns], axis=1)
    else:
        x = np.stack([column.values for column in columns], axis=1)
        with np.errstate(over="ignore"):
            x = x if times is not None and config.time in names else x.astype(np.float32)
    groups = row_groups(table, config.group)
    data = Dataset(x, target.y, target.labels, tuple(names), groups, times)
    return Loaded(data, tuple(findings))


def load_text(table: Table, task: TaskConfig) -> Loaded:
    """Texts and their classes: ``x`` (n,) str objects. Rows without a text are left out, which is a finding.

    Raises:
        DataError: a column that is asked for is missing, or nothing is left.
    """
    config = task.data
    target = as_classes(table, config.target)
    name = config.text or _text_column(table, config.target, (config.group, config.time, *config.ignore))
    cells = table.cells("text", name)
    texts = np.array([cell.strip() if isinstance(cell, str) else "" for cell in cells.tolist()], object)
    if cells.dtype != object:
        texts = words(cells)
    rows = target.rows[texts[target.rows] != ""]
    findings = [*table.findings, *target.findings]
    if not len(rows):
        raise DataError(f"{table.path}: column {name!r} is empty in every row; there is no text to learn from")
    if len(rows) < len(target.rows):
        empty = int(target.rows[texts[target.rows] == ""][0])
        text = f"{len(target.rows) - len(rows)} rows have no text in {name!r} (first: {table.place(empty)}): left out"
        findings.append(Finding("missing", "warning", text, name))
    y = target.y[np.isin(target.rows, rows)]
    left = table.take(rows)
    times = row_times(left, config.time) if config.time else None
    y, labels = _without_empty(y, target.labels)
    return Loaded(Dataset(texts[rows], y, labels, (), row_groups(left, config.group), times), tuple(findings))


def feature_names(table: Table, task: TaskConfig) -> list[str]:
    """The columns that are features: those that ``data.columns`` names, else all that have no other purpose.

    Raises:
        DataError: no such column, or none is left.
    """
    config = task.data
    table.required("target", config.target)
    for key in ("group", "time"):
        if getattr(config, key):
            table.cells(key, getattr(config, key))
    for key in ("columns", "ignore", "categorical"):
        for name in getattr(config, key):
            table.cells(key, name)
    if config.target in config.columns:
        raise DataError(f"data.columns: {config.target!r} is the target; it cannot be a feature, too")
    other = {config.target, config.group, *config.ignore}
    names = [name for name in config.columns or table.columns if name not in other]
    if not [name for name in names if name != config.time]:
        raise DataError(f"{table.path}: no column is left to learn from; there are {listed(table.columns)}")
    return names


def row_groups(table: Table, name: str) -> NDArray[np.str_] | None:
    """The column of groups as texts (n,), ``None`` without a ``name``.

    Raises:
        DataError: there is no such column, or a row has no group.
    """
    if not name:
        return None
    found = words(table.cells("group", name))
    if (found == "").any():
        row = int(np.argmax(found == ""))
        raise DataError(
            f"{table.place(row)}: no group in column {name!r}; every row needs one (or leave data.group out)"
        )
    return found.astype(np.str_)


def row_times(table: Table, name: str) -> NDArray[np.float64]:
    """The column of times (n,) float64: seconds since 1970 where it holds dates, else its numbers.

    Raises:
        UsageError: a row has none.
    """
    return read_times(table.cells("time", name), name, table.place)[0]


def _text_column(table: Table, target: str, others: Sequence[str]) -> str:
    names = [name for name in table.columns if name != target and name not in others]
    if TEXT in names:
        return TEXT
    if len(names) != 1:
        raise DataError(f"{table.path}: data.text is missing: which column is the text? There are {listed(names)}")
    return names[0]


def _without_empty(y: NDArray[np.int64], labels: tuple[str, ...]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Classes again, where leaving rows out may have emptied one."""
    there = np.unique(y)
    return np.searchsorted(there, y).astype(np.int64), tuple(labels[i] for i in there)
