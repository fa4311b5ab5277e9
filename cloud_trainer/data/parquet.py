"""Parquet files, through the drift tables' reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cloud_trainer.data.csv_file import check_size
from cloud_trainer.data.findings import Finding
from cloud_trainer.data.table import Table
from cloud_trainer.drift.columnar import ParquetTable
from cloud_trainer.drift.opening import check_file
from shared.errors import DataError


def read_parquet(path: Path) -> Table:
    """Every row; columns of lists and bytes are left out, which is a finding.

    Raises:
        UsageError: no such file, damaged, or the extra ``parquet`` is not installed.
        DataError: there are no rows, or more than fit in memory.
    """
    check_file(path)
    check_size(path)
    source = ParquetTable(path)
    chunks = list(source.chunks(source.names, 1 << 16)) if source.names else []
    if not chunks:
        raise DataError(f"{path}: no rows")
    columns = {name: np.concatenate([chunk.columns[name] for chunk in chunks]) for name in source.names}
    findings = tuple(
        Finding("unused column", "warning", f"column {name!r} is left out: {why}", name)
        for name, why in source.left_out.items()
    )
    return Table(str(path), columns, findings=findings)
