"""CSV, TSV and their like, read whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cloud_trainer.config import DataConfig
from cloud_trainer.data.loaded import MAX_BYTES
from cloud_trainer.data.table import Table
from cloud_trainer.drift.opening import check_file
from cloud_trainer.drift.tables import CsvTable
from shared.errors import ConfigError, DataError


def read_csv(path: Path, config: DataConfig) -> Table:
    """Every row of the file; ``config.separator`` and ``config.names`` say what it does not say itself.

    Raises:
        UsageError: no such file, no text in UTF-8, or a row with more or fewer cells than the first.
        DataError: there are no rows, or more than fit in memory.
    """
    if len(config.separator) > 1:
        raise ConfigError(f"data.separator: expected one character, got {config.separator!r}")
    check_file(path)
    check_size(path)
    source = CsvTable(path, separator=config.separator, names=config.names)
    chunks = list(source.chunks(source.names))
    if not chunks:
        raise DataError(f"{path}: a header, but no rows")
    columns = {name: np.concatenate([chunk.columns[name] for chunk in chunks]) for name in source.names}
    lines = [line for chunk in chunks for line in chunk.lines]
    return Table(str(path), columns, lines, source.comma)


def check_size(path: Path) -> None:
    """Raise ``DataError`` for a file that is too large to be read at once."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(
            f"{path}: {size >> 20} MiB; at most {MAX_BYTES >> 20} MiB are read at once: "
            'take a part of it, or read it in a factory (format = "python")'
        )
