"""From a task to its splits: the reader of the format, the shape of the kind, the split that fits."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from cloud_trainer.config import DataConfig, TaskConfig
from cloud_trainer.data.csv_file import read_csv
from cloud_trainer.data.dataset import ALLOWED, NUMBERS, Splits, check, join
from cloud_trainer.data.factory import from_factory
from cloud_trainer.data.forecast import load_npz_windows, load_table_forecast
from cloud_trainer.data.interactions import load_interactions
from cloud_trainer.data.jsonl import read_jsonl
from cloud_trainer.data.loaded import Loaded
from cloud_trainer.data.npz import as_table, is_table, load_samples, read_arrays
from cloud_trainer.data.parquet import read_parquet
from cloud_trainer.data.rows import load_table, load_text
from cloud_trainer.data.sequences import load_npz_series, load_table_series
from cloud_trainer.data.sparse import without_sparse
from cloud_trainer.data.split import REFERENCE_MINIMUM, By, shares_of, split
from cloud_trainer.data.table import Table
from shared.errors import ConfigError, DataError

TABLES = {
    "tabular-classification": load_table,
    "tabular-regression": load_table,
    "series-classification": load_table_series,
    "forecasting": load_table_forecast,
    "text-classification": load_text,
}


def load_splits(task: TaskConfig) -> Splits:
    """The data that ``task`` names, split and checked; ``findings`` say what had to be repaired.

    Raises:
        UsageError: no such file, or it cannot be read.
        ConfigError: ``[data]`` lacks what its format needs.
        DataError: the data cannot be used.
    """
    config = task.data
    if config.format == "python":
        return from_factory(task)
    if not config.path:
        raise ConfigError(f"data.path: missing; format {config.format!r} needs the path of the data")
    loaded = load(task)
    anomaly = task.kind == "image-anomaly"
    if anomaly:
        from cloud_trainer.data.anomaly import only_normal, split_normal

        loaded = only_normal(loaded, config)
    _enough(len(loaded.data), config)
    loose = anomaly or task.kind == "recommendation"
    data = check(loaded.data, config.path, every_class=not loose or anomaly, allowed=ALLOWED.get(task.kind, NUMBERS))
    loaded = msgspec.structs.replace(loaded, data=data)
    if config.test_path:  # what would be the test part is a half of the reference
        half = config.reference_share / 2
        config = msgspec.structs.replace(config, reference_share=half, test_share=half)
    shares_of(config.reference_share, config.test_share)
    by = split_by(task, loaded)
    if anomaly:
        splits = split_normal(data, config, task.seed, by)
    else:
        try:
            splits = split(
                data,
                reference_share=config.reference_share,
                test_share=config.test_share,
                seed=task.seed,
                by=by,
                spans=loaded.spans,
                every_class=not loose,
            )
        except DataError as error:
            raise DataError(f"{config.path}: {error}") from error
    if config.test_path:
        splits = _tested_on(splits, task)
    if len(splits.reference) < REFERENCE_MINIMUM:
        raise DataError(_too_few(len(splits.reference), len(data), config))
    splits = msgspec.structs.replace(splits, findings=(*loaded.findings, *splits.findings))
    return without_sparse(splits, config.path)


def _tested_on(splits: Splits, task: TaskConfig) -> Splits:
    """The same, tested on the samples of ``data.test_path``; what would have been the test part goes to the reference.

    Raises:
        DataError: these are other samples, or have classes that there is nothing to learn from.
    """
    where = task.data.test_path
    loaded = load(msgspec.structs.replace(task, data=msgspec.structs.replace(task.data, path=where, test_path="")))
    if task.kind == "image-anomaly":
        from cloud_trainer.data.anomaly import only_normal

        loaded = only_normal(loaded, task.data)  # other faults than those of the train split are anomalies, too
        data = msgspec.structs.replace(loaded.data, labels=splits.train.labels)
        loaded = msgspec.structs.replace(loaded, data=data)
    found = check(loaded.data, where, every_class=False, allowed=ALLOWED.get(task.kind, NUMBERS))
    labels = splits.train.labels
    unknown = sorted({found.labels[int(k)] for k in np.unique(found.y)} - set(labels)) if labels else []
    if unknown:
        raise DataError(f"{where}: class {unknown[0]!r} is not in {task.data.path}; there are {', '.join(labels[:9])}")
    if found.columns != splits.train.columns or found.x.shape[1:] != splits.train.x.shape[1:]:
        raise DataError(
            f"{where}: samples are {found.x.dtype} {found.x.shape[1:]}, in {task.data.path} they are "
            f"{splits.train.x.dtype} {splits.train.x.shape[1:]}"
        )
    if labels:
        place = np.asarray([labels.index(label) if label in labels else 0 for label in found.labels])
        found = msgspec.structs.replace(found, y=place[found.y], labels=labels)
    spare = splits.test if task.kind != "image-anomaly" else splits.test.take(splits.test.y == 0)
    reference = join([splits.reference, spare])
    return msgspec.structs.replace(
        splits,
        reference=msgspec.structs.replace(reference, labels=labels),
        test=found,
        findings=(*splits.findings, *loaded.findings),
    )


def load(task: TaskConfig) -> Loaded:
    """All samples, not yet split.

    Raises:
        UsageError: no such file, or it cannot be read.
        DataError: the data cannot be used for this kind of task.
    """
    config, path = task.data, Path(task.data.path)
    if config.format == "image-folder":
        from cloud_trainer.data.image_folder import load_images

        return load_images(path, task)
    if config.format == "audio-folder":
        from cloud_trainer.data.audio_folder import load_sounds

        return load_sounds(path, task)
    if config.format == "npz":
        arrays = read_arrays(path)
        if not is_table(arrays):
            if task.kind == "series-classification":
                return load_npz_series(path, arrays, task)
            if task.kind == "forecasting":
                return load_npz_windows(path, arrays, task)
            return load_samples(path, arrays, task)
        if task.kind not in TABLES and task.kind != "recommendation":
            return load_samples(path, arrays, task)  # says which array is missing
        table = as_table(path, arrays)
    else:
        table = read_table(path, config)
    return from_table(table, task)


def read_table(path: Path, config: DataConfig) -> Table:
    """The rows of a csv, parquet or jsonl file.

    Raises:
        UsageError: no such file, or it is damaged.
        DataError: it is empty or too large.
    """
    if config.format == "csv":
        return read_csv(path, config)
    return read_parquet(path) if config.format == "parquet" else read_jsonl(path)


def from_table(table: Table, task: TaskConfig) -> Loaded:
    """Rows as the samples of the kind of task.

    Raises:
        ConfigError: this kind of samples does not come in rows.
        DataError: the rows cannot be used.
    """
    if task.kind == "recommendation":
        return load_interactions(table, task) if task.data.item else load_table(table, task)
    if task.kind not in TABLES:
        fitting = "image-folder" if task.kind.startswith("image") else "audio-folder"
        raise ConfigError(
            f"data.format: {task.data.format!r} does not hold samples of {task.kind}; use {fitting!r} or 'npz'"
        )
    return TABLES[task.kind](table, task)


def split_by(task: TaskConfig, loaded: Loaded) -> By:
    """How to split. "auto": histories of items by time, anything else by group where there are groups; forecasts, and
    rows with a time, by time; else at random.

    Raises:
        ConfigError: forecasts are asked to be split in another way.
    """
    asked, data = task.data.split, loaded.data
    if task.kind == "forecasting":
        if asked not in {"auto", "time"}:
            raise ConfigError(f"data.split: {asked!r} would let a forecast see the future; use 'time'")
        return "time"
    if asked != "auto":
        if asked == "group" and data.groups is None:
            raise ConfigError("data.split: 'group' needs data.group, the name of the column of groups")
        if asked == "time" and data.times is None:
            raise ConfigError("data.split: 'time' needs data.time, the name of the column of times")
        return asked
    if task.kind == "recommendation" and task.data.item:
        return "time"
    if data.groups is not None:
        return "group"
    return "random" if data.times is None else "time"


def _enough(count: int, config: DataConfig) -> None:
    if count < REFERENCE_MINIMUM * 2:
        raise DataError(
            f"{config.path}: {count} sample{'s' * (count != 1)}; at least {REFERENCE_MINIMUM * 2} are needed, "
            f"{REFERENCE_MINIMUM} of them for the drift reference"
        )


def _too_few(found: int, count: int, config: DataConfig) -> str:
    share = float(np.ceil(100 * 1.1 * config.reference_share * REFERENCE_MINIMUM / max(found, 1)) / 100)
    better = f"set data.reference_share to {share:.2f}, or bring" if share + config.test_share < 0.8 else "bring"
    need = int(np.ceil(count * REFERENCE_MINIMUM / max(found, 1)))
    return (
        f"{config.path}: the reference part has {found} of {count} samples; at least {REFERENCE_MINIMUM} are needed: "
        f"{better} about {need} samples"
    )
