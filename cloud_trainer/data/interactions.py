"""Who took what, and when: histories and the next item. Pure.

Ranking of candidates (rows of features and their relevance, without ``data.item``): :mod:`cloud_trainer.data.rows`.
"""

from __future__ import annotations

import numpy as np

from cloud_trainer.config import TaskConfig
from cloud_trainer.data.dataset import Dataset
from cloud_trainer.data.findings import Finding
from cloud_trainer.data.loaded import MAX_BYTES, Loaded
from cloud_trainer.data.rows import row_times
from cloud_trainer.data.table import Table, words
from cloud_trainer.data.target import ordered
from shared.errors import DataError


def load_interactions(table: Table, task: TaskConfig) -> Loaded:
    """For every item but a user's first: ``x`` (n, history) str ids of what came before it, oldest first, "" in front;
    ``y`` its class; groups are users. Samples are in the order of time (of rows, without a time column).

    Raises:
        DataError: a column is missing, or no user has two items.
    """
    config = task.data
    item, user = words(table.cells("item", config.item)), words(table.required("user", config.user))
    findings = list(table.findings)
    there = (item != "") & (user != "")
    if not there.all():
        row = int(np.argmin(there))
        text = f"{int((~there).sum())} rows have no user or no item (first: {table.place(row)}): left out"
        findings.append(Finding("missing", "warning", text, config.item if item[row] == "" else config.user))
    table, item, user = table.take(there), item[there], user[there]
    if not len(table):
        raise DataError(f"{table.path}: no row has a user and an item")
    times = row_times(table, config.time) if config.time else np.arange(len(table), dtype=np.float64)
    labels = ordered(set(item.tolist()))
    if len(labels) < 2:
        raise DataError(f"{table.path}: one item only ({labels[0]!r}); there is nothing to recommend")
    code = {label: i for i, label in enumerate(labels)}
    users, key = np.unique(user.astype(np.str_), return_inverse=True)
    order = np.lexsort((times, key))
    key, times = key[order], times[order]
    items = np.array([code[name] for name in item[order]], np.int64)
    position = np.arange(len(key)) - np.searchsorted(key, key)
    chosen = np.flatnonzero(position > 0)
    if not len(chosen):
        raise DataError(f"{table.path}: no user has two items; there is no next item to learn from")
    if len(chosen) * config.history * 8 > MAX_BYTES:
        raise DataError(
            f"{table.path}: {len(chosen)} histories of {config.history} are too many; set data.history to less"
        )
    chosen = chosen[np.argsort(times[chosen], kind="stable")]
    back = np.arange(config.history, 0, -1)
    index = chosen[:, None] - back
    names = np.array([*labels, ""], object)
    x = names[np.where(back <= position[chosen][:, None], items[index], len(labels))]
    single = int(np.bincount(key).tolist().count(1))
    if single:
        text = f"{single} of {len(users)} users have one item only; nothing can be learned from them"
        findings.append(Finding("short", "warning", text, config.user))
    data = Dataset(x, items[chosen], labels, (), users[key[chosen]].astype(np.str_), times[chosen])
    return Loaded(data, tuple(findings))
