"""Long recordings cut into windows, each a sample. Pure.

A *stretch* is a piece of a recording with one class, from one group. Windows never cross its ends. Where nobody says
which windows belong together (no groups), windows of one stretch do: they overlap, or are neighbours in time. A class
with fewer than four stretches has them cut into up to eight pieces first, so that each part of the split gets some, and
no two parts have a row in common.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cloud_trainer.config import DataConfig, TaskConfig
from cloud_trainer.data.dataset import Dataset
from cloud_trainer.data.findings import Finding, some
from cloud_trainer.data.loaded import MAX_BYTES, Loaded
from cloud_trainer.data.npz import LENGTHS, RATES, Arrays, along, load_samples, samples, truth
from cloud_trainer.data.rows import feature_names, row_groups, row_times
from cloud_trainer.data.table import Table, typed
from cloud_trainer.data.target import as_classes
from shared.errors import DataError

WINDOW = 128
PARTS = 4
PIECES = 8


class Stretch(Struct, frozen=True):
    """Rows ``start`` to ``stop`` of class ``y``; ``group``: what they belong to, "" if nobody says."""

    start: int
    stop: int
    y: int
    group: str = ""

    @property
    def rows(self) -> int:
        """How many."""
        return self.stop - self.start


def load_npz_series(path: Path, arrays: Arrays, task: TaskConfig) -> Loaded:
    """Windows (n, window, channels) as they are, or cut from ``x`` (rows, channels) by ``lens``, with ``y`` and groups
    for each stretch.

    Raises:
        DataError: the arrays do not fit each other.
    """
    if LENGTHS not in arrays:
        loaded = load_samples(path, arrays, task)
        if loaded.data.x.ndim != 3:
            raise DataError(
                f"{path}: x has shape {loaded.data.x.shape}; expected windows (n, window, channels), or rows "
                "(rows, channels) and an array 'lens' with the length of each stretch"
            )
        return loaded
    config = task.data
    x, lengths = samples(path, arrays, config), arrays[LENGTHS]
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 1).any() or lengths.sum() != len(x):
        raise DataError(f"{path}: lens must be positive whole numbers whose sum is the {len(x)} rows of x")
    found = truth(path, arrays, config, classes=True)
    whole = np.full(len(lengths), -1, np.int64)
    if len(arrays[config.target or "y"]) != len(lengths):
        raise DataError(f"{path}: {len(lengths)} stretches in lens, but {len(found.y)} classes; each stretch needs one")
    whole[found.rows] = found.y
    groups = along(path, arrays, "group", config.group, len(lengths))
    stops = np.cumsum(lengths)
    stretches = [
        Stretch(int(stop - length), int(stop), int(label), "" if groups is None else str(group))
        for stop, length, label, group in zip(stops, lengths, whole, lengths if groups is None else groups, strict=True)
        if label >= 0
    ]
    rate = next(
        (float(arrays[name]) for name in RATES if name in arrays and arrays[name].size == 1), config.sample_rate
    )
    x = x if x.ndim > 1 else x[:, None]
    return cut(x, stretches, found.labels, config, str(path), found.findings, float(rate))


def load_table_series(table: Table, task: TaskConfig) -> Loaded:
    """Windows cut from rows in the file's order (by time, if there is a time column), within each group and class.

    Raises:
        DataError: a column is missing or holds words, or no window is left.
    """
    config = task.data
    names = [name for name in feature_names(table, task) if name != config.time]
    target = as_classes(table, config.target)
    table = table.take(target.rows)
    order = np.arange(len(table))
    groups = row_groups(table, config.group)
    key = np.zeros(len(table), np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    if config.time:
        order = np.lexsort((row_times(table, config.time), key))
    elif groups is not None:
        order = np.argsort(key, kind="stable")
    columns = [typed(table, name) for name in names]
    wordy = [column.name for column in columns if not column.numeric]
    if wordy:
        raise DataError(
            f"{table.path}: column {wordy[0]!r} holds words; channels of a window are numbers: name it in data.ignore"
        )
    x = np.stack([column.values for column in columns], axis=1).astype(np.float32)[order]
    if np.isnan(x).any():
        x, gaps = bridged(x, names)
    else:
        gaps = ()
    y, key = target.y[order], key[order]
    ends = np.flatnonzero((np.diff(y) != 0) | (np.diff(key) != 0)) + 1
    edges = [0, *ends.tolist(), len(y)]
    stretches = [
        Stretch(start, stop, int(y[start]), "" if groups is None else str(groups[order[start]]))
        for start, stop in pairwise(edges)
    ]
    findings = (*table.findings, *target.findings, *(f for column in columns for f in column.findings), *gaps)
    return cut(x, stretches, target.labels, config, table.path, findings, float(config.sample_rate), tuple(names))


def bridged(x: NDArray[np.float32], names: list[str]) -> tuple[NDArray[np.float32], tuple[Finding, ...]]:
    """Missing values (rows, channels) filled with the last value before them, else the first after.

    Raises:
        DataError: a channel has no value at all.
    """
    found = x.copy()
    findings = []
    for channel, name in enumerate(names):
        missing = np.isnan(x[:, channel])
        if missing.all():
            raise DataError(f"column {name!r} is empty; name it in data.ignore")
        if missing.any():
            last = np.maximum.accumulate(np.where(missing, -1, np.arange(len(x))))
            found[:, channel] = x[np.where(last < 0, np.argmin(missing), last), channel]
            text = f"column {name!r}: {int(missing.sum())} missing values were filled with the last one before them"
            findings.append(Finding("missing", "warning", text, name))
    return found, tuple(findings)


def cut(
    x: NDArray[Any],
    stretches: list[Stretch],
    labels: tuple[str, ...],
    config: DataConfig,
    where: str,
    findings: tuple[Finding, ...] = (),
    rate: float = 0.0,
    columns: tuple[str, ...] = (),
) -> Loaded:
    """Windows of ``config.window`` rows (0: 128, or the median stretch where that is shorter), one every
    ``config.step`` (0: half a window) of ``x`` (rows, channels). Stretches shorter than a window are left out.

    Raises:
        DataError: a class has no window left.
    """
    median = int(np.median([stretch.rows for stretch in stretches]))
    window = config.window or max(2, min(WINDOW, median))
    step = config.step or max(1, window // 2)
    if not config.group:
        stretches = pieces(stretches, window)
    long = [stretch for stretch in stretches if stretch.rows >= window]
    lost = sorted({stretch.y for stretch in stretches} - {stretch.y for stretch in long})
    if lost:
        longest = max(stretch.rows for stretch in stretches if stretch.y == lost[0])
        raise DataError(
            f"{where}: class {labels[lost[0]]!r} has no stretch of {window} rows; its longest has {longest}: "
            "set data.window to less"
        )
    more = list(findings)
    if len(long) < len(stretches):
        count = len(stretches) - len(long)
        text = f"{count} of {len(stretches)} stretches are shorter than a window of {window} rows: left out"
        more.append(Finding("short", "warning", text, some([labels[s.y] for s in stretches if s.rows < window], 1)))
    count = sum((stretch.rows - window) // step + 1 for stretch in long)
    if count * window * x[0].nbytes > MAX_BYTES:
        raise DataError(f"{where}: {count} windows of {window} rows are more than fit in memory; set data.step to more")
    made = [sliding_window_view(x[s.start : s.stop], window, axis=0)[::step] for s in long]
    windows = np.ascontiguousarray(np.moveaxis(np.concatenate(made), -1, 1))
    counts = [len(part) for part in made]
    y = np.repeat([stretch.y for stretch in long], counts).astype(np.int64)
    groups = np.repeat([s.group or f"stretch {i}" for i, s in enumerate(long)], counts).astype(np.str_)
    return Loaded(Dataset(windows, y, labels, columns, groups, None, rate), tuple(more))


def pieces(stretches: list[Stretch], window: int) -> list[Stretch]:
    """Stretches of classes that have fewer than four, cut into up to eight pieces of at least a window."""
    counts = np.bincount([stretch.y for stretch in stretches])
    found = []
    for stretch in stretches:
        few = counts[stretch.y] < PARTS
        number = max(1, min(PIECES, stretch.rows // window)) if few else 1
        edges = np.linspace(stretch.start, stretch.stop, number + 1).astype(int).tolist()
        found += [Stretch(start, stop, stretch.y, stretch.group) for start, stop in pairwise(edges)]
    return found
