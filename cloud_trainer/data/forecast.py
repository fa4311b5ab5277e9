"""Series cut into what is seen and what is foretold. Pure.

Channel 0 is the target's past, then the other columns of numbers, then the time (seconds), if there is one. Windows
never cross from one group (a shop, a meter) to another. A window whose foretold values are not all known is left out;
unknown values of the past stay missing (NaN).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cloud_trainer.config import TaskConfig
from cloud_trainer.data.dataset import Dataset
from cloud_trainer.data.findings import Finding
from cloud_trainer.data.loaded import MAX_BYTES, Loaded
from cloud_trainer.data.npz import Arrays, load_samples
from cloud_trainer.data.rows import feature_names, row_groups, row_times
from cloud_trainer.data.table import Table, typed
from cloud_trainer.data.target import as_numbers
from shared.errors import DataError


def load_npz_windows(path: Path, arrays: Arrays, task: TaskConfig) -> Loaded:
    """Windows that are cut already: ``x`` (n, history, channels) or (n, history), ``y`` (n, horizon) or (n,).

    Raises:
        DataError: the arrays do not fit each other.
    """
    loaded = load_samples(path, arrays, task)
    data = loaded.data
    x = data.x[:, :, None] if data.x.ndim == 2 else data.x
    y = data.y[:, None] if data.y.ndim == 1 else data.y
    if x.ndim != 3:
        raise DataError(f"{path}: x has shape {data.x.shape}; expected (n, history, channels) for a forecast")
    times = np.arange(len(y), dtype=np.float64) if data.times is None else data.times
    start = np.arange(len(y), dtype=np.float64) if data.times is None else times
    spans = np.stack([start, start + (x.shape[1] + y.shape[1] - 1 if data.times is None else 0)], axis=1)
    return Loaded(Dataset(x, y, (), (), data.groups, times, data.rate), loaded.findings, spans)


def load_table_forecast(table: Table, task: TaskConfig) -> Loaded:
    """Windows of a table's rows, in the order of its time column, else as they stand.

    Raises:
        DataError: a column is missing, or there are too few rows for a window.
    """
    config = task.data
    names = [name for name in feature_names_of_series(table, task) if name != config.time]
    findings = list(table.findings)
    target = as_numbers(table, config.target)
    findings += target.findings
    past = np.full(len(table), np.nan)
    past[target.rows] = target.y
    columns = []
    for name in names:
        column = typed(table, name, word=name in config.categorical)
        if column.numeric:
            columns.append(column)
            findings += column.findings
        else:
            text = f"column {name!r} holds words: left out of the channels"
            findings.append(Finding("unused column", "warning", text, name))
    times = row_times(table, config.time) if config.time else None
    groups = row_groups(table, config.group)
    key = np.zeros(len(table), np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    moments = np.arange(len(table), dtype=np.float64) if times is None else times
    order = np.lexsort((moments, key))
    if times is not None:
        findings += _about_times(times[order], key[order], config.time)
    values = [past, *(column.values for column in columns), *([] if times is None else [times])]
    series = np.stack(values, axis=1)[order]
    series = series if times is not None else series.astype(np.float32)
    channels = (config.target, *(column.name for column in columns), *([] if times is None else [config.time]))
    moments, key = moments[order], key[order]
    starts = window_starts(key, config.history + config.horizon, config.step or 1)
    whole = len(starts)
    index = starts[:, None] + np.arange(config.history, config.history + config.horizon)
    known = np.isfinite(series[index, 0]).all(axis=1) if whole else np.zeros(0, bool)
    starts, index = starts[known], index[known]
    if not len(starts):
        raise DataError(
            f"{table.path}: {len(table)} rows are too few for a window of {config.history} seen and {config.horizon} "
            "foretold; set data.history or data.horizon to less"
        )
    if len(starts) * config.history * series[0].nbytes > MAX_BYTES:
        raise DataError(
            f"{table.path}: {len(starts)} windows of {config.history} rows are more than fit in memory; "
            "set data.step to more or data.history to less"
        )
    if len(starts) < whole:
        text = f"{whole - len(starts)} windows have no known target to foretell: left out"
        findings.append(Finding("labels missing", "warning", text, config.target))
    x = np.moveaxis(sliding_window_view(series, config.history, axis=0)[starts], -1, 1)
    y = series[index, 0].astype(np.float32)
    span = np.stack([starts, starts + config.history + config.horizon - 1], axis=1)
    if groups is not None:  # several series: what happens at the same time belongs to the same part
        span = _ranks(moments, key)[span]
    data = Dataset(
        np.ascontiguousarray(x),
        y,
        (),
        channels,
        None if groups is None else groups[order][starts],
        moments[index[:, 0]],
    )
    return Loaded(data, tuple(findings), span.astype(np.float64))


def feature_names_of_series(table: Table, task: TaskConfig) -> list[str]:
    """Channels beside the target: there may be none.

    Raises:
        DataError: a column that is asked for is missing.
    """
    config = task.data
    table.required("target", config.target)
    others = {config.target, config.group, config.time, *config.ignore}
    if not [name for name in config.columns or table.columns if name not in others]:
        for key in ("group", "time"):
            if getattr(config, key):
                table.cells(key, getattr(config, key))
        return []
    return feature_names(table, task)


def window_starts(key: NDArray[np.int64], size: int, step: int) -> NDArray[np.intp]:
    """Where windows of ``size`` rows begin that lie within one run of ``key`` (n,).

    >>> window_starts(np.array([0, 0, 0, 1, 1]), 2, 1).tolist()
    [0, 1, 3]
    """
    edges = [0, *(np.flatnonzero(np.diff(key)) + 1).tolist(), len(key)]
    runs = [np.arange(start, stop - size + 1, step) for start, stop in pairwise(edges)]
    return np.concatenate(runs).astype(np.intp)


def _ranks(moments: NDArray[np.float64], key: NDArray[np.int64]) -> NDArray[Any]:
    """Each row's place in time over all series; without times, its place in its own."""
    if np.array_equal(moments, np.sort(moments)):
        firsts = np.searchsorted(key, key)
        return np.arange(len(key)) - firsts
    return np.unique(moments, return_inverse=True)[1].reshape(-1)


def _about_times(times: NDArray[np.float64], key: NDArray[np.int64], name: str) -> list[Finding]:
    steps = np.diff(times)[np.diff(key) == 0]
    if not len(steps):
        return []
    found = []
    same = int((steps == 0).sum())
    if same:
        text = f"{same} of {len(times)} rows have the time of the row before in {name!r}: they keep the file's order"
        found.append(Finding("times", "warning", text, name))
    moved = steps[steps > 0]
    if not same and len(moved):
        usual = float(np.median(moved))
        gaps = int((moved > 1.5 * usual).sum())
        if 0 < gaps <= 0.05 * len(moved):  # more are no gaps: months and working days are not evenly spaced either
            text = f"{gaps} gaps in {name!r}: steps longer than the usual {usual:g}; windows run over them"
            found.append(Finding("times", "warning", text, name))
    return found
