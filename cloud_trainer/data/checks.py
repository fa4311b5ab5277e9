"""What may be wrong with data that can be read: looked for before training, named in the report. Pure.

Every check is a function of the splits that gives findings; none changes anything. What figures on the test part
cannot be believed with is an "error" (leakage), everything else a "warning"; ``strict`` stops at either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.config import TaskConfig
from cloud_trainer.data.dataset import Dataset, Splits, join
from cloud_trainer.data.findings import Finding, some
from cloud_trainer.data.leaks import about_target, as_numbers
from cloud_trainer.data.same import keys
from cloud_trainer.data.sparse import missing_cells
from cloud_trainer.drift.times import is_timestamp

IMBALANCE = 10.0
"""The largest class is so many times the smallest: accuracy then says little."""
TINY = 10
"""Training samples of a class below which little can be learned of it."""
MISSING_SHARE = 0.3
"""A column that lacks more is named alone."""
OUTLIER = 20.0
"""Distances between the middle and the quartiles, beyond which a value is taken for a mistake."""
LEAKED_SHARE = 0.01
"""Of the test part, also in train: more is an error."""
NAMES_SHARE = 0.5
"""A column of words with more different words than this share of the rows names the rows."""


def check_data(task: TaskConfig, splits: Splits) -> tuple[Finding, ...]:
    """Everything to know about the data: what reading and splitting found, then the checks; errors first, one for each
    check and place.

    Example:
        >>> from cloud_trainer.config import DataConfig
        >>> task = TaskConfig("t", "tabular-regression", DataConfig("npz"))
        >>> x = np.stack([np.arange(100.0), np.ones(100)], axis=1)
        >>> part = Dataset(x, np.arange(100.0) % 7, columns=("a", "b"))
        >>> [f.text for f in check_data(task, Splits(part, part, part, part)) if f.check == "constant"]
        ["column 'b' is 1 in every row: it tells nothing"]
    """
    table = bool(splits.train.columns) and splits.train.x.ndim == 2
    every = join(list(splits.parts().values()))
    checks: list[Callable[[TaskConfig, Splits, Dataset], list[Finding]]] = [_leakage, _groups, _repeats, _classes]
    if table:
        checks += [_missing, _constant, _names, _outliers, about_target]
    elif every.x.dtype != object:
        checks += [_blank]
    found = [*splits.findings, *(finding for check in checks for finding in check(task, splits, every))]
    unique = {(finding.check, finding.where, finding.text): finding for finding in found}
    return tuple(sorted(unique.values(), key=lambda finding: finding.severity != "error"))


def _leakage(task: TaskConfig, splits: Splits, every: Dataset) -> list[Finding]:
    """Samples of the train part that are in others, too."""
    del every
    trained = set(keys(splits.train.x))
    findings = []
    for name, part in splits.parts().items():
        if name == "train" or task.kind == "forecasting":  # a flat line looks like another flat line
            continue
        shared = sum(key in trained for key in keys(part.x))
        if shared:
            share = shared / len(part)
            few = share > 0.5 and task.kind.startswith("tabular-")  # rows of few values
            natural = few or task.kind == "recommendation"  # or nothing seen yet
            severe = share > LEAKED_SHARE and name == "test" and not natural
            text = f"{shared} of {len(part)} samples of the {name} part ({share:.1%}) are in the train part, too"
            findings.append(Finding("leakage", "error" if severe else "warning", text, name))
    return findings


def _groups(task: TaskConfig, splits: Splits, every: Dataset) -> list[Finding]:
    """Groups that are on both sides of a split."""
    del every
    if splits.train.groups is None or (task.kind in {"forecasting", "recommendation"} and task.data.split != "group"):
        return []
    findings = []
    trained = set(splits.train.groups.tolist())
    for name, part in splits.parts().items():
        if name == "train" or part.groups is None:
            continue
        shared = sorted(trained & set(part.groups.tolist()))
        if shared and task.kind != "image-anomaly":
            text = f"{len(shared)} groups of the {name} part are in the train part, too ({some(shared, 3)})"
            findings.append(Finding("leakage", "error" if task.data.split == "auto" else "warning", text, name))
    return findings


def _repeats(task: TaskConfig, splits: Splits, every: Dataset) -> list[Finding]:
    """Samples that are there more than once, and those of them that contradict each other."""
    del splits
    if task.kind in {"forecasting", "recommendation"}:
        return []
    first: dict[bytes, int] = {}
    repeats, conflicts = 0, set[bytes]()
    for i, key in enumerate(keys(every.x)):
        before = first.setdefault(key, i)
        if before != i:
            repeats += 1
            if every.labels and every.y[before] != every.y[i]:
                conflicts.add(key)
    findings = []
    if repeats:
        text = f"{repeats} of {len(every)} samples ({repeats / len(every):.1%}) are exact repeats of others"
        findings.append(Finding("duplicates", "warning", text))
    if conflicts:
        at = first[min(conflicts, key=first.__getitem__)]
        shown = f" (one of them: {_shown(every.x[at])})" if every.x.dtype == object or every.columns else ""
        text = f"{len(conflicts)} different samples are there with more than one class{shown}"
        findings.append(Finding("label conflicts", "warning", text))
    return findings


def _shown(sample: Any) -> str:
    cells = [sample] if isinstance(sample, str) else list(sample)[:4]
    return repr(", ".join(f"{cell:g}" if not isinstance(cell, str) else cell for cell in cells)[:60])


def _classes(task: TaskConfig, splits: Splits, every: Dataset) -> list[Finding]:
    """Classes that are tiny, or far smaller than others."""
    if not every.labels or task.kind == "image-anomaly":
        return []
    trained = np.bincount(splits.train.y, minlength=len(every.labels))
    findings = []
    if task.kind == "recommendation":
        unseen = int((trained == 0).sum())
        if unseen:
            text = (
                f"{unseen} of {len(every.labels)} items are never taken in the train part; they cannot be recommended"
            )
            findings.append(Finding("tiny classes", "warning", text))
        return findings
    tiny = [f"{every.labels[i]} ({trained[i]})" for i in np.flatnonzero(trained < TINY)]
    if tiny:
        text = f"fewer than {TINY} training samples of {some(tiny)}: little can be learned of them"
        findings.append(Finding("tiny classes", "warning", text, every.labels[int(trained.argmin())]))
    counts = np.bincount(every.y, minlength=len(every.labels))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[least] and counts[most] >= IMBALANCE * counts[least]:
        text = (
            f"class {every.labels[most]!r} has {counts[most]} samples, {every.labels[least]!r} {counts[least]}: "
            "look at balanced accuracy, and think of training.class_weights"
        )
        findings.append(Finding("imbalance", "warning", text, every.labels[least]))
    return findings


def _missing(task: TaskConfig, splits: Splits, every: Dataset) -> list[Finding]:
    """Columns that lack values."""
    del task, splits
    lacking = missing_cells(every.x).sum(axis=0)
    findings, few = [], []
    for name, count in zip(every.columns, lacking.tolist(), strict=True):
        share = count / len(every)
        if share > MISSING_SHARE:
            text = f"column {name!r} has no value in {count} of {len(every)} rows ({share:.0%})"
            findings.append(Finding("missing", "warning", text, name))
        elif count:
            few.append(f"{name} {count}")
    if few:
        text = f"values are missing in {len(few)} of {len(every.columns)} columns: {some(few)}"
        findings.append(Finding("missing", "warning", text, few[0].rpartition(" ")[0]))
    return findings


def _constant(task: TaskConfig, splits: Splits, every: Dataset) -> list[Finding]:
    """Columns of the train part that are the same in every row."""
    del every
    part = splits.train
    findings = []
    there = ~missing_cells(part.x)
    for i, name in enumerate(part.columns):
        values = part.x[there[:, i], i]
        if not len(values):
            findings.append(Finding("constant", "warning", f"column {name!r} is empty in the train part", name))
        elif name != task.data.time and (values == values[0]).all() and there[:, i].all():
            shown = f"{values[0]!r}" if isinstance(values[0], str) else f"{values[0]:g}"
            findings.append(
                Finding("constant", "warning", f"column {name!r} is {shown} in every row: it tells nothing", name)
            )
    return findings


def _names(task: TaskConfig, splits: Splits, every: Dataset) -> list[Finding]:
    """Columns that number or name the rows, which a model can only learn by heart, and times that nobody named."""
    del splits
    findings = []
    for i, name in enumerate(every.columns):
        if name == task.data.time:
            continue
        values = as_numbers(every.x[:, i])
        if values is not None:
            if _counts_rows(values):
                text = f"column {name!r} counts the rows; name it in data.ignore"
                findings.append(Finding("names", "warning", text, name))
            continue
        words = set(every.x[:, i].tolist()) - {""}
        if all(map(is_timestamp, list(words)[:20])):
            text = f"column {name!r} holds times, taken as words; name it in data.time or data.ignore"
            findings.append(Finding("times", "warning", text, name))
        elif len(words) > max(20, NAMES_SHARE * len(every)):
            text = f"column {name!r} has {len(words)} different words in {len(every)} rows: a name, not a category?"
            findings.append(Finding("names", "warning", text, name))
    return findings


def _counts_rows(column: NDArray[Any]) -> bool:
    if np.isnan(column).any() or len(column) < 20:
        return False
    return bool((np.diff(np.sort(column)) == 1).all())


def _outliers(task: TaskConfig, splits: Splits, every: Dataset) -> list[Finding]:
    """Values far beyond all others of their column or of the target, like a sensor's -9999."""
    del splits
    findings = []
    columns = {f"column {name!r}": (name, as_numbers(every.x[:, i])) for i, name in enumerate(every.columns)}
    if not every.labels and every.y.ndim == 1:
        columns["the target"] = (task.data.target, every.y)
    for what, (name, values) in columns.items():
        if values is None or name == task.data.time:
            continue
        column = values[~np.isnan(values)].astype(np.float64)
        if len(column) < 20:
            continue
        low, middle, high = np.quantile(column, [0.25, 0.5, 0.75])
        spread = max(high - low, 1e-12)
        far = np.abs(column - middle) > OUTLIER * spread
        count = int(far.sum())
        if high > low and 0 < count <= 0.01 * len(column):
            worst = column[np.argmax(np.abs(column - middle))]
            text = f"{what}: {count} values are far off (like {worst:g}; half of all lie in {low:g} to {high:g})"
            findings.append(Finding("outliers", "warning", text, name))
    return findings


def _blank(task: TaskConfig, splits: Splits, every: Dataset) -> list[Finding]:
    """Samples that are one value throughout: black images, silence. Not of forecasts, where a flat line is a series."""
    del splits
    if task.kind == "forecasting":
        return []
    flat = every.x.reshape(len(every), -1)
    blank = int((flat == flat[:, :1]).all(axis=1).sum())
    if not blank or flat.shape[1] < 2:
        return []
    text = f"{blank} of {len(every)} samples have the same value throughout (black, silent, or a dead sensor)"
    return [Finding("blank", "warning", text)]
